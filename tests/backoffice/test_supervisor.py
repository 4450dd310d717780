"""The process manager, with small children that do as they are told."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from devtools import supervisor as processes

READY = "print('ready', flush=True)"
STAY = f"{READY}; import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAY}"


class Room:
    """A supervisor whose words can be waited for."""

    def __init__(self, folder: Path) -> None:
        self.out = io.StringIO()
        self.heard = asyncio.Event()
        voice = processes.Voice(self.out)
        say = voice.say

        def say_and_tell(name: str, text: str) -> None:
            say(name, text)
            self.heard.set()

        voice.say = say_and_tell  # type: ignore[method-assign]
        self.supervisor = processes.Supervisor(voice, dict(os.environ), folder)

    @property
    def said(self) -> str:
        return self.out.getvalue()

    async def wait_for(self, words: str, times: int = 1) -> None:
        while self.said.count(words) < times:
            self.heard.clear()
            await self.heard.wait()


def child(name: str, script: str, **options: object) -> processes.Child:
    return processes.Child(name, [sys.executable, "-c", script], **options)  # type: ignore[arg-type]


def play(folder: Path, scene: Callable[[Room], Awaitable[None]], *children: processes.Child) -> Room:
    """Run the children while `scene` happens; whatever happens, the end is orderly."""

    async def whole() -> Room:
        room = Room(folder)
        running = asyncio.create_task(room.supervisor.run(children, [], asyncio.sleep(0)))
        await asyncio.wait_for(asyncio.gather(scene(room), running), 60)
        return room

    return asyncio.run(whole())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.01)


def test_each_line_says_who_spoke(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        await room.wait_for("ready")
        room.supervisor.stop()

    room = play(tmp_path, scene, child("web", f"print('one\\ntwo'); {STAY}"))
    assert "web          │ one\nweb          │ two\nweb          │ ready\n" in room.said


def test_colours_are_only_for_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not processes.Voice(io.StringIO()).coloured
    assert processes.Voice(Terminal()).coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert not processes.Voice(Terminal()).coloured


def test_a_line_of_any_length_passes(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        await room.wait_for("ready")
        room.supervisor.stop()

    room = play(tmp_path, scene, child("web", f"print('x' * 1_000_000); {STAY}"))
    assert "x" * 1_000_000 in room.said


def test_a_child_that_dies_is_started_again_and_said_so(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        await room.wait_for("ready", times=2)
        room.supervisor.stop()

    once = f"import os, sys; known = os.path.exists('died'); open('died', 'w'); {READY}; known or sys.exit(3); {STAY}"
    room = play(tmp_path, scene, child("web", once))
    assert "ended with exit code 3; starting it again in 0.01 s" in room.said
    assert room.supervisor.failed == ""


def test_a_child_that_keeps_dying_young_ends_everything(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        await room.supervisor.stopping.wait()

    room = play(tmp_path, scene, child("web", "import sys; sys.exit(7)"), child("worker", STAY))
    assert room.supervisor.failed == "web ended with exit code 7, 5 times in a row"


def test_children_are_stopped_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        await room.wait_for("ready", times=3)
        room.supervisor.stop()

    def polite(name: str, rank: int) -> processes.Child:
        script = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit())); {STAY}"
        return child(name, script, rank=rank)

    room = play(tmp_path, scene, polite("last", 2), polite("first", 0), polite("middle", 1))
    goodbyes = [line.split()[0] for line in room.said.splitlines() if line.endswith("bye")]
    assert goodbyes == ["first", "middle", "last"]


def test_a_child_that_will_not_stop_is_killed_after_its_grace(tmp_path: Path) -> None:
    async def scene(room: Room) -> None:
        await room.wait_for("ready")
        room.supervisor.stop()

    room = play(tmp_path, scene, child("web", STUBBORN, grace=0.1))
    assert "did not stop in time: killed" in room.said


def test_second_ctrl_c_ends_the_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ECHO_SECONDS", 0.0)

    async def scene(room: Room) -> None:
        await room.wait_for("ready")
        room.supervisor.stop(signal.SIGINT)
        room.supervisor.stop(signal.SIGINT)

    room = play(tmp_path, scene, child("web", STUBBORN, grace=3600))
    assert "did not stop in time: killed" in room.said


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_repeated_signal_of_a_wrapper_leaves_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    """`make` passes SIGTERM on, so one to the process group arrives twice; some wrappers pass Ctrl-C on."""
    monkeypatch.setattr(processes, "ECHO_SECONDS", 3600.0)

    async def scene(room: Room) -> None:
        await room.wait_for("ready")
        for _ in range(3):
            room.supervisor.stop(signum)
        await room.wait_for("asked to end")
        for _ in range(3):
            room.supervisor.stop(signum)
        os.mkfifo(tmp_path / "go")
        await asyncio.to_thread((tmp_path / "go").write_text, "now")

    # Asked to end, it waits for what only comes after the repeated signal.
    waits = "import pathlib, sys, time; go = pathlib.Path('go')"
    ends = "(print('asked to end', flush=True), [time.sleep(0.01) for _ in iter(go.exists, True)], go.read_text(), "
    script = (
        f"import signal; {waits}; signal.signal(signal.SIGTERM, lambda *_: {ends} print('bye'), sys.exit())); {STAY}"
    )
    room = play(tmp_path, scene, child("web", script, grace=3600))
    assert "│ bye" in room.said
    assert "killed" not in room.said
    assert room.said.count("stopping") == 1


def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    """The grandchild holds the pipe of its lines open: the run could not end while it lives."""

    async def scene(room: Room) -> None:
        await room.wait_for("ready")
        room.supervisor.stop()

    play(tmp_path, scene, child("web", f"import subprocess, sys; subprocess.Popen(['sleep', '600']); {STAY}"))


def test_a_late_child_waits_until_all_is_ready(tmp_path: Path) -> None:
    async def whole() -> str:
        room, ready = Room(tmp_path), asyncio.Event()
        children = [child("web", STAY), child("beat", STAY, late=True)]

        async def is_ready() -> None:
            await ready.wait()
            room.supervisor.voice.say("up", "all is ready")

        running = asyncio.create_task(room.supervisor.run(children, [], is_ready()))
        await room.wait_for("web          │ ready")
        ready.set()
        await room.wait_for("beat         │ ready")
        room.supervisor.stop()
        await running
        return room.said

    said = asyncio.run(whole())
    assert said.index("web ") < said.index("all is ready") < said.index("beat ")


def test_a_step_that_fails_is_known_to_have_failed(tmp_path: Path) -> None:
    async def both() -> tuple[bool, bool]:
        supervisor = Room(tmp_path).supervisor
        return await supervisor.once(child("good", "")), await supervisor.once(child("bad", "import sys; sys.exit(1)"))

    assert asyncio.run(both()) == (True, False)
