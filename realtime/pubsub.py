"""The hub's ear and mouth on Valkey: one subscription per process, and a small outbox for presence.

Valkey may be away, half-open, or have quietly forgotten us; redis-py's own health check never looks at the answer. So
silence is the only judge: the hub expects a beacon each second and calls `reconnect` when it does not come. A
subscriber must never time out while idle: redis-py 8 reads with a 5 s timeout unless told `socket_timeout=None`.
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

OUTBOX: Final = 1000
RETRY_MIN, RETRY_MAX = 0.1, 3.0


class Bus:
    """Runs until cancelled. `hear` gets every message, `rang` every bell, `joined` each confirmed subscription."""

    def __init__(
        self, hear: Callable[[publish.Message], None], rang: Callable[[], None], joined: Callable[[], None]
    ) -> None:
        self._hear, self._rang, self._joined = hear, rang, joined
        self._outbox: asyncio.Queue[publish.Message] = asyncio.Queue(OUTBOX)
        self._listening: asyncio.Task[None] | None = None
        self.up = False

    async def run(self) -> None:
        """Listen and send, each healing itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_listening())
            group.create_task(self._keep_sending())

    def send(self, message: publish.Message) -> None:
        """Tell every hub, this one included; dropped while Valkey is away (all that goes here is repeated)."""
        try:
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            prometheus.DROPS.labels("outbox").inc()

    def reconnect(self) -> None:
        """Drop the connection and subscribe afresh: nothing was heard for too long."""
        if self._listening is not None:
            self._listening.cancel()

    async def _keep_listening(self) -> None:
        pause = RETRY_MIN
        while True:
            self._listening = asyncio.create_task(self._listen())
            try:
                await asyncio.wait([self._listening])
            finally:
                while not self._listening.done():  # let it close its connection
                    self._listening.cancel()
                    await asyncio.wait([self._listening], timeout=1.0)
            heard, self.up = self.up, False
            if not self._listening.cancelled():
                logger.warning("Valkey is away, polling the store: %s", self._listening.exception())
            pause = RETRY_MIN if heard else min(pause * 2, RETRY_MAX)
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        """A connection made and authenticated by redis-py; its way of listening takes longer than all else an event
        goes through here.
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
        """One of Valkey's messages: what it is, the channel, and the payload or a count."""
        if isinstance(message, Exception):
            raise message
        kind, channel, payload = message
        if kind == b"subscribe":
            if channel == publish.channel().encode():
                self.up = True
                self._joined()
        elif channel == publish.channel().encode():
            try:
                decoded = publish.decode(payload)
            except msgspec.DecodeError as error:
                logger.error("a message on the bus is not one of ours: %s", error)
                return
            self._hear(decoded)
        else:
            self._rang()

    async def _keep_sending(self) -> None:
        client = valkey.async_client("background")
        me = asyncio.current_task()
        async with client:
            while me is not None and not me.cancelling():  # an error of the driver's may hide that we are to end
                message = await self._outbox.get()
                with contextlib.suppress(RedisError, OSError):
                    await client.publish(publish.channel(), publish.encode(message))
