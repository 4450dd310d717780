"""Child processes that end with their parent, leftovers of killed parents, and free ports."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Account:
    """The user that root runs a program as.

    `reach`: the project's folders are closed to this user, so the program keeps a capability to traverse them.
    """

    name: str
    uid: int
    gid: int
    reach: bool = False


def child_command(
    program: list[str], *, orphan_signal: int = signal.SIGTERM, account: Account | None = None
) -> list[str]:
    """The argument list that runs `program` as our child and as `account`, and ends it when we die."""
    step_down = [str(account.uid), str(account.gid), str(int(account.reach))] if account else []
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(orphan_signal)), *step_down]
    return [*launcher, "--", *program]


def command_line(pid: int) -> str:
    """The command line of process `pid`; empty when there is no such process."""
    with contextlib.suppress(OSError):
        if Path("/proc/self").exists():
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        done = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True)
        return done.stdout
    return ""


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` until it holds; False after `seconds`.

    For events that send no notification, such as the end of a process that is not our child.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end_leftover(pid: int, signals: tuple[int, ...], seconds: float = 10) -> None:
    """End a process that a killed predecessor left: send each signal in order, and wait `seconds` after each."""
    for signum in signals:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
        if wait_until(lambda: not command_line(pid), seconds):
            return


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free at this moment.

    Another process may take it a moment later, so the caller must be ready to try again.
    """
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
