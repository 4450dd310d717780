"""A primary that comes back after a failover, and still takes itself for the primary, is noticed and not used."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection, connections

from backoffice import health
from devtools import processes
from devtools.postgres import Postgres, account_for
from events import freshness, head, store, witness
from events.db import primary as primaries
from events.db import replica
from metrics.management.commands import doctor
from realtime import frames, relay
from tests import factories, live
from tests.events import effects, servers
from tests.realtime import failover, harness
from tests.realtime.harness import Relay, Server, run_scenario

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


def newest(server: Postgres) -> int:
    """The last position of a server's log."""
    with psycopg.connect(server.url(connection.settings_dict["NAME"])) as session:
        row = session.execute("select max(position) from events_event").fetchone()
        assert row
        return int(row[0])


def rebuild(former: Postgres, source: Postgres) -> None:
    """Make a former primary a standby of its successor, as docs/several-hosts.md says; it is started afterwards."""
    servers.allow_replication(source.url("postgres"))
    former.stop()
    account = account_for(former.cluster, former.program)
    command = [
        former.program.with_name("pg_rewind"),
        f"--target-pgdata={former.cluster}",
        "--write-recovery-conf",
        f"--source-server={source.url('postgres')}",
        "--no-sync",
    ]
    done = subprocess.run(
        processes.child_command([str(part) for part in command], account=account),
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    former.start()


def test_former_primary_is_refused_until_it_is_a_standby(pair: tuple[Postgres, Postgres]) -> None:
    former, successor = pair
    follower = effects.subscription(name="follower", handle=lambda _events: None)
    relay.beacon(effects.grow(3))
    effects.catch_up(follower)
    servers.stop_replication(former, successor)
    lost = effects.grow(40)
    old = head.epoch()
    servers.disconnect()
    former.kill()
    servers.promote(successor)
    effects.grow(2)
    new = head.epoch()
    assert new != old
    relay.beacon(head.safe())
    former.start()

    for later in (False, True):  # a process that has seen the failover, and one that starts after it
        if later:
            primaries.KNOWN = primaries.KnownHistory()
        for _ in range(3):
            servers.disconnect()
            effects.grow()
            assert head.epoch() == new
        assert newest(former) == lost, "nothing is written to the former primary"
        with health.connect(autocommit=True) as probe:
            assert probe.info.host == servers.host_of(successor)
    relay.beacon(head.safe())
    assert {seen.epoch for seen in witness.recorded()} == {new}
    found = doctor.servers()
    assert (found.state, servers.host_of(former) in found.text) == ("wrong", True), found

    check_alone(former, new)
    check_as_replica(former, new)
    rebuild(former, successor)
    with psycopg.connect(former.url(connection.settings_dict["NAME"]), autocommit=True) as copy:
        position = effects.grow()
        arrived = "select count(*) from events_event where position = %s"
        assert processes.wait_until(lambda: copy.execute(arrived, (position,)).fetchone() == (1,), 30)
        assert copy.execute("select events_current_epoch()::text").fetchone() == (new,)
    assert doctor.servers().state == "ok"


def check_alone(former: Postgres, new: str) -> None:
    """Check that nothing is written, and the reason is named, where only the former primary can be reached."""
    settings, before = connection.settings_dict, newest(former)
    kept = {"HOST": settings["HOST"], "OPTIONS": settings["OPTIONS"]}
    servers.disconnect()
    settings["HOST"] = servers.host_of(former)
    settings["OPTIONS"] = {name: value for name, value in settings["OPTIONS"].items() if name != "pool"}
    try:
        with pytest.raises(Exception, match=f"is a former primary: its history .* as {new}"):
            effects.grow()
        assert health.database() == "unreachable"
    finally:
        settings.update(kept)
    assert newest(former) == before


def check_as_replica(former: Postgres, new: str) -> None:
    """Check that a former primary, or a standby of one, is not read from although it has the positions asked for."""
    known = freshness.Freshness()
    known.start(new, 1)
    known.trusted_until = float("inf")
    given = connection.settings_dict
    connections.settings[replica.ALIAS] = given | {"HOST": servers.host_of(former), "OPTIONS": {}}
    connections[replica.ALIAS].connect()
    try:
        assert replica.Standby(known).usable(1) is False
        known.epoch = next(iter(head.lineage()))
        assert replica.Standby(known).usable(1) is True, "for a reader of its own history it would do"
    finally:
        connections[replica.ALIAS].close()
        del connections[replica.ALIAS]
        del connections.settings[replica.ALIAS]


@contextlib.contextmanager
def subscriptions_of(server: Postgres) -> Iterator[None]:
    """Another host's `run_subscriptions`, which can reach only this server."""
    environment = harness.environment() | {"DATABASE_URL": server.url(connection.settings_dict["NAME"])}
    command = [sys.executable, "manage.py", "run_subscriptions"]
    process = subprocess.Popen(processes.child_command(command), env=environment, cwd=live.PROJECT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_process_with_connections_to_the_former_primary_leaves_it(pair: tuple[Postgres, Postgres]) -> None:
    former, successor = pair
    appended = failover.Appended()
    _staff, session = harness.sign_in()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            appended.append()
            stop.wait(0.005)

    def noticed(old: str) -> bool:
        known = primaries.KNOWN.history
        return known is not None and known.epoch != old

    async def scenario(server: Server) -> None:
        start = frames.Since(*await asyncio.to_thread(lambda: (head.epoch(), head.safe())))
        async with failover.following(server, session, [("users", start), ("forms", start)]) as (saw, other):
            await saw.until(await asyncio.to_thread(appended.append))
            await asyncio.to_thread(servers.stop_replication, former, successor)
            writer = factories.Thread(write)
            await saw.until(await asyncio.to_thread(appended.append))
            await asyncio.to_thread(servers.promote, successor)  # nobody has stopped the old one: both accept writes
            with subscriptions_of(successor):
                await server.until(lambda: server.hub.epoch not in {"", start.epoch})
                assert noticed(start.epoch)
                stop.set()
                await asyncio.to_thread(writer.result)
                before = await asyncio.to_thread(newest, former)
                new = [await asyncio.to_thread(appended.append) for _ in range(20)]
                assert await asyncio.to_thread(newest, former) == before, "nothing more is written to the old one"
                await saw.until(new[-1])
                assert await asyncio.to_thread(newest, successor) == new[-1]
            assert (saw.reset, other.reset) == (["users"], [])
            assert saw.positions[-len(new) :] == new

    with Server(heartbeat_ms=3_600_000, retry_min_ms=5, retry_max_ms=200) as server, Relay():
        run_scenario(scenario(server))
    servers.disconnect()
    relay.beacon(head.safe())
    assert {seen.epoch for seen in witness.recorded()} == {head.epoch()}
    stored = dict(store.query("select position, event_id::text from events_event"))
    epoch = head.epoch()
    ours = {position: event_id for (of, position), event_id in appended.ids.items() if of == epoch}
    assert ours.items() <= stored.items(), "an event of the new history is lost"
