"""One socket as the hub sees it: what it may follow, what is on its way, and how much more it may be sent.

Sending is driven once, right here on the hub's turn. A server with room finishes at once (uvicorn, Daphne); a server
that makes us wait suspends, and only then does the send become a task of this socket alone, so one full socket never
stalls the next. Credit bounds what is on its way even on servers that never suspend: an event frame counts until the
client acknowledges it. A socket without credit *falls behind*: it leaves the live index and remembers only a position.
Its events wait in the hub's ring or in the store, not in memory of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterator, MutableMapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from django.utils import timezone

from realtime import auth, conf, frames, publish, ready_frames, topics

logger = logging.getLogger(__name__)

AsgiMessage: TypeAlias = MutableMapping[str, Any]
AsgiSend: TypeAlias = Callable[[AsgiMessage], Awaitable[None]]

# Answers to the client's own frames that may queue behind a suspended send.
MAX_QUEUED: Final = 512
# How long a farewell may take to reach a client that does not read.
FAREWELL: Final = 5.0
CLOSING: Final = 0.5
_farewells: Final[set[asyncio.Task[None]]] = set()  # the loop itself holds tasks weakly


def _message(text: str) -> AsgiMessage:
    return {"type": "websocket.send", "text": text}


class Gone(Exception):
    """The socket closed meanwhile."""


class Packet:
    """An encoded event frame, shared by every socket that gets the same bytes. `size` is in characters: browsers count
    those, too, before they acknowledge.
    """

    __slots__ = ("frame", "position", "size", "text")

    def __init__(self, position: int, text: str) -> None:
        self.position = position
        self.text = text
        self.frame = ready_frames.text_frame(text)
        self.size = len(text)


class Grant(NamedTuple):
    """The right to follow one topic name, and the view of its events that goes with it."""

    topic: topics.Topic
    projection_key: str


class Behind:
    """Topic names of a socket that are complete up to `position` and still have to catch up.

    `scanned` counts the events read from the store for them. `request` and `denied` answer the subscribe frame that
    asked; names that fell behind have no request.
    """

    __slots__ = ("denied", "names", "position", "request", "scanned")

    def __init__(
        self,
        names: set[str],
        position: int,
        request: frames.RequestId | None = None,
        denied: list[frames.Denied] | None = None,
    ) -> None:
        self.names = names
        self.position = position
        self.request = request
        self.denied = denied or []
        self.scanned = 0


class _Resumed:
    """Carries on, inside a task, with a send that was driven by hand up to its first suspension."""

    def __init__(self, steps: Iterator[Any], waiting_for: Any) -> None:
        self._steps, self._waiting_for = steps, waiting_for

    def __await__(self) -> Generator[Any, Any, None]:
        waiting_for, failure = self._waiting_for, None
        while True:
            try:
                yield waiting_for
                failure = None
            except BaseException as error:
                failure = error
            try:
                waiting_for = next(self._steps) if failure is None else self._throw(failure)
            except StopIteration:
                return

    def _throw(self, failure: BaseException) -> Any:
        """Into a coroutine; what granian gives instead of one cannot be told."""
        if isinstance(self._steps, Generator) or hasattr(self._steps, "throw"):
            return self._steps.throw(failure)
        raise failure


class Socket:
    """A connected client. Lives on the event loop; every method is one turn unless it says `async`."""

    __slots__ = (
        "__weakref__",
        "_full",
        "_limits",
        "_loop",
        "_queued",
        "_send",
        "_sending",
        "_waiter",
        "_write",
        "address",
        "behind",
        "check_at",
        "close_code",
        "grants",
        "held",
        "hidden",
        "id",
        "identity",
        "listening",
        "live",
        "open",
        "ping_number",
        "pinged_at",
        "pong_number",
        "rechecking",
        "rechecks",
        "sent",
        "stalled_since",
        "unacked",
        "unacked_bytes",
        "unanswered",
        "values",
        "worker",
    )

    def __init__(
        self,
        connection_id: str,
        identity: auth.Identity,
        address: str,
        send: AsgiSend,
        limits: conf.Limits,
        write: ready_frames.Write | None = None,
    ) -> None:
        self.id = connection_id
        self.identity = identity
        self.address = address
        self.open = True
        self.close_code: int | None = None
        self.listening: asyncio.Timeout | None = None  # around whoever waits for the client's frames
        # what it follows
        self.grants: dict[str, Grant] = {}
        self.live: set[str] = set()
        self.behind: list[Behind] = []
        self.worker: asyncio.Task[None] | None = None
        self.held = False  # shown nothing until its permissions are checked again
        self.rechecks = 0
        self.rechecking: asyncio.Task[None] | None = None
        # what is on its way
        self.sent = 0
        self.unacked: deque[Packet] = deque()
        self.unacked_bytes = 0
        self.stalled_since: float | None = None
        # values of the moment
        self.hidden = False
        self.values: dict[tuple[str, str], publish.Value] = {}
        self.unanswered = 0  # bytes of values since the client last said anything
        # heart
        self.ping_number = self.pong_number = 0
        self.pinged_at = 0.0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.check_at = 0.0
        self.check_later()
        self._send = send
        self._write = write
        self._sending: asyncio.Task[None] | None = None
        self._queued: deque[AsgiMessage] = deque()
        self._full = False
        self._waiter: asyncio.Future[None] | None = None

    def now(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def check_later(self) -> None:
        """Plan the next look at who this is: when the session or key ends, or after a while. Soon where there are no
        rows to watch.
        """
        wait = self._limits.recheck_every if self.identity.rows else self._limits.look_every
        if self.identity.ends_at is not None:
            left = (self.identity.ends_at - timezone.now()).total_seconds()
            wait = min(wait, max(left, self._limits.tick))
        self.check_at = self.now() + wait

    # -- room --------------------------------------------------------------------------------------------------------

    @property
    def room(self) -> bool:
        """May another event frame be sent right now?"""
        return self.open and not self._full and self._sending is None and not self.held

    @property
    def stuck(self) -> bool:
        """Is a send still waiting for the client to read?"""
        return self._sending is not None

    async def wait_for_room(self) -> None:
        """Until another event may be sent; raises `Gone` when the socket closes instead."""
        while self.open and not self.room:
            self._waiter = self._loop.create_future()
            await self._waiter
        if not self.open:
            raise Gone

    def acknowledge(self, position: int) -> None:
        """The client has read up to the newest frame of this position: its credit returns."""
        self.unanswered = 0
        for index in range(len(self.unacked) - 1, -1, -1):
            if self.unacked[index].position == position:
                break
        else:
            return
        for _ in range(index + 1):
            self.unacked_bytes -= self.unacked.popleft().size
        self._progressed()
        if self._full and self._has_credit():
            self._full = False
            self._wake()

    def release(self) -> None:
        """The recheck is over."""
        self.held = False
        self._wake()

    def _has_credit(self) -> bool:
        """Back to half the window, so that a full socket catches up in stretches rather than frame by frame."""
        return (
            len(self.unacked) <= self._limits.window_frames // 2
            and self.unacked_bytes <= self._limits.window_bytes // 2
        )

    def _progressed(self) -> None:
        if self.stalled_since is not None:
            self.stalled_since = self._loop.time()

    def _wake(self) -> None:
        if self.room:
            self.stalled_since = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- sending -----------------------------------------------------------------------------------------------------

    def push(self, packet: Packet) -> bool:
        """Send an event frame; False when this was the last one there is room for."""
        self.sent = packet.position
        self.unacked.append(packet)
        self.unacked_bytes += packet.size
        if len(self.unacked) >= self._limits.window_frames or self.unacked_bytes >= self._limits.window_bytes:
            self._full = True
            self._stalled()
        if self._sending is not None:  # a frame of ours waits for the client to read: this one goes behind it
            self._queued.append(_message(packet.text))
            return False
        if self._write is None or not self._write(packet.frame):
            self._drive(_message(packet.text))
        return not self._full and self._sending is None

    def tell(self, frame: msgspec.Struct) -> None:
        """Send a frame that is not an event, in order with the events."""
        self.tell_text(frames.encode(frame))

    def tell_text(self, text: str) -> None:
        message = _message(text)
        if self._sending is None:
            self._drive(message)
        elif len(self._queued) < MAX_QUEUED:
            self._queued.append(message)
        else:  # it keeps asking and never reads
            self.close_soon(frames.SLOW, "slow reader", retry_ms=self._limits.retry_max_ms)

    def _drive(self, message: AsgiMessage) -> None:
        """Send now; when the server makes us wait, the rest becomes a task of this socket."""
        if not self.open:
            return
        try:
            steps = self._send(message).__await__()
            waiting_for = next(steps)
        except StopIteration:
            return
        except Exception as error:
            self._failed(error)
        else:
            self._stalled()
            self._sending = self._loop.create_task(self._finish(_Resumed(steps, waiting_for)))

    async def _finish(self, sending: Awaitable[None]) -> None:
        try:
            await sending
            while self._queued and self.open:
                await self._send(self._queued.popleft())
        except Exception as error:
            self._failed(error)
        finally:
            self._sending = None
            self._progressed()
            self._wake()

    def _stalled(self) -> None:
        if self.stalled_since is None:
            self.stalled_since = self._loop.time()

    # -- the end -----------------------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The connection is gone: nothing more is sent, whoever waits is told."""
        self.open = False
        self._write = None
        self._queued.clear()
        self._wake()

    def _failed(self, error: Exception) -> None:
        """A send raised: that the client has gone is an `OSError` and no news. Anything else is, in one line: uvicorn
        raises `RuntimeError` once its own keepalive has ended a connection, and that may be many at once.
        """
        if not isinstance(error, OSError):
            logger.warning("a send failed, its socket is given up: %r", error)
        self.lost()
        self._stop_listening()

    def _stop_listening(self) -> None:
        """End the wait for the client's frames, and with it the application's part in this socket."""
        if self.listening is not None:
            self.listening.reschedule(self._loop.time())

    def close_soon(self, code: int, reason: str, retry_ms: int | None = None) -> asyncio.Task[None] | None:
        """Say goodbye and close, without waiting here; nothing is sent after it."""
        if not self.open:
            return None
        self.lost()
        self.close_code = code
        task = self._loop.create_task(self._farewell(code, reason, retry_ms))
        _farewells.add(task)
        task.add_done_callback(_farewells.discard)
        return task

    async def _farewell(self, code: int, reason: str, retry_ms: int | None) -> None:
        """`goodbye`, then close; a client that does not read even that is cut off."""
        sending = self._sending
        text = frames.encode(frames.Goodbye(code=code, reason=reason, retry_ms=retry_ms))
        try:
            async with asyncio.timeout(FAREWELL):
                if sending is not None:
                    await asyncio.wait([sending])
                await self._send(_message(text))
                await self._close(code, reason)
        except Exception:
            self.abort()
            self._stop_listening()

    async def _close(self, code: int, reason: str) -> None:
        """The server tells the listener of the end. granian does not: it closes only when nobody listens any more."""
        message: AsgiMessage = {"type": "websocket.close", "code": code, "reason": reason}
        closing = asyncio.ensure_future(self._send(message))
        closed, _ = await asyncio.wait([closing], timeout=CLOSING)
        if not closed:
            self._stop_listening()
        await closing

    def abort(self) -> None:
        """Drop the connection without a closing handshake, where the server lets us (ASGI has no word for it)."""
        if self._sending is not None:
            self._sending.cancel()
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        with contextlib.suppress(Exception):
            transport.abort()  # type: ignore[union-attr]
