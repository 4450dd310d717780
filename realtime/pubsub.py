"""The hub's connections to Valkey: one subscription per process, and a small outbox for presence.

Valkey may be unreachable, half-open, or have dropped the subscription unnoticed, and the health check of redis-py never
reads the answer. So only silence counts: the hub expects a beacon each second and calls `reconnect` when none arrives.
An idle subscriber must never time out: redis-py 8 reads with a timeout of 5 s unless given `socket_timeout=None`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import hiredis
import msgspec
from redis.exceptions import RedisError

from events import notifications, valkey
from realtime import prometheus, publish

logger = logging.getLogger(__name__)

OUTBOX_SIZE: Final = 1000
# Seconds between two attempts to connect.
RETRY_MIN, RETRY_MAX = 0.1, 3.0


class Bus:
    """Sends messages to Valkey and receives them, until cancelled.

    `on_message` gets every message of a hub or relay, `on_notification` is called for each notification of a commit,
    `on_subscribed` for each confirmed subscription.
    """

    def __init__(
        self,
        on_message: Callable[[publish.Message], None],
        on_notification: Callable[[], None],
        on_subscribed: Callable[[], None],
    ) -> None:
        self._on_message, self._on_notification, self._on_subscribed = on_message, on_notification, on_subscribed
        self._outbox: asyncio.Queue[publish.Message] = asyncio.Queue(OUTBOX_SIZE)
        self._listening: asyncio.Task[None] | None = None
        self.up = False

    async def run(self) -> None:
        """Receive and send; each reconnects by itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_listening())
            group.create_task(self._keep_sending())

    def send(self, message: publish.Message) -> None:
        """Send to every hub, this one included. Dropped without Valkey: the senders repeat their messages."""
        try:
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            prometheus.DROPS.labels("outbox").inc()

    def reconnect(self) -> None:
        """Drop the connection and subscribe again, after a silence that was too long."""
        if self._listening is not None:
            self._listening.cancel()

    async def _keep_listening(self) -> None:
        pause = RETRY_MIN
        while True:
            self._listening = asyncio.create_task(self._listen())
            try:
                await asyncio.wait([self._listening])
            finally:
                while not self._listening.done():  # it still has to close its connection
                    self._listening.cancel()
                    await asyncio.wait([self._listening], timeout=1.0)
            was_up, self.up = self.up, False
            if not self._listening.cancelled():
                logger.warning("Valkey is unreachable, polling the store: %s", self._listening.exception())
            pause = RETRY_MIN if was_up else min(pause * 2, RETRY_MAX)
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        """Subscribe, and parse what arrives with hiredis until the connection ends.

        redis-py opens and authenticates the connection, but its own way of receiving takes longer than everything
        else that happens to an event in this process. Why and how: docs/adr/0015-redis-sockets.md.
        """
        client = valkey.async_client("background", socket_timeout=None, socket_keepalive=True)
        async with client:
            connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.send_command("SUBSCRIBE", publish.channel(), notifications.channel())
                parser = hiredis.Reader()
                while read := await connection._reader.read(65536):
                    parser.feed(read)
                    while (message := parser.gets()) is not False:
                        self._take(message)
                raise ConnectionResetError("the connection was closed")
            finally:
                await connection.disconnect()

    def _take(self, message: Any) -> None:
        """Handle one message of Valkey: its kind, the channel, and the payload or a count."""
        if isinstance(message, Exception):
            raise message
        kind, channel, payload = message
        if kind == b"subscribe":
            if channel == publish.channel().encode():
                self.up = True
                self._on_subscribed()
        elif channel == publish.channel().encode():
            try:
                decoded = publish.decode(payload)
            except msgspec.DecodeError as error:
                logger.error("a message on the bus is not one of ours: %s", error)
                return
            self._on_message(decoded)
        else:
            self._on_notification()

    async def _keep_sending(self) -> None:
        client = valkey.async_client("background")
        task = asyncio.current_task()
        async with client:
            while task is not None and not task.cancelling():  # an error of the driver may hide the cancellation
                message = await self._outbox.get()
                with contextlib.suppress(RedisError, OSError):
                    await client.publish(publish.channel(), publish.encode(message))
