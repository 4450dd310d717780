"""Clients that cost almost nothing, so that the run measures the server; and the control connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
TIMEOUT = 90.0
ATTEMPTS = 8
CORES = sorted(os.sched_getaffinity(0))


APPLICATION = "benchmarks.load.asgi_app:application"
# Other servers, each started by its own command.
SERVERS = {
    "hub-uvicorn": [
        "uvicorn", "--ws", "websockets-sansio", "--ws-per-message-deflate", "false", "--port", "{port}",
        "--log-level", "warning", APPLICATION,
    ],
    "hub-granian": [
        "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning",
        "--loop", "uvloop", APPLICATION,
    ],
    "hub-daphne": ["daphne", "--verbosity", "0", "--bind", "127.0.0.1", "--port", "{port}", APPLICATION],
}  # fmt: skip


class Refused(Exception):
    """The server refused a handshake with `goodbye`; a later attempt may succeed."""


class Reader(asyncio.Protocol):
    """A minimal WebSocket client: counts event frames, acknowledges, records arrival times."""

    def __init__(self, pool: ClientPool, headers: str, subscribe: bytes | None) -> None:
        self.pool, self.headers, self.subscribe = pool, headers, subscribe
        self.buffer = b""
        self.upgraded = False
        self.count = 0
        self.position = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.headers.encode())

    def data_received(self, data: bytes) -> None:
        arrived = time.perf_counter()
        if self.pool.unread is None:
            self.read(data, arrived)
        else:
            self.pool.unread.append((self, data, arrived))
            self.pool.data_arrived.set()

    def read(self, data: bytes, arrived: float) -> None:
        buffer = self.buffer + data if self.buffer else data
        at = 0
        if not self.upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self.buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(buffer[:200])
            self.upgraded, at = True, end + 4
            if self.subscribe is None:
                self.ready.set_result(None)
        size = len(buffer)
        while size - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if size - start < length:
                break
            self.frame(buffer[at] & 15, buffer[start : start + length], arrived)
            at = start + length
        self.buffer = buffer[at:]

    def frame(self, opcode: int, payload: bytes, arrived: float) -> None:
        if opcode == 8:
            self.mark_closed()
        elif opcode == 9:  # the server's keepalive, which ends silent connections after a minute
            self.send(payload, opcode=10)
        elif payload.startswith(b'{"type":"goodbye"') and not self.ready.done():
            self.ready.set_exception(Refused(payload.decode()))
        elif payload.startswith((b'{"type":"event"', b'{"type": "event"')):
            self.count += 1
            self.pool.record(self.count, arrived)
            if self.subscribe is not None and self.count % 64 == 0:
                self.send(b'{"type":"ack","position":%d}' % position_of(payload))
            if self.subscribe is not None and self.pool.keep_positions:
                self.position = position_of(payload)
        elif payload.startswith(b'{"type":"welcome"') and self.subscribe is not None:
            self.send(self.subscribe)
        elif payload.startswith(b'{"type":"subscribed"') and not self.ready.done():
            self.ready.set_result(None)
        elif payload.startswith(b'{"type":"ping"'):
            self.send(payload.replace(b"ping", b"pong", 1))

    def send(self, payload: bytes, opcode: int = 1) -> None:
        """Send a frame masked with zeros, which is a valid mask."""
        size = len(payload)
        head = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self.transport.write(bytes([0x80 | opcode]) + head + b"\0\0\0\0" + payload)

    def connection_lost(self, _error: Exception | None) -> None:
        self.mark_closed()

    def mark_closed(self) -> None:
        if not self.closed.done():
            self.closed.set_result(time.perf_counter())


def position_of(payload: bytes) -> int:
    start = payload.index(b'"position":') + 11
    return int(payload[start : payload.index(b",", start)])


class ClientPool:
    """Many readers, and the time at which each message arrived at each of them."""

    def __init__(self, port: int, extra: str, subscribe: bytes | None) -> None:
        self.port, self.extra, self.subscribe = port, extra, subscribe
        self.readers: list[Reader] = []
        self.sent: list[float] = []
        self.latencies: list[float] = []
        self.total = 0
        self.base = 0
        self.retries = 0
        self.keep_positions = False
        self.unread: list[tuple[Reader, bytes, float]] | None = None
        self.data_arrived = asyncio.Event()
        self.wanted: tuple[int, asyncio.Future[None]] | None = None

    def record(self, number: int, arrived: float) -> None:
        """Record that a reader received its frame of this number at `arrived`."""
        self.total += 1
        if self.base < number <= self.base + len(self.sent):
            self.latencies.append(arrived - self.sent[number - self.base - 1])
        if self.wanted is not None and self.total >= self.wanted[0]:
            wanted, self.wanted = self.wanted, None
            wanted[1].set_result(None)

    @contextlib.contextmanager
    def deferred_reading(self) -> Iterator[None]:
        """Within this context record only arrival times, and parse after a `burst`.

        All clients share one core, so parsing for one client would delay the arrival measured at another.
        """
        self.unread = []
        yield
        self.read()
        self.unread = None

    async def burst(self, until: float) -> None:
        """Receive until the time `until`, without sleeping after the first byte.

        Waking a sleeping process between two frames costs an interrupt that is charged to the server's core.
        """
        self.data_arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until - time.perf_counter()):
                await self.data_arrived.wait()
        while time.perf_counter() < until:
            await asyncio.sleep(0)
        self.read()

    def read(self) -> None:
        """Parse the data that has arrived."""
        unread, self.unread = self.unread or [], []
        for reader, data, arrived in unread:
            reader.read(data, arrived)

    async def until(self, total: int) -> None:
        """Wait until that many frames have arrived in total."""
        if self.total < total:
            done = asyncio.get_running_loop().create_future()
            self.wanted = (total, done)
            await asyncio.wait_for(done, TIMEOUT)

    async def connect(self, number: int, at_once: int = 50) -> float:
        """Connect that many readers; returns the seconds it took."""
        gate, started = asyncio.Semaphore(at_once), time.perf_counter()

        async def one() -> Reader:
            attempt = 0
            while True:
                try:
                    async with gate:
                        return await self._reader()
                except (Refused, OSError):
                    if attempt == ATTEMPTS:
                        raise
                self.retries += 1
                await asyncio.sleep(random.uniform(0, min(30.0, 0.5 * 2**attempt)))  # as real clients do
                attempt += 1

        self.readers += await asyncio.gather(*(one() for _ in range(number)))
        return time.perf_counter() - started

    async def _reader(self) -> Reader:
        _, reader = await asyncio.get_running_loop().create_connection(
            lambda: Reader(self, handshake(self.port, self.extra), self.subscribe), "127.0.0.1", self.port
        )
        await asyncio.wait_for(reader.ready, TIMEOUT)
        return reader

    def close(self) -> None:
        for reader in self.readers:
            reader.transport.abort()
        self.readers.clear()


def handshake(port: int, extra: str) -> str:
    return (
        f"GET /ws/admin/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"{extra}\r\n"
    )


SUBSCRIBE = b'{"type":"subscribe","id":1,"topics":["users"]}'
PROTOCOL = "Sec-WebSocket-Protocol: formease.admin.v1\r\n"


@contextlib.asynccontextmanager
async def server_process(kind: str) -> AsyncIterator[tuple[int, Any]]:
    """Run a server process on the first core; yields its port and its control connection."""
    port, control = free_port(), free_port()
    ours = ["benchmarks.load", "--serve", kind, "--port", "{port}", "--control", str(control)]
    process = subprocess.Popen(
        [sys.executable, "-m", *(part.format(port=port) for part in SERVERS.get(kind, ours))],
        cwd=PROJECT,
        env=os.environ | {"CONTROL_PORT": str(control)},
    )
    os.sched_setaffinity(process.pid, {CORES[0]})
    try:
        connection = await connected(control, process)
        with contextlib.suppress(OSError):
            await connected(port, process)
        yield port, connection
    finally:
        process.terminate()  # granian also has to stop its child process
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 2)
        process.kill()
        process.wait()


async def connected(port: int, process: subprocess.Popen[bytes]) -> Any:
    for _ in range(2400):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.poll() is not None:
                raise RuntimeError("the server did not start") from None
            await asyncio.sleep(0.05)
    raise RuntimeError("the server did not start")


async def usage(control: Any) -> dict[str, float]:
    reader, writer = control
    writer.write(b"c")
    answer: dict[str, float] = json.loads(await reader.readline())
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")
