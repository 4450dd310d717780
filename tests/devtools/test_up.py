"""`manage.py up`, in real runs: started, refused beside another run, killed and stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devtools import processes
from devtools.management.commands import up

pytestmark = pytest.mark.services
PROJECT = Path(processes.__file__).resolve().parent.parent
OURS = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEMO_PASSWORD", "DATA_DIR", "PORT")
TIMEOUT = 120.0
UP = (sys.executable, "manage.py", "up")


class Run:
    """One run of `manage.py up` and its output. `program`: the command line that runs it, such as make."""

    def __init__(self, folder: Path, port: int, program: tuple[str, ...] = UP, **env: str) -> None:
        self.log = folder.with_name(f"{folder.name}-{port}.log")
        self.port = port
        clean = {name: value for name, value in os.environ.items() if name not in OURS}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                program,
                cwd=PROJECT,
                start_new_session=True,
                env=clean | {"DATA_DIR": str(folder), "PORT": str(port), "DEBUG": "1"} | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str) -> None:
        processes.wait_until(lambda: words in self.output or self.process.poll() is not None, TIMEOUT)
        assert words in self.output

    def wait_for_all(self) -> None:
        """Waits for relay and worker too, which start after the pages."""
        self.wait_for("running counters, notifications, relay")
        self.wait_for(" ready.")  # the worker

    def exit_code(self) -> int:
        return self.process.wait(TIMEOUT)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A DATA_DIR; afterwards processes that a failed test left running there are killed."""
    yield tmp_path / "data"
    for pid in processes_of(tmp_path):
        os.kill(pid, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    """Returns every process that was started with this DATA_DIR or has it in its command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            content = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in content and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def readyz(port: int) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
        return dict(json.load(answer))


def test_run_starts_in_an_empty_folder_survives_sigkill_and_stops_completely(folder: Path) -> None:
    """One long test, because each start takes seconds."""
    port = processes.free_port()
    first = Run(folder, port)
    first.wait_for("Ctrl-C stops everything")
    checks = readyz(port)["checks"]
    assert isinstance(checks, dict)
    found = {name: checks[name] for name in ("database", "valkey", "log", "views", "seals")}
    assert set(found.values()) == {"ok"}, "worker and beat start after the pages"
    password = (folder / "demo-password").read_text().strip()
    assert f"sign in as admin, manager, agent, viewer, dpo; password: {password}" in first.output
    for name in ("demo-password", "secret-key", "services.env"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600

    # Another command of the same project finds the services.
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    command = [sys.executable, "manage.py", "migrate", "--check"]
    subprocess.run(command, cwd=PROJECT, env=clean | {"DATA_DIR": str(folder)}, check=True)

    # A second run names the first and leaves it running.
    second = Run(folder, processes.free_port())
    assert second.exit_code() == 1
    assert f"in use by process {first.process.pid}" in second.output
    assert len(second.output.splitlines()) == 1

    # SIGKILL; the next run starts at once on the same data and port, while processes of the first are still ending.
    first.wait_for_all()
    with psycopg.connect(services(folder)["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept ()")
    first.process.kill()
    first.exit_code()
    makefile = folder.with_name("Makefile")
    makefile.write_text(f"run:\n\t@{' '.join(UP)}\n")
    through_make = shutil.which("make") is not None
    following = Run(folder, port, ("make", "-s", "-f", str(makefile), "run") if through_make else UP)
    following.wait_for("Ctrl-C stops everything")
    following.wait_for_all()
    with psycopg.connect(services(folder)["DATABASE_URL"]) as connection:
        connection.execute("SELECT FROM kept")
    assert f"password: {password}" in following.output

    # To the whole process group, as a terminal or an init system does. It arrives twice, because make forwards it.
    os.killpg(following.process.pid, signal.SIGTERM)
    assert (following.exit_code() == 0) is not through_make  # make itself ends by the signal
    assert following.output.rstrip().endswith("stopped")
    assert "killed" not in following.output
    assert "Traceback" not in following.output
    assert processes_of(folder) == []
    assert not (folder / "services.env").exists()
    assert not (folder / "children").exists()


def test_next_run_ends_a_child_that_a_killed_run_left(
    settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process id alone is not enough: another process may have it by now."""
    folder.mkdir()
    settings.DATA_DIR = folder
    monkeypatch.setattr(up, "LEFTOVER_SECONDS", 0.1)
    stubborn = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()",
    ]
    ours, other = (subprocess.Popen(stubborn, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2))
    with ours, other:
        for one in (ours, other):
            assert one.stdout is not None
            one.stdout.readline()
        program = " ".join(stubborn)
        (folder / "children").write_text(f"{ours.pid} {program}\n{other.pid} celery worker\n{2**22 + 1} {program}\n")
        run = up.Up("127.0.0.1", processes.free_port(), demo=False)
        ending = threading.Thread(target=ours.wait)  # reaps it, as the first process of the system does
        ending.start()
        run.end_leftovers()
        ending.join()
        assert ours.returncode == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
    assert not (folder / "children").exists()


def services(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "services.env").read_text().splitlines())


def test_port_in_use_ends_the_run_with_one_line_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = Run(folder, taken.getsockname()[1])
        assert run.exit_code() == 1
    assert "is in use: stop what uses it, or set PORT" in run.output
    assert len(run.output.splitlines()) == 1
    assert not (folder / "postgres").exists()


def test_run_with_both_addresses_set_starts_no_embedded_service(settings: Any, folder: Path) -> None:
    """The suite itself runs with both addresses set."""
    folder.mkdir()
    settings.DATA_DIR = folder
    run = up.Up("127.0.0.1", processes.free_port(), demo=False)
    run.start_services()
    assert run.services == []
    assert run.env["DATABASE_URL"] == os.environ["DATABASE_URL"]
    assert run.env["REDIS_URL"] == os.environ["REDIS_URL"]


def test_run_ignores_the_addresses_that_a_killed_run_left(
    settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """settings.py copies them into the environment, where they look like addresses of the user."""
    folder.mkdir()
    settings.DATA_DIR = folder
    monkeypatch.setenv("DATABASE_URL", "postgresql://stale")
    monkeypatch.setenv("REDIS_URL", "redis://my-own")
    (folder / "services.env").write_text("DATABASE_URL=postgresql://stale\nREDIS_URL=redis://stale\n")
    run = up.Up("127.0.0.1", processes.free_port(), demo=False)
    assert "DATABASE_URL" not in run.env
    assert run.env["REDIS_URL"] == "redis://my-own"


def test_reset_deletes_only_our_files(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    for name in ("secret-key", "demo-password", "services.env", "children", "postgres.log", "bell-0-1ed1962b"):
        (folder / name).write_text("old")
    (folder / "thesis.txt").write_text("years of work")
    up.reset(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
