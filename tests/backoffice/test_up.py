"""`manage.py up` as a person meets it: started, crowded out, killed, stopped. Each test is a real run."""

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

from devtools import embedded
from devtools.management.commands import up

pytestmark = pytest.mark.services
PROJECT = Path(embedded.__file__).resolve().parent.parent
OURS = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEMO_PASSWORD", "DATA_DIR", "PORT")
PATIENCE = 120.0
UP = (sys.executable, "manage.py", "up")


class Run:
    """One `manage.py up` and everything it said. `program`: what runs it, such as make."""

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
    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str) -> None:
        embedded.wait_until(lambda: words in self.said or self.process.poll() is not None, PATIENCE)
        assert words in self.said

    def wait_for_all(self) -> None:
        """Beyond the pages, which are announced first: a signal in the middle of a start is another story."""
        self.wait_for("running relay")
        self.wait_for(" ready.")  # the worker

    def ended(self) -> int:
        return self.process.wait(PATIENCE)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A DATA_DIR; whatever a failed test left running there is ended."""
    yield tmp_path / "data"
    for pid in processes_of(tmp_path):
        os.kill(pid, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    """Every process that was started with this DATA_DIR, or names it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in told and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def readyz(port: int) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
        return dict(json.load(answer))


def test_from_an_empty_folder_through_a_power_cut_to_nothing_left(folder: Path) -> None:
    """One long day, because each start costs seconds."""
    port = embedded.free_port()
    first = Run(folder, port)
    first.wait_for("Ctrl-C stops everything")
    said = readyz(port)
    assert said["status"] == "ok"
    assert said["checks"] | {"live": ""} == {"database": "ok", "valkey": "ok", "log": "ok", "live": ""}
    password = (folder / "demo-password").read_text().strip()
    assert f"sign in as admin, manager, agent, viewer, dpo; password: {password}" in first.said
    for name in ("demo-password", "secret-key", "services.env"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600

    # Another command of the same project finds the services.
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    command = [sys.executable, "manage.py", "migrate", "--check"]
    subprocess.run(command, cwd=PROJECT, env=clean | {"DATA_DIR": str(folder)}, check=True)

    # A second one is told who is here, and disturbs nothing.
    second = Run(folder, embedded.free_port())
    assert second.ended() == 1
    assert f"in use by process {first.process.pid}" in second.said
    assert len(second.said.splitlines()) == 1

    # A power cut; the next one starts at once, on the same data and port, beside what is still ending.
    first.wait_for_all()
    with psycopg.connect(services(folder)["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept ()")
    first.process.kill()
    first.ended()
    makefile = folder.with_name("Makefile")
    makefile.write_text(f"run:\n\t@{' '.join(UP)}\n")
    through_make = shutil.which("make") is not None
    following = Run(folder, port, ("make", "-s", "-f", str(makefile), "run") if through_make else UP)
    following.wait_for("Ctrl-C stops everything")
    following.wait_for_all()
    with psycopg.connect(services(folder)["DATABASE_URL"]) as connection:
        connection.execute("SELECT FROM kept")
    assert f"password: {password}" in following.said

    # As a terminal or an init system does it: to the whole group. It arrives twice, because make passes it on.
    os.killpg(following.process.pid, signal.SIGTERM)
    assert (following.ended() == 0) is not through_make  # make itself ends by the signal
    assert following.said.rstrip().endswith("stopped")
    assert "killed" not in following.said
    assert "Traceback" not in following.said
    assert processes_of(folder) == []
    assert not (folder / "services.env").exists()
    assert not (folder / "children").exists()


def test_child_of_a_killed_run_that_does_not_end_is_ended(
    settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number alone is not enough: it may be a stranger's by now."""
    folder.mkdir()
    settings.DATA_DIR = folder
    monkeypatch.setattr(up, "LEFTOVER_SECONDS", 0.1)
    stubborn = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()",
    ]
    ours, strangers = (subprocess.Popen(stubborn, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2))
    with ours, strangers:
        for one in (ours, strangers):
            assert one.stdout is not None
            one.stdout.readline()
        program = " ".join(stubborn)
        (folder / "children").write_text(
            f"{ours.pid} {program}\n{strangers.pid} celery worker\n{2**22 + 1} {program}\n"
        )
        run = up.Up("127.0.0.1", embedded.free_port(), demo=False)
        ending = threading.Thread(target=ours.wait)  # as the first process of the system does
        ending.start()
        run.end_leftovers()
        ending.join()
        assert ours.returncode == -signal.SIGKILL
        assert strangers.poll() is None
        strangers.kill()
    assert not (folder / "children").exists()


def services(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "services.env").read_text().splitlines())


def test_a_port_in_use_is_one_line_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = Run(folder, taken.getsockname()[1])
        assert run.ended() == 1
    assert "is in use: stop what uses it, or set PORT" in run.said
    assert len(run.said.splitlines()) == 1
    assert not (folder / "postgres").exists()


def test_with_addresses_given_nothing_embedded_starts(settings: Any, folder: Path) -> None:
    """The suite itself runs with addresses given."""
    folder.mkdir()
    settings.DATA_DIR = folder
    run = up.Up("127.0.0.1", embedded.free_port(), demo=False)
    run.start_services()
    assert run.services == []
    assert run.env["DATABASE_URL"] == os.environ["DATABASE_URL"]
    assert run.env["REDIS_URL"] == os.environ["REDIS_URL"]


def test_the_addresses_a_killed_run_left_behind_are_not_taken_for_the_users_own(
    settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """settings.py puts them into the environment, like ones that somebody set."""
    folder.mkdir()
    settings.DATA_DIR = folder
    monkeypatch.setenv("DATABASE_URL", "postgresql://stale")
    monkeypatch.setenv("REDIS_URL", "redis://my-own")
    (folder / "services.env").write_text("DATABASE_URL=postgresql://stale\nREDIS_URL=redis://stale\n")
    run = up.Up("127.0.0.1", embedded.free_port(), demo=False)
    assert "DATABASE_URL" not in run.env
    assert run.env["REDIS_URL"] == "redis://my-own"


def test_a_reset_deletes_what_is_ours_and_nothing_else(folder: Path) -> None:
    (folder / "postgres").mkdir(parents=True)
    for name in ("secret-key", "demo-password", "services.env", "children", "postgres.log", "bell-0-1ed1962b"):
        (folder / name).write_text("old")
    (folder / "thesis.txt").write_text("years of work")
    up.reset(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
