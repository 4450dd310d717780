"""Appends events and receives them, and fails where a failover gives a position twice in one history."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from django.db import DatabaseError, connection

from backoffice.sections.users import domain as users
from events import errors, store
from events.db import pipeline
from realtime import client, frames
from tests.realtime import harness
from tests.realtime.harness import Server


class Appended:
    """Acknowledged events: the id at each epoch and position. Another id at one of them is an error."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, int], str] = {}

    def note(self, epoch: str, position: int, event_id: str) -> None:
        assert self.ids.setdefault((epoch, position), event_id) == event_id, "a position was given twice in one epoch"

    def append(self, stream: str | None = None) -> int:
        """Append an event as requests do that are repeated after a 503, each on a connection that it closes."""
        while True:
            try:
                return self._append(stream or harness.new_user())
            except (errors.StoreUnavailable, DatabaseError):
                continue
            finally:
                connection.close()

    def _append(self, stream: str) -> int:
        with pipeline.transaction():
            position = store.append(stream, [users.UserUpdated(first_name="Ada")]).position
            stored = (
                "select (select epoch::text from events_epoch), event_id::text from events_event where position = %s"
            )
            epoch, event_id = store.query(stored, (position,))[0]
        self.note(epoch, position, event_id)
        return position


class Watcher:
    """A client that keeps the positions of events since its last reset, and the topics of its resets."""

    def __init__(self, live: client.Client) -> None:
        self.live = live
        self.positions: list[int] = []
        self.reset: list[str] = []
        self._changed = asyncio.Event()  # a position was received, or `_watch` has ended
        self._task: asyncio.Task[None] | None = None

    async def follow(self, topic: str, since: frames.Since | None) -> None:
        await self.live.follow(topic, since=since)
        self._task = asyncio.create_task(self._watch())
        self._task.add_done_callback(lambda _: self._changed.set())

    async def _watch(self) -> None:
        async for item in self.live:
            if isinstance(item, frames.EventFrame):
                assert item.position > max(self.positions, default=0), "a position came twice, without a reset"
                self.positions.append(item.position)
                self._changed.set()
            elif isinstance(item, frames.Reset):
                assert item.reason == "epoch"
                self.positions.clear()
                self.reset += item.topics
                await self.live.follow(*item.topics, since=frames.Since(item.epoch, item.position))

    async def until(self, position: int) -> None:
        """Wait for the event at this position; fails if the client ends before."""
        async with asyncio.timeout(harness.TIMEOUT):
            while position not in self.positions:
                assert self._task is not None
                assert not self._task.done(), self._task
                self._changed.clear()
                await self._changed.wait()

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


@contextlib.asynccontextmanager
async def following(
    server: Server, session: str, topics: list[tuple[str, frames.Since | None]]
) -> AsyncIterator[list[Watcher]]:
    """A client for each topic."""
    found: list[Watcher] = []
    async with contextlib.AsyncExitStack() as opened:
        for topic, since in topics:
            live = await opened.enter_async_context(server.client(session))
            found.append(Watcher(live))
            opened.push_async_callback(found[-1].end)
            await found[-1].follow(topic, since)
        await server.until(lambda: sum(len(socket.live) for socket in server.hub.sockets.values()) >= len(topics))
        yield found
