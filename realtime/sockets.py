"""One connected socket: its subscriptions, the frames in transit, and its remaining credit.

A send starts in the hub's turn of the event loop, without a task. A server with buffer space finishes at once
(uvicorn, Daphne); a server that suspends turns only this socket's send into a task, so a full socket never stalls the
next one. Credit bounds the frames in transit even under servers that never suspend: an event frame counts until the
client acknowledges it. A socket without credit *falls behind*: it leaves the live index and keeps only a position. Its
events stay in the hub's ring or in the store, so no socket has a queue of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable
from typing import Final, NamedTuple

import msgspec
from django.utils import timezone

from realtime import asgi, auth, conf, frames, publish, ready_frames, topics

logger = logging.getLogger(__name__)

# Frames other than events that may queue behind a suspended send.
MAX_QUEUED: Final = 512
# Seconds for `goodbye` and the close to reach a client that does not read; seconds for the close alone.
GOODBYE_TIMEOUT: Final = 5.0
CLOSE_TIMEOUT: Final = 0.5
_closing: Final[set[asyncio.Task[None]]] = set()  # the event loop keeps only weak references to tasks


class SocketClosed(Exception):
    """The socket closed while a task waited for it."""


class Grant(NamedTuple):
    """The right to follow one topic name, and the view of its events that goes with it."""

    topic: topics.Topic
    projection_key: str


class Behind:
    """Topic names of a socket that are complete only up to `position` and still have to catch up.

    `scanned` counts the events read from the store for them. `request` and `denied` belong to the subscribe frame that
    is still to be answered; names that fell behind have no request.
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


class Socket:
    """A connected client. It belongs to the event loop; only methods marked `async` ever suspend."""

    __slots__ = (
        "__weakref__",
        "_limits",
        "_loop",
        "_out_of_credit",
        "_queued",
        "_send",
        "_sending",
        "_waiter",
        "_write",
        "address",
        "announced",
        "behind",
        "catch_up_task",
        "close_code",
        "grants",
        "hidden",
        "id",
        "identity",
        "live",
        "open",
        "pending_values",
        "ping_number",
        "pinged_at",
        "pong_number",
        "receive_timeout",
        "recheck_at",
        "recheck_pending",
        "recheck_task",
        "rechecks",
        "sent",
        "stalled_since",
        "unacked",
        "unacked_bytes",
        "unanswered_bytes",
    )

    def __init__(
        self,
        connection_id: str,
        identity: auth.Identity,
        address: str,
        send: asgi.Send,
        limits: conf.Limits,
        write: ready_frames.Write | None = None,
    ) -> None:
        self.id = connection_id
        self.identity = identity
        self.address = address
        self.open = True
        self.close_code: int | None = None
        self.receive_timeout: asyncio.Timeout | None = None  # around the loop that receives the client's frames
        # subscriptions
        self.grants: dict[str, Grant] = {}
        self.live: set[str] = set()
        self.behind: list[Behind] = []
        self.catch_up_task: asyncio.Task[None] | None = None
        # identity checks
        self.recheck_pending = False  # no event is sent until the identity has been read again
        self.rechecks = 0
        self.recheck_task: asyncio.Task[None] | None = None
        # frames in transit
        self.sent = 0  # position of the last event frame sent
        self.announced = 0  # the highest position up to which a frame has named topics complete
        self.unacked: deque[ready_frames.EncodedFrame] = deque()
        self.unacked_bytes = 0
        self.stalled_since: float | None = None
        # ephemeral values
        self.hidden = False
        self.pending_values: dict[tuple[str, str], publish.Value] = {}
        self.unanswered_bytes = 0  # bytes of values since the client's last `ack` or `pong`
        # heartbeat
        self.ping_number = self.pong_number = 0
        self.pinged_at = 0.0
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.recheck_at = 0.0
        self.schedule_recheck()
        self._send = send
        self._write = write
        self._sending: asyncio.Task[None] | None = None
        self._queued: deque[asgi.Message] = deque()
        self._out_of_credit = False
        self._waiter: asyncio.Future[None] | None = None

    def now(self) -> float:
        """The event loop's clock."""
        return self._loop.time()

    def schedule_recheck(self) -> None:
        """Set the time of the next identity check: when the session or key ends, or after an interval.

        The interval is `recheck_every`; `look_every` for an identity without rows that could be watched.
        """
        wait = self._limits.recheck_every if self.identity.rows else self._limits.look_every
        if self.identity.ends_at is not None:
            left = (self.identity.ends_at - timezone.now()).total_seconds()
            wait = min(wait, max(left, self._limits.tick))
        self.recheck_at = self.now() + wait

    # -- credit ------------------------------------------------------------------------------------------------------

    @property
    def can_send(self) -> bool:
        """True when another event frame may be sent right now."""
        return self.open and not self._out_of_credit and self._sending is None and not self.recheck_pending

    @property
    def send_pending(self) -> bool:
        """True while a send is suspended because the client does not read."""
        return self._sending is not None

    async def wait_until_sendable(self) -> None:
        """Wait until another event frame may be sent. Raises `SocketClosed` when the socket closes instead."""
        while self.open and not self.can_send:
            self._waiter = self._loop.create_future()
            await self._waiter
        if not self.open:
            raise SocketClosed

    def acknowledge(self, position: int) -> None:
        """Return the credit of every frame up to the newest one of this position."""
        self.unanswered_bytes = 0
        for index in range(len(self.unacked) - 1, -1, -1):
            if self.unacked[index].position == position:
                break
        else:
            return
        for _ in range(index + 1):
            self.unacked_bytes -= self.unacked.popleft().size
        self._progressed()
        if self._out_of_credit and self._has_credit():
            self._out_of_credit = False
            self._wake()

    def recheck_finished(self) -> None:
        """Allow events again: the identity has been read after the last revocation."""
        self.recheck_pending = False
        self._wake()

    def _has_credit(self) -> bool:
        """True when at most half the window is in use, so a full socket catches up in batches."""
        return (
            len(self.unacked) <= self._limits.window_frames // 2
            and self.unacked_bytes <= self._limits.window_bytes // 2
        )

    def _stalled(self) -> None:
        if self.stalled_since is None:
            self.stalled_since = self._loop.time()

    def _progressed(self) -> None:
        if self.stalled_since is not None:
            self.stalled_since = self._loop.time()

    def _wake(self) -> None:
        if self.can_send:
            self.stalled_since = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- sending -----------------------------------------------------------------------------------------------------

    def send_event(self, frame: ready_frames.EncodedFrame) -> bool:
        """Send an event frame. Returns False when no further one may follow for now."""
        self.sent = frame.position
        self.unacked.append(frame)
        self.unacked_bytes += frame.size
        if len(self.unacked) >= self._limits.window_frames or self.unacked_bytes >= self._limits.window_bytes:
            self._out_of_credit = True
            self._stalled()
        if self._sending is not None:  # an earlier frame is still suspended: keep the order
            self._queued.append(asgi.text_message(frame.text))
            return False
        if self._write is None or not self._write(frame.raw):
            self._send_now(asgi.text_message(frame.text))
        return not self._out_of_credit and self._sending is None

    def send_frame(self, frame: msgspec.Struct) -> None:
        """Send a frame other than an event, in order with the events."""
        self.send_text(frames.encode(frame))

    def send_text(self, text: str) -> None:
        """Send a frame that is already encoded; see `send_frame`."""
        message = asgi.text_message(text)
        if self._sending is None:
            self._send_now(message)
        elif len(self._queued) < MAX_QUEUED:
            self._queued.append(message)
        else:  # the client keeps sending requests and never reads the answers
            self.close_soon(frames.SLOW, "slow reader", retry_ms=self._limits.retry_max_ms)

    def _send_now(self, message: asgi.Message) -> None:
        """Send at once; when the server suspends, the rest becomes a task of this socket."""
        if not self.open:
            return
        try:
            rest = asgi.start_send(self._send, message)
        except Exception as error:
            self._failed(error)
        else:
            if rest is not None:
                self._stalled()
                self._sending = self._loop.create_task(self._finish(rest))

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

    # -- closing -----------------------------------------------------------------------------------------------------

    def mark_closed(self) -> None:
        """Send nothing more, and wake the task that waits to send."""
        self.open = False
        self._write = None
        self._queued.clear()
        self._wake()

    def _failed(self, error: Exception) -> None:
        """Close after a failed send. An `OSError` means that the client is gone, which is normal and not logged.

        Other errors are logged in one line without a traceback: uvicorn raises `RuntimeError` once its own keepalive
        has ended a connection, and many connections may end at once.
        """
        if not isinstance(error, OSError):
            logger.warning("a send failed, its socket is closed: %r", error)
        self.mark_closed()
        self._stop_receiving()

    def _stop_receiving(self) -> None:
        """End the loop that receives the client's frames, and with it the application's coroutine."""
        if self.receive_timeout is not None:
            self.receive_timeout.reschedule(self._loop.time())

    def close_soon(self, code: int, reason: str, retry_ms: int | None = None) -> asyncio.Task[None] | None:
        """Send `goodbye` and close, in a task of its own; no frame follows `goodbye`."""
        if not self.open:
            return None
        self.mark_closed()
        self.close_code = code
        task = self._loop.create_task(self._say_goodbye(code, reason, retry_ms))
        _closing.add(task)
        task.add_done_callback(_closing.discard)
        return task

    async def _say_goodbye(self, code: int, reason: str, retry_ms: int | None) -> None:
        """Send `goodbye`, then close; abort the connection when the client does not read even that."""
        sending = self._sending
        text = frames.encode(frames.Goodbye(code=code, reason=reason, retry_ms=retry_ms))
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                if sending is not None:
                    await asyncio.wait([sending])
                await self._send(asgi.text_message(text))
                await self._close(code, reason)
        except Exception:
            self.abort()
            self._stop_receiving()

    async def _close(self, code: int, reason: str) -> None:
        """Close, and end the receiving loop ourselves under granian.

        The other servers then deliver `websocket.disconnect`. granian does not: it closes only once the application
        no longer receives.
        """
        message: asgi.Message = {"type": "websocket.close", "code": code, "reason": reason}
        closing = asyncio.ensure_future(self._send(message))
        closed, _ = await asyncio.wait([closing], timeout=CLOSE_TIMEOUT)
        if not closed:
            self._stop_receiving()
        await closing

    def abort(self) -> None:
        """Drop the connection without a closing handshake, where the server exposes its transport (ASGI does not)."""
        if self._sending is not None:
            self._sending.cancel()
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        with contextlib.suppress(Exception):
            transport.abort()  # type: ignore[union-attr]
