"""A TCP and HTTP proxy between a browser and the server that makes chosen requests fail."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

HEAD_END: Final = b"\r\n\r\n"
PORTAL: Final = b"<!doctype html><title>Guest network</title><h1>Accept the terms to continue</h1>"


@dataclass(eq=False)
class Fault:
    """A fault for at most `times` requests that match `method`, `path` and `body` (regular expressions), by `kind`:

    drop       the connection is closed, without (`forward=False`) or after the server has answered
    half_open  nothing is ever answered, and the connection stays open
    hold       the server's answer waits until `release` is called
    cut        the connection is closed in the middle of the server's answer
    answer     `reply` is the answer; with `forward` the server gets the request nevertheless
    """

    kind: str
    path: str = ""
    method: str = ""
    times: int | None = None
    forward: bool = False
    reply: bytes = b""
    body: bytes = b""
    hits: int = 0
    requests: list[bytes] = field(default_factory=list)
    _hit: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def matches(self, method: str, path: str, body: bytes) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        is_found = re.search(self.path, path) is not None and re.search(self.body, body) is not None
        return self.method in ("", method) and is_found

    def hit(self, request: bytes) -> None:
        self.hits += 1
        self.requests.append(request)

    def reached(self) -> None:
        """Marks that a request has got as far as this fault lets it."""
        self._hit.set()

    def wait(self, seconds: float = 30) -> None:
        """Waits until this fault has handled a request, at most `seconds`."""
        assert self._hit.wait(seconds), f"no request for {self.method} {self.path}"

    def release(self) -> None:
        self._released.set()

    async def released(self) -> None:
        await asyncio.to_thread(self._released.wait)


def response(status: int, body: bytes, content_type: str = "text/html; charset=utf-8") -> bytes:
    """An HTTP response as of a gateway or portal in place of this application."""
    phrase = HTTPStatus(status).phrase
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


class FaultProxy:
    """Serves `url` and forwards each request to `target`, one connection each, unless a fault matches.

    Upgrades are forwarded in both directions until one side closes. A fault set later takes precedence. `port` 0 is a
    free one; proxies one after the other on the same port are one address, whose static files a browser keeps.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target, self.port = target, port
        self._faults: list[Fault] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself has weak references only
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    def stop(self) -> None:
        self.heal()
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- faults -----------------------------------------------------------------------------------------------------

    def drop(self, path: str = "", method: str = "", *, times: int | None = None, forward: bool = False) -> Fault:
        return self._add(Fault("drop", path, method, times, forward=forward))

    def half_open(self, path: str = "", method: str = "", *, times: int | None = None) -> Fault:
        return self._add(Fault("half_open", path, method, times))

    def hold(self, path: str = "", method: str = "", *, times: int | None = None) -> Fault:
        return self._add(Fault("hold", path, method, times, forward=True))

    def cut(self, path: str = "", method: str = "", *, times: int | None = None) -> Fault:
        return self._add(Fault("cut", path, method, times, forward=True))

    def answer(
        self,
        path: str = "",
        method: str = "",
        *,
        status: int = 200,
        body: bytes = PORTAL,
        content_type: str = "text/html; charset=utf-8",
        times: int | None = None,
        forward: bool = False,
        reads: bytes = b"",
    ) -> Fault:
        """Answers matching requests with this response, by default the HTML page of a captive portal.

        reads  only requests whose body matches this
        """
        return self._add(Fault("answer", path, method, times, forward, response(status, body, content_type), reads))

    def block_upgrades(self) -> Fault:
        return self._add(Fault("answer", "^/ws/", reply=response(403, b"no upgrade", "text/plain")))

    def heal(self, *faults: Fault) -> None:
        """Removes these faults, or all; requests that they hold are answered."""
        for fault in faults or tuple(self._faults):
            fault.release()
            self._faults.remove(fault)

    def _add(self, fault: Fault) -> Fault:
        self._faults.insert(0, fault)
        return fault

    # -- connections ------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        for listener in self._server.sockets:
            self._loop.remove_reader(listener.fileno())
        await _turns()  # connections that were just accepted get their tasks, which fails once the server is closed
        self._server.close()
        while tasks := tuple(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for transport in self._transports:
            transport.abort()
        await _turns()  # the loop closes the sockets of aborted transports in a later turn

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source, sink = await asyncio.open_connection("127.0.0.1", self.target)
        self._transports.add(sink.transport)
        return source, sink

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._transports.add(writer.transport)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves a request: 1 read it  2 choose the fault  3 forward the request  4 answer as the fault demands."""
        head = await reader.readuntil(HEAD_END)  # 1
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length[1])) if length else b""
        method, path, _version = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        fault = next((one for one in self._faults if one.matches(method, path, body)), None)  # 2
        if fault is not None:
            fault.hit(head + body)
        if fault is None and re.search(rb"\r\nupgrade: *websocket", head, re.IGNORECASE):
            await self._tunnel(head, reader, writer)
            return
        answer = b""
        if fault is None or fault.forward:
            answer = await self._forward(head, body)  # 3
        if fault is not None:
            fault.reached()
            if fault.kind == "half_open":
                await reader.read()  # until the browser gives up
            if fault.kind == "hold":
                await fault.released()
            answer = _changed(fault, answer)
        writer.write(answer)  # 4
        await writer.drain()

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        head = re.sub(rb"\r\n(connection|keep-alive):[^\r]*", b"", head, flags=re.IGNORECASE)
        source, sink = await self._connect()
        try:
            sink.write(head[:-2] + b"Connection: close" + HEAD_END + body)
            return await source.read()
        finally:
            sink.close()

    async def _tunnel(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards an upgraded connection with the server's origin, because the server accepts no other."""
        origin = f"\r\nOrigin: http://127.0.0.1:{self.target}".encode()
        source, sink = await self._connect()
        sink.write(re.sub(rb"\r\norigin:[^\r]*", origin, head, flags=re.IGNORECASE))
        pumps = [asyncio.create_task(_pump(reader, sink)), asyncio.create_task(_pump(source, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            sink.close()


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


CHANGES: Final[dict[str, Callable[[Fault, bytes], bytes]]] = {
    "drop": lambda _fault, _answer: b"",
    "cut": lambda _fault, answer: answer[: answer.index(HEAD_END) + 6],
    "answer": lambda fault, _answer: fault.reply,
}


def _changed(fault: Fault, answer: bytes) -> bytes:
    change = CHANGES.get(fault.kind)
    return answer if change is None else change(fault, answer)
