"""A Python client with the same protocol and resume as the browser's, on asyncio and `websockets`.

    async with client.Client("wss://admin.example.com/ws/admin/", token="fe_….…") as live:
        await live.follow("users", "form:1b2c…")
        async for frame in live:
            if isinstance(frame, frames.EventFrame):
                print(frame.position, frame.event, frame.data)

It reconnects without limit, with full-jitter back-off, resumes from its positions, acknowledges as it reads, and checks
on every frame that none was missed. `Reset` and `Ephemeral` frames come from the same iterator.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Final, TypeAlias

import msgspec
from websockets.asyncio import client as ws
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Origin, Subprotocol

from realtime import frames

Item: TypeAlias = frames.EventFrame | frames.Ephemeral | frames.Reset | frames.PresenceFrame | frames.Subscribed

# After this many seconds connected, the back-off starts again at its minimum.
STABLE_SECONDS: Final = 30.0
# Frames that may queue for a slow consumer of the iterator before the client stops reading the socket.
MAX_QUEUED: Final = 256


class Stopped(Exception):
    """The server closed with a code that forbids reconnecting (4500-4999), or refused the handshake."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Missed(Exception):
    """A frame's `previous` is not the position of the frame before it: one was lost."""


class Client:
    """One resumable connection. `state` is connecting, live, reconnecting or stopped.

    `epoch` and `positions` cover the items that the loop over this client has finished. Save them and pass them to a
    later client, and it resumes where this one ended.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        cookie: str | None = None,
        origin: str | None = None,
        epoch: str | None = None,
        positions: dict[str, int] | None = None,
        acknowledge: bool = True,
    ) -> None:
        self.url = url
        self.state = "connecting"
        self.epoch = epoch
        self.positions: dict[str, int] = dict(positions or {})
        self.welcome: frames.Welcome | None = None
        self.goodbye: frames.Goodbye | None = None
        self.connected = 0
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if cookie:
            self._headers["Cookie"] = cookie
        self._origin = Origin(origin) if origin else None
        self._acknowledge = acknowledge
        self._wanted: dict[str, int | None] = dict(self.positions)  # positions received, including items still queued
        self._earlier: dict[str, str] = {}  # topics whose positions belong to an earlier history
        self._following: set[str] = set()  # confirmed on this connection
        self._connection: ws.ClientConnection | None = None
        self._items: asyncio.Queue[Item | Exception] = asyncio.Queue(MAX_QUEUED)
        self._running: asyncio.Task[None] | None = None
        self._requests = 0
        self._previous = 0
        self._unacked_frames = self._unacked_bytes = 0

    async def __aenter__(self) -> Client:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.state = "stopped"
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def follow(self, *names: str, since: frames.Since | None = None) -> None:
        """Follow more topics, from `since`, else from their `positions`, else from now."""
        for name in names:
            if since is not None:
                self._wanted[name], self.epoch = since.position, since.epoch
                self._earlier.pop(name, None)
            else:
                self._wanted.setdefault(name, None)
        await self._ask(names)

    async def __aiter__(self) -> AsyncIterator[Item]:
        """The items of all topics, without end. Raises `Stopped` or `Missed`."""
        while True:
            item = await self._items.get()
            if isinstance(item, Exception):
                raise item
            yield item
            self._finished(item)

    def _finished(self, item: Item) -> None:
        if isinstance(item, frames.EventFrame | frames.Subscribed):
            self.positions.update(dict.fromkeys(item.topics, item.position))
        elif isinstance(item, frames.Reset):
            for name in item.topics:
                self.positions.pop(name, None)

    async def send(self, frame: msgspec.Struct) -> None:
        """Send a frame such as presence; dropped when there is no connection."""
        if self._connection is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._connection.send(frames.encode(frame))

    def drop(self) -> None:
        """Cut the connection, as a network failure would. The client reconnects by itself."""
        if self._connection is not None:
            self._connection.transport.abort()

    # -- the connection ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect, read until the connection ends, pause, repeat."""
        attempt, loop = 0, asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self._connect_once()
            except (Stopped, Missed) as end:
                self.state = "stopped"
                await self._items.put(end)
                return
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                pass
            self._connection, self.state = None, "reconnecting"
            attempt = 0 if loop.time() - started > STABLE_SECONDS else attempt + 1
            await asyncio.sleep(self._pause(attempt))

    def _pause(self, attempt: int) -> float:
        """The delay before the next attempt, in seconds: the server's `retry_ms`, or full jitter within its limits."""
        if self.goodbye is not None and self.goodbye.retry_ms is not None:
            return self.goodbye.retry_ms / 1000
        low, high = (500, 20_000) if self.welcome is None else _retry(self.welcome)
        return random.uniform(0.0, min(high, low * 2.0 ** min(attempt, 10))) / 1000  # noqa: S311

    async def _connect_once(self) -> None:
        self.goodbye = None
        try:
            connecting = ws.connect(
                self.url,
                origin=self._origin,
                additional_headers=self._headers,
                subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
                compression=None,
                max_size=4 * 1024 * 1024,
                open_timeout=10,
                ping_interval=None,
            )
            async with connecting as connection:
                await self._read(connection)
        except InvalidStatus as refused:
            if refused.response.status_code in {401, 403}:
                raise Stopped(refused.response.status_code, "handshake refused") from refused
            raise
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            if 4500 <= code <= 4999:
                reason = self.goodbye.reason if self.goodbye else ""
                raise Stopped(code, reason) from closed
            raise

    async def _read(self, connection: ws.ClientConnection) -> None:
        self._previous = self._unacked_frames = self._unacked_bytes = 0
        self._following.clear()
        while True:
            silence = None if self.welcome is None else self.welcome.heartbeat_ms / 1000 * 1.5 + 5
            async with asyncio.timeout(silence):  # a server that sends no ping in time is gone
                text = await connection.recv()
            frame = frames.decode_server(text)
            if isinstance(frame, frames.Welcome):
                await self._welcomed(connection, frame)
            elif isinstance(frame, frames.EventFrame):
                await self._received(connection, frame, len(text))
            else:
                await self._handle(connection, frame)

    async def _welcomed(self, connection: ws.ClientConnection, frame: frames.Welcome) -> None:
        self.welcome, self._connection, self.state = frame, connection, "live"
        self.connected += 1
        await self._ask(self._wanted)

    async def _received(self, connection: ws.ClientConnection, frame: frames.EventFrame, size: int) -> None:
        if frame.previous != self._previous:
            raise Missed(f"{frame.position} follows {frame.previous}, but the last frame was {self._previous}")
        self._previous = frame.position
        await self._items.put(frame)
        self._wanted.update(dict.fromkeys(frame.topics, frame.position))
        await self._return_credit(connection, frame.position, size)

    async def _return_credit(self, connection: ws.ClientConnection, position: int, size: int) -> None:
        assert self.welcome is not None
        credit = self.welcome.limits.credit
        self._unacked_frames += 1
        self._unacked_bytes += size
        if self._unacked_frames >= credit.ack_frames or self._unacked_bytes >= credit.ack_bytes:
            self._unacked_frames = self._unacked_bytes = 0
            if self._acknowledge:
                await connection.send(frames.encode(frames.Ack(position=position)))

    async def _handle(self, connection: ws.ClientConnection, frame: frames.ServerFrame) -> None:
        match frame:
            case frames.Subscribed():
                assert self.welcome is not None
                self._continue_as(frame.epoch or self.epoch or self.welcome.epoch, frame.topics)
                self._following.update(frame.topics)
                self._wanted.update(dict.fromkeys(frame.topics, frame.position))
                for denied in frame.denied:
                    self._wanted.pop(denied.topic, None)
                await self._items.put(frame)
            case frames.Ping():
                await connection.send(frames.encode(frames.Pong(n=frame.n)))
                if frame.epoch:
                    self._continue_as(frame.epoch, self._following)
                self._complete(frame.position)
            case frames.Reset():
                self._continue_as(frame.epoch, frame.topics)
                for name in frame.topics:
                    self._wanted.pop(name, None)
                    self._earlier.pop(name, None)
                await self._items.put(frame)
            case frames.Goodbye():
                self.goodbye = frame
            case frames.Ephemeral() | frames.PresenceFrame():
                await self._items.put(frame)

    def _continue_as(self, epoch: str, names: Iterable[str]) -> None:
        """The positions of these topics belong to `epoch` from now on, those of others still to an earlier one."""
        if self.epoch is not None and epoch != self.epoch:
            for name in self._wanted:
                self._earlier.setdefault(name, self.epoch)
        self.epoch = epoch
        for name in names:
            self._earlier.pop(name, None)

    def _complete(self, position: int) -> None:
        """Record that every followed topic is complete up to `position`, even without events."""
        for name in self._following & self._wanted.keys():
            self._wanted[name] = max(position, self._wanted[name] or 0)
            if self._items.empty():
                self.positions[name] = max(position, self.positions.get(name, 0))

    async def _ask(self, names: Iterable[str]) -> None:
        """Subscribe, with one frame per starting position."""
        if self._connection is None:
            return
        groups: dict[frames.Since | None, list[str]] = {}
        for name in names:
            position, epoch = self._wanted.get(name), self._earlier.get(name, self.epoch)
            since = None if position is None or epoch is None else frames.Since(epoch, position)
            groups.setdefault(since, []).append(name)
        for since, group in groups.items():
            self._requests += 1
            await self.send(frames.Subscribe(id=self._requests, topics=group, since=since))


def _retry(welcome: frames.Welcome) -> tuple[int, int]:
    return welcome.limits.retry_min_ms, welcome.limits.retry_max_ms
