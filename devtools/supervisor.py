"""A small process manager: children with prefixed logs, restarts with exponential back-off, and a graceful shutdown.

`Supervisor.run` creates one task for each child, which starts it, reads its output and restarts it when it ends. A
child that fails repeatedly right after its start ends everything: a broken installation must fail visibly instead of
restarting for ever.
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

from devtools import processes, services

EARLY_EXIT_SECONDS = 15.0  # a child that ran for less exited early
MAX_EARLY_EXITS = 5  # early exits in a row after which everything stops
FIRST_PAUSE = 0.5  # seconds; doubled at each early exit
LAST_LINES_SECONDS = 2.0
GROUP_END_SECONDS = 0.3
REPEAT_SECONDS = 1.0  # a second SIGINT that arrives sooner is the same Ctrl-C, forwarded by a wrapper
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


@dataclass
class Child:
    """A program to keep running.

    rank   children with a lower rank are stopped first
    grace  seconds between SIGTERM and SIGKILL
    late   start it only when everything else is ready, to leave the processor to the others
    """

    name: str
    program: list[str]
    rank: int = 0
    grace: float = 10.0
    late: bool = False
    env: dict[str, str] = field(default_factory=dict)


class ConsoleLog:
    """Writes log lines prefixed with the name of their process; coloured on a terminal unless NO_COLOR is set."""

    def __init__(self, out: TextIO, width: int = 13) -> None:
        self.out = out
        self.width = width
        self.coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}

    def write(self, name: str, text: str) -> None:
        label = f"{name:<{self.width}}│"
        if self.coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            label = f"\033[{colour}m{label}\033[0m"
        with contextlib.suppress(BrokenPipeError, OSError):  # a closed terminal must not prevent the shutdown
            self.out.write(f"{label} {text}\n")
            self.out.flush()


class Supervisor:
    """Keeps started services and children running until `stop`; `failed` holds the reason when it gave up."""

    def __init__(self, log: ConsoleLog, env: dict[str, str], folder: Path) -> None:
        self.log = log
        self.env = env  # of every child; may be extended until the child starts
        self.folder = folder  # working directory of every child
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.kill_now = asyncio.Event()  # set by a second Ctrl-C: skip the grace periods
        self._interrupted_at: float | None = None  # loop time of the first Ctrl-C
        self.failed = ""
        self.started: Callable[[Child, int], None] = lambda _child, _pid: None
        self._running: dict[str, asyncio.subprocess.Process] = {}

    # -- the loop -------------------------------------------------------------------------------------------------

    async def run(
        self, children: Sequence[Child], services: Sequence[services.Service], ready: Awaitable[None]
    ) -> None:
        """Keep the services and children running until a signal or a failure.

        1 keep everything running and wait for `ready`  2 wait for a signal or a failure  3 stop children by rank.

        The services stay up: the caller started them and stops them afterwards.
        """
        keepers = [asyncio.create_task(self._keep(child)) for child in children]
        watches = [asyncio.create_task(self._keep_service(service)) for service in services]
        watches.append(asyncio.create_task(self._watch(ready)))
        await self.stopping.wait()
        self.ready.set()  # releases the tasks that still wait for it
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
        """Run a program that ends by itself, such as the migrations; True when its exit code is 0."""
        running = asyncio.create_task(self._run_child(child))
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            await self._end(child)
        stopping.cancel()
        return await running == 0

    def install_signal_handlers(self) -> None:
        """Stop everything on SIGINT, SIGTERM and SIGHUP; a second Ctrl-C (SIGINT) stops it at once."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup ignores SIGHUP
                loop.add_signal_handler(signum, self.stop, signum)

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Begin a graceful shutdown.

        A repeated SIGTERM changes nothing: one that is sent to the process group arrives twice, because make
        forwards its own. SIGKILL ends without grace.
        """
        if not self.stopping.is_set():
            self.log.write("up", "stopping")
        self.stopping.set()
        if signum != signal.SIGINT:
            return
        now = asyncio.get_running_loop().time()
        if self._interrupted_at is None:
            self._interrupted_at = now
        elif now - self._interrupted_at >= REPEAT_SECONDS:
            self.kill_now.set()

    def give_up(self, reason: str) -> None:
        self.failed = self.failed or reason
        self.stopping.set()

    # -- one child ------------------------------------------------------------------------------------------------

    async def _keep(self, child: Child) -> None:
        """Start the child and restart it when it ends; after 0.5, 1, 2 … seconds while it exits early."""
        if child.late:
            await self.ready.wait()
        await self._restart_for_ever(child.name, lambda: self._run_child(child))

    async def _keep_service(self, service: services.Service) -> None:
        """Restart a service, which is running already, whenever it ends; as `_keep` does for a child.

        It is restarted from this thread on purpose: Linux sends the parent-death signal when the *thread* that
        started a child ends.
        """

        async def run() -> int:
            if not service.running:
                try:
                    service.start()
                    self.log.write(service.name, "restarted")
                except services.EmbeddedError as error:
                    self.log.write(service.name, str(error))
                    return 1
            process = service.process
            return await asyncio.to_thread(process.wait) if process else 0

        await self._restart_for_ever(service.name, run)

    async def _restart_for_ever(self, name: str, run: Callable[[], Awaitable[int]]) -> None:
        loop, exits = asyncio.get_running_loop(), 0
        while not self.stopping.is_set():
            started = loop.time()
            code = await run()
            if self.stopping.is_set():
                break
            exits = exits + 1 if loop.time() - started < EARLY_EXIT_SECONDS else 1
            if exits >= MAX_EARLY_EXITS:
                self.give_up(f"{name} {describe(code)}, {exits} times in a row")
                break
            pause = FIRST_PAUSE * 2 ** (exits - 1)
            self.log.write(name, f"{describe(code)}; restarting it in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), pause)

    async def _run_child(self, child: Child) -> int:
        """Run the child to its end, forward its output and kill its process group; returns its exit code."""
        reading, writing = os.pipe()
        # A pipe of our own: with asyncio's, `wait` would not return while a grandchild holds it open.
        with os.fdopen(reading, "rb", 0) as output:
            with os.fdopen(writing, "wb", 0) as child_end:
                process = await asyncio.create_subprocess_exec(
                    *processes.child_command(child.program),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=child_end,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    cwd=self.folder,
                    env=self.env | {"PYTHONUNBUFFERED": "1", "SERVICE_NAME": child.name} | child.env,
                )
            self._running[child.name] = process
            self.started(child, process.pid)
            if self.stopping.is_set():  # the shutdown began while we were starting it
                kill_group(process.pid)
            forwarding = asyncio.create_task(self._forward_output(child.name, output))
            code = await process.wait()
            self._running.pop(child.name, None)
            kill_group(process.pid)
            await group_end(process.pid)
            with contextlib.suppress(TimeoutError):  # a process that left the group may hold the pipe open
                await asyncio.wait_for(forwarding, LAST_LINES_SECONDS)
            return code

    async def _forward_output(self, name: str, output: IO[bytes]) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), output
        )
        rest = b""
        try:
            while chunk := await stream.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.log.write(name, line.decode(errors="replace").rstrip())
        finally:
            transport.close()
        if rest:
            self.log.write(name, rest.decode(errors="replace").rstrip())

    async def _end(self, child: Child) -> None:
        """Send SIGTERM, then SIGKILL to the whole group after its grace period, or at once after a second Ctrl-C."""
        process = self._running.get(child.name)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended, kill_now = asyncio.create_task(process.wait()), asyncio.create_task(self.kill_now.wait())
        await asyncio.wait({ended, kill_now}, timeout=child.grace, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            self.log.write(child.name, "did not stop in time: killed")
            kill_group(process.pid)
        await ended
        kill_now.cancel()


def kill_group(leader: int) -> None:
    """Kill the processes that a child left; each child leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


async def group_end(leader: int) -> None:
    """Wait until the killed group is empty, for at most GROUP_END_SECONDS.

    In a container whose first process does not reap zombies, the group never becomes empty.
    """
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
