"""Code that the embedded PostgreSQL (`postgres.py`) and Valkey (`valkey.py`) share.

They are started from Python wheels, for development and the tests; production never imports them. Both are plain child
processes (`launcher.py` ends them when their parent dies) in one folder, DATA_DIR, which one process locks. The holder
of the lock may remove the leftovers of a killed predecessor.

    DATA_DIR/lock          locked while a process uses the folder; holds its process id
    DATA_DIR/postgres/     the cluster; created as postgres.new and renamed when complete
    DATA_DIR/valkey/       append-only file
    DATA_DIR/run/          Unix socket of PostgreSQL, mode 0700 (a short folder in /tmp where the path is too long)
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from devtools import processes
from devtools.processes import Account

# Free bytes needed to create a cluster: it takes about 40 MB, its WAL up to 64 MB at first.
DISK_SPACE_NEEDED = 200 * 2**20
ERROR_LINE = r"FATAL|PANIC|error:|invalid|No space left|[Ff]ailed|Can't"
LINE_PREFIX = r"^\d{4}-.*?\] [A-Z]+: +|^\d+:\w .*? [#*] "  # characters of a log line of PostgreSQL or Valkey
START_SECONDS = 60.0
STOP_SECONDS = 20.0


class EmbeddedError(Exception):
    """The embedded services cannot run; the message is one line for the user."""


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder for exclusive use. The kernel releases the lock when its holder ends, even by a crash."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("a+")
    except OSError as error:
        raise EmbeddedError(f"{folder} cannot be used: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise EmbeddedError(
                f"{folder} is in use by process {holder}: stop that process, or set DATA_DIR to another folder"
            ) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def require_disk_space(folder: Path, needed: int = DISK_SPACE_NEEDED) -> None:
    """Raises `EmbeddedError` when fewer than `needed` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EmbeddedError(f"{folder}: only {free // 2**20} MB free on this disk, {needed // 2**20} MB are needed")


def package_file(package: str, pattern: str) -> Path:
    """A program inside an installed wheel, found without importing the package."""
    spec = importlib.util.find_spec(package)
    found = sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []
    if not found:
        raise EmbeddedError(f"{package} is not installed: pip install '.[embedded]', or set DATABASE_URL and REDIS_URL")
    return found[0]


class Service:
    """An embedded server: starts it, stops it, and reports from its log why it failed."""

    name = "service"
    stop_signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; returns when it answers."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _spawn(self, program: list[str], account: Account | None = None, stdin: IO[bytes] | None = None) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                processes.child_command(program, orphan_signal=self.stop_signals[0], account=account),
                stdin=stdin or subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach only us; we stop the servers last
                cwd="/",
            )

    def _wait_for_start(self, ready: Callable[[], bool]) -> None:
        """Wait until the server is ready. Raises `EmbeddedError` when it ends first or START_SECONDS have passed."""
        if not processes.wait_until(lambda: not self.running or ready(), START_SECONDS) or not self.running:
            self.stop()
            raise EmbeddedError(f"{self.name} did not start: {self.failure_reason()}")

    def failure_reason(self) -> str:
        """The log line that explains the failure, and the path of the log."""
        try:
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError as error:
            return f"{self.log} cannot be read: {error.strerror}"
        errors = [line for line in lines if re.search(ERROR_LINE, line)]
        line = (errors or lines or ["its log is empty"])[0]
        return f"{re.sub(LINE_PREFIX, '', line)} (see {self.log})"

    def stop(self) -> None:
        """Stop the server with each of `stop_signals` in order; does nothing when it is not running."""
        process, self.process = self.process, None
        if process is None:
            return
        for signum in self.stop_signals:
            if process.poll() is None:
                process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return

    def kill(self) -> None:
        """End the server like a power cut, for tests of crash recovery."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
