"""A failover that loses acknowledged events resets only clients that saw them; no cache trusts their positions."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from backoffice.sections.users import domain as users
from devtools.postgres import Postgres
from events import commands, freshness, head, store, valkey
from metrics.caching import cache
from metrics.counters import seed
from realtime import frames, hub, sockets
from tests import factories
from tests.events import servers
from tests.events.interleaving import LONG
from tests.metrics.caching import simulated
from tests.metrics.counters import counting
from tests.realtime import failover, harness
from tests.realtime.harness import Relay, Server, run_scenario

pytestmark = pytest.mark.services

# Acknowledged events that the standby never receives; more than a sequence is logged ahead (32), so that it will give
# positions of theirs again.
LOST = 400 if LONG else 40
WATCHERS = 60 if LONG else 6


def count_users() -> int:
    return int(store.query("select count(*) from users")[0][0])


def shared_stamp(key: str) -> tuple[str, int]:
    """The epoch and position of a value in Valkey."""
    found: Any = valkey.client("bus").hmget(f"{settings.REDIS_PREFIX}:figures:value:{key}", "epoch", "asof")
    return found[0].decode(), int(found[1])


def socket_of(server: Server, watcher: failover.Watcher) -> sockets.Socket:
    assert watcher.live.welcome is not None
    return server.hub.sockets[watcher.live.welcome.connection_id]


def note_the_end(of: hub.Hub, slow: sockets.Socket, pinged: sockets.Socket) -> None:
    """Let one socket fall behind at a lost position without an event to send, and ping another one with it."""
    slow.recheck_pending = True  # it cannot catch up
    of.catch_up.fall_behind(slow)
    of.heartbeat.announce(pinged, pinged.now(), of.position, of.epoch)


def test_failover_with_lost_events_resets_exactly_those_who_saw_them(pair: tuple[Postgres, Postgres]) -> None:
    primary, standby = pair
    appended = failover.Appended()
    _staff, session = harness.sign_in()
    kept = f"user-{factories.user()}"
    seed.start()
    figure = simulated.task(count_users, "user", key=f"test:lost:{uuid.uuid4()}")
    lost_user = factories.command(users.CreateUser(email="lost@example.org"))

    def lose() -> int:
        """Write and count what the standby never gets; returns the last position."""
        commands.dispatch(lost_user)
        counting.follow()
        return [appended.append() for _ in range(LOST)][-1]

    def fail_over() -> None:
        connection.close()
        primary.kill()
        servers.promote(standby)

    async def scenario(server: Server) -> None:
        start = frames.Since(*await asyncio.to_thread(lambda: (head.epoch(), head.safe())))
        record = (kept.replace("-", ":", 1), start)
        topics = [("users", start)] * WATCHERS + [record, record, ("forms", start), ("forms", start), ("users", None)]
        async with failover.following(server, session, topics) as found:
            *saw, of_kept, slow, of_forms, pinged, leaves = found
            first = await asyncio.to_thread(appended.append, kept)
            for one in (*saw, of_kept, slow, leaves):
                await one.until(first)
            resumed = frames.Since(leaves.live.epoch or "", max(leaves.positions))
            await leaves.end()
            await leaves.live.__aexit__(None, None, None)
            fork = await asyncio.to_thread(servers.stop_replication, primary, standby)
            last = await asyncio.to_thread(lose)
            for one in saw:
                await one.until(last)
            await server.on_loop(note_the_end, server.hub, socket_of(server, slow), socket_of(server, pinged))
            await server.until(freshness.LOCAL.trusted)
            assert cache.LOCAL.known.position >= last
            beyond = await asyncio.to_thread(lambda: int(cache.LOCAL.get(figure).value))
            assert shared_stamp(figure.key) == (start.epoch, last), "a value as of a lost event is shared"

            await asyncio.to_thread(fail_over)
            await server.until(lambda: server.hub.epoch != start.epoch)
            await server.on_loop(socket_of(server, slow).recheck_finished)
            returning = [("users", resumed), ("users", frames.Since(start.epoch, last))]
            async with failover.following(server, session, returning) as later:
                ours, theirs = later
                new = [await asyncio.to_thread(appended.append, kept) for _ in range(LOST + 5)]
                assert fork < new[0] <= last < new[-1], "positions of lost events are given again, in another epoch"
                for one in (*saw, of_kept, slow, ours, theirs):
                    await one.until(new[-1])
            assert [one.reset for one in saw] == [["users"]] * WATCHERS
            assert (theirs.reset, pinged.reset) == (["users"], ["forms"])
            assert [one.reset for one in (of_kept, slow, of_forms, ours)] == [[]] * 4
            for one in (of_kept, slow, ours):
                assert [position for position in one.positions if position > first] == new, "without a gap or a repeat"
            assert of_forms.live.epoch == server.hub.epoch
            assert {one.live.connected for one in (*saw, of_kept, slow, of_forms, pinged)} == {1}

            await server.until(lambda: freshness.LOCAL.trusted() and freshness.LOCAL.position >= new[-1])
            assert (await asyncio.to_thread(lambda: int(cache.LOCAL.get(figure).value))) == beyond - 1

    clients = WATCHERS + 7
    limits = {"connections_per_person": clients, "connections_per_address": clients, "handshakes_per_minute": 6000.0}
    with Server(heartbeat_ms=3_600_000, retry_min_ms=5, retry_max_ms=200, **limits) as server, Relay():
        run_scenario(scenario(server))
    servers.disconnect()
    counting.follow()
    counting.demand_fresh()
    assert store.query("select count(*) from users where email = 'lost@example.org'") == [(0,)]
    assert commands.dispatch(lost_user).status == "applied", "its answer was lost with it, so it is carried out once"
    assert commands.dispatch(lost_user).status == "duplicate"
    stored = dict(store.query("select position, event_id::text from events_event"))
    epoch, lineage = head.epoch(), head.lineage()
    for (of, position), event_id in appended.ids.items():
        kept_in_log = of == epoch or position <= lineage[of]
        assert (stored.get(position) == event_id) is kept_in_log
