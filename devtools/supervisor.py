"""A small process manager: children with prefixed logs, restarts with back-off, an orderly end.

`Supervisor.run` is one loop: each child has a keeper that starts it, reads its output and starts it again when it dies.
A child that keeps dying young ends everything: a broken installation should say so, not spin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TextIO

from devtools import embedded

YOUNG_SECONDS = 15.0  # a child that lived shorter died young
DEATHS_ALLOWED = 5  # young deaths in a row before all of it stops
FIRST_PAUSE = 0.5  # seconds; doubled at each young death
LAST_LINES_SECONDS = 2.0
GROUP_END_SECONDS = 0.3
ECHO_SECONDS = 1.0  # a second Ctrl-C that comes sooner is the same one, passed on by a wrapper
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


@dataclass
class Child:
    """A program to keep running. `rank`: lower ones are stopped first; `grace`: seconds between SIGTERM and SIGKILL;
    `late`: nobody waits for it, so it leaves the processor to the others until all is ready."""

    name: str
    program: list[str]
    rank: int = 0
    grace: float = 10.0
    late: bool = False
    env: dict[str, str] = field(default_factory=dict)


class Voice:
    """Lines for a person, each with the name of who speaks. Colours only on a terminal that wants them."""

    def __init__(self, out: TextIO, width: int = 13) -> None:
        self.out = out
        self.width = width
        self.coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}

    def say(self, name: str, text: str) -> None:
        label = f"{name:<{self.width}}│"
        if self.coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            label = f"\033[{colour}m{label}\033[0m"
        with contextlib.suppress(BrokenPipeError, OSError):  # a closed terminal must not keep us from stopping
            self.out.write(f"{label} {text}\n")
            self.out.flush()


class Supervisor:
    """Keeps services (already started) and children running until told to stop. `failed` says why it gave up."""

    def __init__(self, voice: Voice, env: dict[str, str], folder: Path) -> None:
        self.voice = voice
        self.env = env  # of every child; may grow until it is started
        self.folder = folder  # where every child runs
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()  # a second Ctrl-C: no more grace
        self._interrupted_at: float | None = None  # loop time of the first Ctrl-C
        self.failed = ""
        self.started: Callable[[Child, int], None] = lambda _child, _pid: None
        self._running: dict[str, asyncio.subprocess.Process] = {}

    # -- the loop -------------------------------------------------------------------------------------------------

    async def run(
        self, children: Sequence[Child], services: Sequence[embedded.Service], ready: Awaitable[None]
    ) -> None:
        """1 keep everything running and watch for `ready`  2 wait for a signal or a give-up  3 stop by rank.

        The services are left running: they were started before us and go after us.
        """
        keepers = [asyncio.create_task(self._keep(child)) for child in children]
        watches = [asyncio.create_task(self._keep_service(service)) for service in services]
        watches.append(asyncio.create_task(self._watch(ready)))
        await self.stopping.wait()
        self.ready.set()  # whoever still waits for it sees that all is over
        for rank in sorted({child.rank for child in children}):
            await asyncio.gather(*(self._end(child) for child in children if child.rank == rank))
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*keepers)
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, ready: Awaitable[None]) -> None:
        await ready
        self.ready.set()

    async def once(self, child: Child) -> bool:
        """Run a program that is meant to end, such as the migrations. True when it ended well."""
        running = asyncio.create_task(self._live(child))
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await self._end(child)
        stopping.cancel()
        return await running == 0

    def obey_signals(self) -> None:
        """SIGINT, SIGTERM and SIGHUP stop everything; only a second Ctrl-C (SIGINT) stops it at once."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup means it
                loop.add_signal_handler(signum, self.stop, signum)

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Begin an orderly end. Repeated SIGTERMs change nothing: one that is sent to the process group arrives
        twice, because make passes its own on to us. SIGKILL ends without grace."""
        if not self.stopping.is_set():
            self.voice.say("up", "stopping")
        self.stopping.set()
        if signum != signal.SIGINT:
            return
        now = asyncio.get_running_loop().time()
        if self._interrupted_at is None:
            self._interrupted_at = now
        elif now - self._interrupted_at >= ECHO_SECONDS:
            self.hurry.set()

    def give_up(self, why: str) -> None:
        self.failed = self.failed or why
        self.stopping.set()

    # -- one child ------------------------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        """Start it, wait for its end, start it again: after 0.5, 1, 2, 4 … seconds while it dies young."""
        if child.late:
            await self.ready.wait()
        await self._keep_going(child.name, lambda: self._live(child))

    async def _keep_service(self, service: embedded.Service) -> None:
        """The same for a service, which was started before. It is started again from this thread on purpose: Linux
        sends the parent's-death signal when the *thread* that started a child ends."""

        async def live() -> int:
            if not service.running:
                try:
                    service.start()
                    self.voice.say(service.name, "started again")
                except embedded.EmbeddedError as error:
                    self.voice.say(service.name, str(error))
                    return 1
            process = service.process
            return await asyncio.to_thread(process.wait) if process else 0

        await self._keep_going(service.name, live)

    async def _keep_going(self, name: str, live: Callable[[], Awaitable[int]]) -> None:
        loop, deaths = asyncio.get_running_loop(), 0
        while not self.stopping.is_set():
            started = loop.time()
            code = await live()
            if self.stopping.is_set():
                break
            deaths = deaths + 1 if loop.time() - started < YOUNG_SECONDS else 1
            if deaths >= DEATHS_ALLOWED:
                self.give_up(f"{name} {describe(code)}, {deaths} times in a row")
                break
            pause = FIRST_PAUSE * 2 ** (deaths - 1)
            self.voice.say(name, f"{describe(code)}; starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), pause)

    async def _live(self, child: Child) -> int:
        """One life: start, pass its output on line by line, see it end, and its own children with it."""
        reading, writing = os.pipe()
        # A pipe of our own: asyncio's would keep `wait` waiting while a grandchild holds it open.
        with os.fdopen(reading, "rb", 0) as output:
            with os.fdopen(writing, "wb", 0) as their_end:
                process = await asyncio.create_subprocess_exec(
                    *embedded.bound(child.program),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=their_end,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    cwd=self.folder,
                    env=self.env | {"PYTHONUNBUFFERED": "1", "SERVICE_NAME": child.name} | child.env,
                )
            self._running[child.name] = process
            self.started(child, process.pid)
            if self.stopping.is_set():  # all is over since we began to start it
                kill_group(process.pid)
            listening = asyncio.create_task(self._listen(child.name, output))
            code = await process.wait()
            self._running.pop(child.name, None)
            kill_group(process.pid)
            await group_end(process.pid)
            with contextlib.suppress(TimeoutError):  # what left the group may hold the pipe; its lines are not ours
                await asyncio.wait_for(listening, LAST_LINES_SECONDS)
            return code

    async def _listen(self, name: str, output: IO[bytes]) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), output
        )
        rest = b""
        try:
            while chunk := await stream.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.voice.say(name, line.decode(errors="replace").rstrip())
        finally:
            transport.close()
        if rest:
            self.voice.say(name, rest.decode(errors="replace").rstrip())

    async def _end(self, child: Child) -> None:
        """SIGTERM, then SIGKILL to its whole group after its grace, or at once when we are in a hurry."""
        process = self._running.get(child.name)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended, hurry = asyncio.create_task(process.wait()), asyncio.create_task(self.hurry.wait())
        await asyncio.wait({ended, hurry}, timeout=child.grace, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            self.voice.say(child.name, "did not stop in time: killed")
            kill_group(process.pid)
        await ended
        hurry.cancel()


def kill_group(leader: int) -> None:
    """What a child left behind: each child leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


async def group_end(leader: int) -> None:
    """Return when nobody is left in the group that was killed, or after a moment: where the container's first process
    does not collect the dead, they stay."""
    deadline = asyncio.get_running_loop().time() + GROUP_END_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        try:
            os.killpg(leader, 0)
        except (ProcessLookupError, PermissionError):
            return
        await asyncio.sleep(0.01)


def describe(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return "ended" if code == 0 else f"ended with exit code {code}"


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
