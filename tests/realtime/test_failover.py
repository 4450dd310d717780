"""A new epoch resets only the clients that have read what the log has lost; a failover without loss resets nobody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from django.db import DatabaseError, connection

from backoffice.sections.users.domain import UserUpdated
from devtools import processes
from devtools.postgres import Postgres
from events import errors, head, store
from realtime import client, frames
from tests import factories
from tests.events import servers
from tests.events.interleaving import LONG
from tests.realtime import harness
from tests.realtime.harness import Relay, Server, Writer, run_scenario

SOCKETS = 200 if LONG else 30
WRITERS = 4
BEFORE, AFTER = (400, 400) if LONG else (60, 60)  # acknowledged events before the kill and after it

ELSEWHERE = "update events_epoch set place = 'elsewhere'"


def another_place() -> str:
    """The log is found at another place, as after a promotion; returns the new epoch."""
    store.execute(ELSEWHERE)
    return head.epoch()


def test_connected_client_continues_in_the_new_epoch(
    server: Server, relay: Relay, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        stamp = await writer.head()
        async with server.client(session) as live:
            await live.follow("users", since=stamp)
            items = aiter(live)
            first = await writer.rename(harness.new_user())
            assert [event.position for event in await harness.events_until(items, first)] == [first]
            # The relay records the known head. Above it, histories share nothing where earlier positions are missing.
            assert await writer.do(lambda: processes.wait_until(lambda: head.known() >= first, 30))
            epoch = await writer.do(another_place)
            await server.until(lambda: server.hub.epoch == epoch)
            second = await writer.rename(harness.new_user())
            assert [event.position for event in await harness.events_until(items, second)] == [second]
            assert live.epoch == epoch
            assert server.hub.epoch == epoch != stamp.epoch

    run_scenario(scenario())


def test_client_of_an_earlier_epoch_continues_up_to_the_shared_position_and_is_reset_beyond(
    server: Server, writer: Writer, session: str
) -> None:
    def history() -> tuple[str, str]:
        """An epoch that shares the log up to `shared`, and one that shares nothing more than its beginning."""
        ended = str(uuid.uuid4())
        store.execute("insert into events_epoch_history (epoch, upto) values (%s, %s)", (ended, shared))
        return ended, another_place()

    async def scenario() -> None:
        nonlocal shared
        shared = (await writer.head()).position
        later = await writer.rename(harness.new_user())
        ended, epoch = await writer.do(history)
        async with server.client(session) as live:
            await live.follow("users", since=frames.Since(ended, shared))
            assert [event.position for event in await harness.events_until(aiter(live), later)] == [later]
        async with server.client(session) as live:
            await live.follow("users", since=frames.Since(ended, shared + 1))
            reset = await harness.next_of(aiter(live), frames.Reset)
            assert (reset.reason, reset.epoch, reset.topics) == ("epoch", epoch, ["users"])

    shared = 0
    run_scenario(scenario())


def test_process_that_does_not_know_the_new_epoch_yet_reads_it_before_it_answers(writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        epoch = await writer.do(another_place)
        position = await writer.rename(harness.new_user())
        async with server.client(session) as live:
            await live.follow("users", since=frames.Since(epoch, position))
            assert isinstance(await harness.next_of(aiter(live), frames.Reset | frames.Subscribed), frames.Subscribed)

    with Server(poll=3600.0) as slow:
        run_scenario(scenario(slow))


@pytest.fixture
def pair(transactional_db: None) -> Iterator[tuple[Postgres, Postgres]]:
    """A primary whose commits wait for its standby; this process uses whichever of the two accepts events."""
    name = connection.settings_dict["NAME"]
    with (
        servers.copy("primary") as primary,
        servers.copy("standby", primary.url(), standby=True) as standby,
        servers.used(primary, standby, database=name),
    ):
        with psycopg.connect(primary.url(), autocommit=True) as administrator:
            administrator.execute("alter system set synchronous_standby_names = '*'")
            administrator.execute("select pg_reload_conf()")
            assert processes.wait_until(
                lambda: administrator.execute("select sync_state from pg_stat_replication").fetchall() == [("sync",)],
                30,
            )
        yield primary, standby


class Acknowledged:
    """Positions whose appends returned, by any of several writers."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.stop = threading.Event()

    def write(self) -> None:
        while not self.stop.is_set():
            try:
                appended = store.append(harness.new_user(), [UserUpdated(first_name="Ada")])
                self.positions.append(appended.position)
            except (errors.StoreUnavailable, psycopg.Error, DatabaseError):
                connection.close()
                self.stop.wait(0.05)
            self.stop.wait(0.002)

    def wait_for(self, more: int) -> None:
        wanted = len(self.positions) + more
        assert processes.wait_until(lambda: len(self.positions) >= wanted, 60)


class Watchers:
    """Clients that follow a topic, with the positions and the resets that they received."""

    def __init__(self, server: Server, session: str, start: frames.Since) -> None:
        self.clients = [server.client(session) for _ in range(SOCKETS)]
        self.start = start
        self.seen: list[list[int]] = [[] for _ in self.clients]
        self.resets: list[frames.Reset] = []

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        watches = []
        async with contextlib.AsyncExitStack() as open_clients:
            for live, positions in zip(self.clients, self.seen, strict=True):
                await open_clients.enter_async_context(live)
                await live.follow("users", since=self.start)
                watches.append(asyncio.create_task(self._watch(live, positions)))
            try:
                yield
            finally:
                for one in watches:
                    one.cancel()
                await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, live: client.Client, positions: list[int]) -> None:
        async for item in live:
            if isinstance(item, frames.EventFrame):
                positions.append(item.position)
            elif isinstance(item, frames.Reset):
                self.resets.append(item)

    async def until(self, position: int) -> None:
        """Wait until every client has an event, or one has been reset."""
        async with asyncio.timeout(harness.TIMEOUT):
            while not self.resets and not all(position in positions for positions in self.seen):
                await asyncio.sleep(0.05)


def test_failover_to_a_synchronous_standby_loses_nothing_and_resets_nobody(pair: tuple[Postgres, Postgres]) -> None:
    primary, standby = pair
    acknowledged = Acknowledged()
    _staff, session = harness.sign_in()
    start = frames.Since(head.epoch(), head.safe())

    def fail_over() -> None:
        writers = [factories.Thread(acknowledged.write) for _ in range(WRITERS)]
        acknowledged.wait_for(BEFORE)
        primary.kill()
        with psycopg.connect(standby.url(), autocommit=True) as administrator:
            administrator.execute("select pg_promote()")
        acknowledged.wait_for(AFTER)
        acknowledged.stop.set()
        for writer in writers:
            writer.result()

    async def scenario(server: Server, watchers: Watchers) -> None:
        async with watchers.watching():
            await asyncio.to_thread(fail_over)
            await watchers.until(max(acknowledged.positions))
            assert {live.epoch for live in watchers.clients} == {server.hub.epoch}
            assert server.hub.epoch != start.epoch

    limits = {"connections_per_person": SOCKETS, "connections_per_address": SOCKETS, "handshakes_per_minute": 6000.0}
    with Server(retry_min_ms=5, retry_max_ms=200, **limits) as server, Relay():
        watchers = Watchers(server, session, start)
        run_scenario(scenario(server, watchers))
    assert watchers.resets == []
    servers.disconnect()
    stored = [row[0] for row in store.query("select position from events_event where position > %s", (start.position,))]
    assert set(acknowledged.positions) <= set(stored), "an acknowledged event is lost"
    assert len(set(acknowledged.positions)) == len(acknowledged.positions)
    last = max(acknowledged.positions)
    expected = sorted(position for position in stored if position <= last)
    for positions in watchers.seen:
        assert [position for position in positions if position <= last] == expected
