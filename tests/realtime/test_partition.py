"""A link that drops every packet to PostgreSQL or Valkey blocks no thread for long; everything continues after it.

The servers run in a network namespace of their own. The limits of a connection are a fifth of the product's, except in
the long form.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings
from kombu.exceptions import OperationalError

from backoffice import health
from devtools import processes
from devtools.postgres import Postgres
from devtools.valkey import Valkey
from events import head
from events.db import session as sessions
from realtime import frames
from tests import factories, network
from tests.backoffice import api_client
from tests.events import servers
from tests.events.interleaving import LONG
from tests.realtime import failover, harness
from tests.realtime.harness import Relay, Server, run_scenario

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]

QUICK = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2, "tcp_user_timeout": 1500}
LIMITS: dict[str, Any] = {} if LONG else {**QUICK, "connect_timeout": 2}
SOCKETS = {"heartbeat_ms": 3_600_000, "retry_min_ms": 5, "retry_max_ms": 200}


@pytest.fixture
def net() -> Iterator[network.Network]:
    with network.network() as found:
        yield found


@pytest.fixture
def primary(transactional_db: None, net: network.Network) -> Iterator[Postgres]:
    """A server on the other side of the link, which this process uses."""
    with net.inside():
        copied = servers.copy("primary", listen_addresses=net.there)
        server = copied.__enter__()
    try:
        with (server.cluster / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {net.here}/32 trust\n")
        with psycopg.connect(server.url(), autocommit=True) as administrator:
            administrator.execute("select pg_reload_conf()")
        pool = connection.settings_dict["OPTIONS"]["pool"] | ({} if LONG else {"timeout": 1})
        database = connection.settings_dict["NAME"]
        with servers.used(server, database=database, host=net.there, pool=pool, **LIMITS):
            yield server
    finally:
        copied.__exit__(None, None, None)


def test_connections_have_limits_for_a_link_that_is_cut() -> None:
    given = connection.get_connection_params()
    assert {name: given[name] for name in sessions.TCP} == sessions.TCP
    assert given["tcp_user_timeout"] <= 10_000
    assert given["connect_timeout"] <= 5
    assert health.parameters()["tcp_user_timeout"] <= 10_000
    assert settings.CELERY_BROKER_TRANSPORT_OPTIONS["socket_timeout"] <= 5


def test_cut_link_to_the_primary_costs_503_and_loses_or_repeats_nothing(
    primary: Postgres, net: network.Network
) -> None:
    appended = failover.Appended()
    caller = api_client.Caller(api_client.staff("manager"), raises=False)
    _staff, session = harness.sign_in()
    user = factories.user()
    write = {"id": str(uuid.uuid4()), "type": "user.update", "key": str(user), "data": {"first_name": "Grace"}}
    local = primary.url(connection.settings_dict["NAME"])
    connection.close()

    def cut_before_the_answer() -> None:
        """Send a command; cut the link after the server has it and before it answers. Others come during the cut."""
        with psycopg.connect(local) as blocker, psycopg.connect(local, autocommit=True) as observer:
            blocker.execute("lock table events_event in share mode")
            writer = factories.Thread(lambda: caller.post("commands/", write).status_code)
            waiting = "select count(*) from pg_locks where not granted and relation = 'events_event'::regclass"
            assert processes.wait_until(lambda: observer.execute(waiting).fetchone() == (1,), 30)
            net.cut()
            blocker.rollback()
            stored = "select count(*) from events_event where stream = %s"
            committed = processes.wait_until(lambda: observer.execute(stored, (f"user-{user}",)).fetchone() == (2,), 30)
            assert committed, "the server has carried it out"
        others = [factories.Thread(lambda: caller.get("users/").status_code) for _ in range(4)]
        assert [one.result(60) for one in (writer, *others)] == [503] * 5
        assert health.database() == "unreachable"

    def resend() -> Any:
        """Send the command again until it is answered, as a client does after a 503."""
        try:
            while (answer := caller.post("commands/", write)).status_code == 503:
                pass
            return answer.json()["status"]
        finally:
            connection.close()

    async def scenario(server: Server) -> None:
        start = frames.Since(*await asyncio.to_thread(lambda: (head.epoch(), head.safe())))
        async with failover.following(server, session, [("users", start)]) as (watcher,):
            before = await asyncio.to_thread(appended.append)
            await watcher.until(before)
            await asyncio.to_thread(cut_before_the_answer)
            if LONG:  # it tries for some seconds more
                await server.until(lambda: not server.hub.follower.store_up)
            net.mend()
            assert await asyncio.to_thread(resend) == "duplicate"
            after = [await asyncio.to_thread(appended.append) for _ in range(5)]
            await watcher.until(after[-1])
            with psycopg.connect(local) as observer:
                rows = "select position from events_event where position >= %s order by 1"
                assert watcher.positions == [row[0] for row in observer.execute(rows, (before,))]
            assert (watcher.reset, watcher.live.connected) == ([], 1), "the socket has stayed"

    with Server(**SOCKETS) as server, Relay():
        run_scenario(scenario(server))


@pytest.fixture
def far_valkey(net: network.Network, tmp_path: Path) -> Iterator[str]:
    """The address of a Valkey on the other side of the link, which this process uses."""
    server = Valkey(tmp_path, durable=False, settings=[f"bind {net.there} 127.0.0.1"])
    with net.inside():
        server.start()
    url = server.url().replace("127.0.0.1", net.there)
    with override_settings(REDIS_URL=url):
        yield url
    server.stop()


def test_cut_link_to_valkey_delays_updates_and_fails_no_request(
    transactional_db: None, far_valkey: str, net: network.Network
) -> None:
    appended = failover.Appended()
    caller = api_client.Caller(api_client.staff("manager"), raises=False)
    _staff, session = harness.sign_in()
    user = factories.user()
    queue = celery.Celery(broker=far_valkey, set_as_current=False)
    given = settings.CELERY_BROKER_TRANSPORT_OPTIONS | ({} if LONG else {"socket_timeout": 1})
    queue.conf.update(broker_transport_options=given, task_ignore_result=True)

    def use_during_the_cut() -> None:
        try:
            for number in range(3):
                assert caller.command("user.update", user, {"first_name": f"Ada {number}"}).status_code == 200
                assert caller.get("users/").status_code == 200
            with pytest.raises(OperationalError):
                queue.send_task("nothing", retry=False)
        finally:
            connection.close()

    async def scenario(server: Server) -> None:
        start = frames.Since(*await asyncio.to_thread(lambda: (head.epoch(), head.safe())))
        async with failover.following(server, session, [("users", start)]) as (watcher,):
            await asyncio.to_thread(queue.send_task, "nothing", retry=False)
            await watcher.until(await asyncio.to_thread(appended.append))
            await server.until(server.hub.follower.relay_alive)
            net.cut()
            await asyncio.to_thread(use_during_the_cut)
            await server.until(lambda: not server.hub.follower.relay_alive())
            await watcher.until(await asyncio.to_thread(appended.append))
            net.mend()
            await server.until(server.hub.follower.relay_alive)
            await watcher.until(await asyncio.to_thread(appended.append))
            assert watcher.positions == sorted(set(watcher.positions)), "without a repeat"
            assert (watcher.reset, watcher.live.connected) == ([], 1)

    with Server(**SOCKETS) as server, Relay():
        run_scenario(scenario(server))
