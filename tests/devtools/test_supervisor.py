"""The process manager, with small scripted child processes."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from devtools import supervisor

READY = "print('ready', flush=True)"
STAY = f"{READY}; import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAY}"


class Scenario:
    """A supervisor whose log lines a test can wait for."""

    def __init__(self, folder: Path) -> None:
        self.out = io.StringIO()
        self.written = asyncio.Event()
        log = supervisor.ConsoleLog(self.out)
        write = log.write

        def write_and_notify(name: str, text: str) -> None:
            write(name, text)
            self.written.set()

        log.write = write_and_notify  # type: ignore[method-assign]
        self.supervisor = supervisor.Supervisor(log, dict(os.environ), folder)

    @property
    def output(self) -> str:
        return self.out.getvalue()

    async def wait_for(self, words: str, times: int = 1) -> None:
        while self.output.count(words) < times:
            self.written.clear()
            await self.written.wait()


def child(name: str, script: str, **options: object) -> supervisor.Child:
    return supervisor.Child(name, [sys.executable, "-c", script], **options)  # type: ignore[arg-type]


def run(folder: Path, steps: Callable[[Scenario], Awaitable[None]], *children: supervisor.Child) -> Scenario:
    """Runs the children while `steps` runs, until the supervisor has stopped."""

    async def main() -> Scenario:
        scenario = Scenario(folder)
        running = asyncio.create_task(scenario.supervisor.run(children, [], asyncio.sleep(0)))
        await asyncio.wait_for(asyncio.gather(steps(scenario), running), 60)
        return scenario

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)


def test_log_line_begins_with_the_name_of_its_process(tmp_path: Path) -> None:
    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready")
        scenario.supervisor.stop()

    scenario = run(tmp_path, steps, child("web", f"print('one\\ntwo'); {STAY}"))
    assert "web          │ one\nweb          │ two\nweb          │ ready\n" in scenario.output


def test_only_a_terminal_without_no_color_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not supervisor.ConsoleLog(io.StringIO()).coloured
    assert supervisor.ConsoleLog(Terminal()).coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert not supervisor.ConsoleLog(Terminal()).coloured


def test_supervisor_forwards_a_line_of_any_length(tmp_path: Path) -> None:
    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready")
        scenario.supervisor.stop()

    scenario = run(tmp_path, steps, child("web", f"print('x' * 1_000_000); {STAY}"))
    assert "x" * 1_000_000 in scenario.output


def test_child_that_ends_is_restarted_and_reported(tmp_path: Path) -> None:
    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready", times=2)
        scenario.supervisor.stop()

    once = f"import os, sys; known = os.path.exists('died'); open('died', 'w'); {READY}; known or sys.exit(3); {STAY}"
    scenario = run(tmp_path, steps, child("web", once))
    assert "ended with exit code 3; restarting it in 0.01 s" in scenario.output
    assert scenario.supervisor.failed == ""


def test_child_that_keeps_exiting_early_stops_everything(tmp_path: Path) -> None:
    async def steps(scenario: Scenario) -> None:
        await scenario.supervisor.stopping.wait()

    scenario = run(tmp_path, steps, child("web", "import sys; sys.exit(7)"), child("worker", STAY))
    assert scenario.supervisor.failed == "web ended with exit code 7, 5 times in a row"


def test_children_are_stopped_in_order_of_rank(tmp_path: Path) -> None:
    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready", times=3)
        scenario.supervisor.stop()

    def polite(name: str, rank: int) -> supervisor.Child:
        script = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit())); {STAY}"
        return child(name, script, rank=rank)

    scenario = run(tmp_path, steps, polite("last", 2), polite("first", 0), polite("middle", 1))
    goodbyes = [line.split()[0] for line in scenario.output.splitlines() if line.endswith("bye")]
    assert goodbyes == ["first", "middle", "last"]


def test_child_that_ignores_sigterm_is_killed_after_its_grace_period(tmp_path: Path) -> None:
    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready")
        scenario.supervisor.stop()

    scenario = run(tmp_path, steps, child("web", STUBBORN, grace=0.1))
    assert "did not stop in time: killed" in scenario.output


def test_second_ctrl_c_ends_the_grace_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "REPEAT_SECONDS", 0.0)

    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready")
        scenario.supervisor.stop(signal.SIGINT)
        scenario.supervisor.stop(signal.SIGINT)

    scenario = run(tmp_path, steps, child("web", STUBBORN, grace=3600))
    assert "did not stop in time: killed" in scenario.output


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_repeated_signal_of_a_wrapper_keeps_the_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    """`make` forwards SIGTERM, so one to the process group arrives twice; some wrappers forward Ctrl-C."""
    monkeypatch.setattr(supervisor, "REPEAT_SECONDS", 3600.0)

    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready")
        for _ in range(3):
            scenario.supervisor.stop(signum)
        await scenario.wait_for("terminating")
        for _ in range(3):
            scenario.supervisor.stop(signum)
        os.mkfifo(tmp_path / "go")
        await asyncio.to_thread((tmp_path / "go").write_text, "now")

    # After SIGTERM the child waits for a file that is written only after the repeated signal.
    waits = "import pathlib, sys, time; go = pathlib.Path('go')"
    ends = "(print('terminating', flush=True), [time.sleep(0.01) for _ in iter(go.exists, True)], go.read_text(), "
    script = (
        f"import signal; {waits}; signal.signal(signal.SIGTERM, lambda *_: {ends} print('bye'), sys.exit())); {STAY}"
    )
    scenario = run(tmp_path, steps, child("web", script, grace=3600))
    assert "│ bye" in scenario.output
    assert "killed" not in scenario.output
    assert scenario.output.count("stopping") == 1


def test_processes_of_a_child_end_with_it(tmp_path: Path) -> None:
    """The grandchild holds the output pipe open, so the run could not end while it lives."""

    async def steps(scenario: Scenario) -> None:
        await scenario.wait_for("ready")
        scenario.supervisor.stop()

    run(tmp_path, steps, child("web", f"import subprocess, sys; subprocess.Popen(['sleep', '600']); {STAY}"))


def test_late_child_starts_when_everything_is_ready(tmp_path: Path) -> None:
    async def main() -> str:
        scenario, ready = Scenario(tmp_path), asyncio.Event()
        children = [child("web", STAY), child("beat", STAY, late=True)]

        async def is_ready() -> None:
            await ready.wait()
            scenario.supervisor.log.write("up", "everything is ready")

        running = asyncio.create_task(scenario.supervisor.run(children, [], is_ready()))
        await scenario.wait_for("web          │ ready")
        ready.set()
        await scenario.wait_for("beat         │ ready")
        scenario.supervisor.stop()
        await running
        return scenario.output

    said = asyncio.run(main())
    assert said.index("web ") < said.index("everything is ready") < said.index("beat ")


def test_once_returns_whether_the_program_succeeded(tmp_path: Path) -> None:
    async def both() -> tuple[bool, bool]:
        good, bad = child("good", ""), child("bad", "import sys; sys.exit(1)")
        ours = Scenario(tmp_path).supervisor
        return await ours.once(good), await ours.once(bad)

    assert asyncio.run(both()) == (True, False)
