"""Deployments and faults, with real processes and services that are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from django.conf import settings
from django.db import connection
from django.test import override_settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from devtools import processes
from devtools.valkey import Valkey
from realtime import frames, log_reader, publish, pubsub
from realtime import server as web_server
from tests.realtime import harness
from tests.realtime.harness import Relay, Server, Writer, run_scenario

PROJECT = Path(__file__).resolve().parents[2]


def test_drained_process_closes_sockets_in_groups_and_accepts_no_new_ones(writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        async with server.raw(session) as one, server.raw(session) as two:
            for connected in (one, two):
                await harness.receive(connected, frames.Welcome)
            draining = asyncio.create_task(asyncio.to_thread(server.call_async, server.hub.drain))
            for connected in (one, two):
                said = await harness.receive(connected, frames.Goodbye)
                assert said.code == frames.GOING_AWAY
                assert said.retry_ms
                with pytest.raises(harness.Closed) as closed:
                    await connected.recv()
                assert closed.value.rcvd.code == frames.GOING_AWAY
            await draining
            assert not server.hub.status().ready
            async with server.raw(session) as late:
                assert (await harness.receive(late, frames.Goodbye)).code == frames.GOING_AWAY

    with Server(drain_share=0.5, drain_pause=0.01) as server:
        run_scenario(scenario(server))


def test_sigterm_stops_the_server_and_a_client_continues_with_its_successor(
    server: Server, writer: Writer, session: str, tmp_path: Path
) -> None:
    """A client reads a stream of events while its process is replaced by a successor."""

    async def scenario() -> None:
        stamp = await writer.head()
        port = processes.free_port()
        first = await start(port)
        async with server.client(session) as live:
            live.url = f"ws://127.0.0.1:{port}/ws/admin/"
            live.drop()
            await live.follow("users", since=stamp)
            before = await writer.rename(harness.new_user())
            items = aiter(live)
            seen = await harness.events_until(items, before)
            first.send_signal(signal.SIGTERM)
            during = [await writer.rename(harness.new_user()) for _ in range(3)]
            assert await asyncio.to_thread(first.wait, harness.TIMEOUT) in {0, -signal.SIGTERM}
            assert live.goodbye is None or live.goodbye.code == frames.GOING_AWAY
            second = await start(port)
            try:
                seen += await harness.events_until(items, during[-1])
            finally:
                second.kill()
                second.wait()
            assert [event.position for event in seen] == await writer.log(stamp.position)

    run_scenario(scenario())


async def start(port: int, **variables: str) -> subprocess.Popen[bytes]:
    """A web process that accepts connections."""
    process = subprocess.Popen(
        processes.child_command(
            [sys.executable, "-m", "realtime.server", "--port", str(port), "--log-level", "warning"],
            orphan_signal=signal.SIGKILL,
        ),
        cwd=PROJECT,
        env=harness.environment() | variables,
    )
    while True:
        try:
            _, stream = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            assert process.poll() is None
            await asyncio.sleep(0.05)
        else:
            stream.close()
            return process


def test_stopping_process_is_not_ready_but_serves_for_the_delay(writer: Writer, session: str) -> None:
    """The delay would be ten minutes; a second signal ends it."""

    def get(port: int, path: str) -> tuple[int, str | None, bytes]:
        connected = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.TIMEOUT)
        connected.request("GET", path)
        answer = connected.getresponse()
        body = answer.read()
        connected.close()
        return answer.status, answer.headers["Connection"], body

    async def scenario() -> None:
        port = processes.free_port()
        process = await start(port, SHUTDOWN_DELAY="600")
        try:
            assert (await asyncio.to_thread(get, port, "/livez"))[:2] == (200, None)
            process.send_signal(signal.SIGTERM)
            while (found := await asyncio.to_thread(get, port, "/readyz"))[0] == 200:
                await asyncio.sleep(0.02)
            assert (found[0], json.loads(found[2])["checks"]["live"]) == (503, "draining")
            status, connection_, _body = await asyncio.to_thread(get, port, "/livez")
            assert (status, connection_) == (200, "close"), "no proxy keeps a connection that is about to be closed"
            headers = {"Cookie": harness.cookie(session)}
            url, origin = f"ws://127.0.0.1:{port}/ws/admin/", settings.ALLOWED_ORIGINS[0]
            given = {"additional_headers": headers, "origin": origin, "subprotocols": [frames.SUBPROTOCOL]}
            async with harness.ws.connect(url, compression=None, **given) as socket:
                await harness.receive(socket, frames.Welcome)
                process.send_signal(signal.SIGINT)
                await socket.wait_closed()
            await asyncio.to_thread(process.wait, harness.TIMEOUT)
        finally:
            process.kill()
            process.wait()

    run_scenario(scenario())


@pytest.mark.parametrize("value", ["soon", "-1", "601"])
def test_wrong_delay_ends_the_start_with_one_line(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHUTDOWN_DELAY", value)
    with pytest.raises(SystemExit) as ended:
        web_server.main([])
    assert ended.value.code == 2
    assert "SHUTDOWN_DELAY=0-600" in capsys.readouterr().err


@pytest.fixture
def valkey(tmp_path: Path) -> Any:
    """A Valkey for this test alone, which it may stop and start."""
    own = Valkey(tmp_path, durable=False)
    own.start()
    with override_settings(REDIS_URL=own.url()):
        yield own
    own.stop()


def test_restart_of_valkey_loses_no_event(valkey: Any, writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        stamp = await writer.head()
        async with server.client(session) as live:
            await live.follow("users", since=stamp)
            items = aiter(live)
            await server.until(lambda: server.hub.status().relay)
            seen = await harness.events_until(items, await writer.rename(harness.new_user()))
            await asyncio.to_thread(valkey.stop)
            await server.until(lambda: not server.hub.status().valkey)
            assert server.hub.status().ready
            assert "polling" in server.hub.status().detail
            seen += await harness.events_until(items, await writer.rename(harness.new_user()))
            await asyncio.to_thread(valkey.start)
            await server.until(lambda: server.hub.status().relay)
            seen += await harness.events_until(items, await writer.rename(harness.new_user()))
            assert [event.position for event in seen] == await writer.log(stamp.position)
            assert live.connected == 1

    with Server() as server, Relay():
        run_scenario(scenario(server))


def test_hub_disconnected_by_valkey_subscribes_again(valkey: Any, writer: Writer, session: str) -> None:
    """Valkey disconnects a subscriber whose buffer overflows; `CLIENT KILL TYPE pubsub` does the same."""

    async def scenario(server: Server) -> None:
        with redis.Redis.from_url(valkey.url()) as administrator:
            async with server.client(session) as live:
                await live.follow("users")
                items = aiter(live)
                await harness.next_of(items, frames.Subscribed)
                await server.until(lambda: server.hub.bus.up)
                assert administrator.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                position = await writer.rename(harness.new_user())
                assert (await harness.next_of(items, frames.EventFrame)).position == position
                await server.until(lambda: server.hub.bus.up)

    with Server() as server:
        run_scenario(scenario(server))


def test_database_connections_ended_by_the_server_are_replaced_without_an_error(transactional_db: None) -> None:
    """`pg_terminate_backend` ends all pooled connections at once, like a restart or an idle timeout of a proxy."""

    async def scenario() -> None:
        reader = log_reader.LogReader()
        await reader.open()
        try:
            barrier = asyncio.Barrier(3)

            async def backend_together(connected: log_reader.Connection) -> int:
                async with barrier:  # each on its own connection
                    row = await (await connected.execute("select pg_backend_pid()")).fetchone()
                return row[0]

            async def backend(connected: log_reader.Connection) -> int:
                return (await (await connected.execute("select pg_backend_pid()")).fetchone())[0]

            before = set(await asyncio.gather(*(reader.query(backend_together) for _ in range(3))))
            assert len(before) == 3
            await asyncio.to_thread(end_sessions, before)
            after = await asyncio.gather(*(reader.query(backend) for _ in range(3)))
            assert not before & set(after)
            assert await reader.read(0, 0, 1) == []
        finally:
            await reader.close()

    def end_sessions(pids: set[int]) -> None:
        with connection.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(pid, 10000) from unnest(%s) pid", [list(pids)])
            assert all(row[0] for row in cursor.fetchall())
        connection.close()

    run_scenario(scenario())


def test_unreachable_database_raises_unavailable(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "TIMEOUT", 0.2)
    monkeypatch.setattr(log_reader, "_connection_parameters", lambda: {"host": "/no/such/folder"})

    async def scenario() -> None:
        reader = log_reader.LogReader()
        with pytest.raises(log_reader.Unavailable):
            await reader.head()  # before `open`
        await reader.open()
        try:
            with pytest.raises(log_reader.Unavailable):
                await reader.head()
        finally:
            await reader.close()

    run_scenario(scenario())


def test_idle_subscription_outlives_every_timeout_of_the_redis_client(
    valkey: Any, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py stops reading after `socket_timeout`: 5 s by default, half a second here.

    A reader without `socket_timeout=None` is disconnected meanwhile; the hub's connection stays, and the library does
    not replace it. Connections are named after their event loop, because the hub of another server in this process may
    connect too.
    """
    client_of = redis.asyncio.Redis.from_url

    def named(loop: asyncio.AbstractEventLoop | None) -> str:
        return f"loop-{id(loop)}"

    def with_short_timeout(url: str, **options: Any) -> redis.asyncio.Redis:
        given = {"socket_timeout": 0.5, "client_name": named(asyncio.get_running_loop())}
        return client_of(url, **(given | options))

    monkeypatch.setattr(redis.asyncio.Redis, "from_url", with_short_timeout)

    async def scenario(server: Server) -> None:
        await server.until(lambda: server.hub.bus.up)
        async with redis.asyncio.Redis.from_url(valkey.url(), retry=Retry(NoBackoff(), 0)) as other:
            ours = await readers(other, server)
            with pytest.raises(redis.exceptions.TimeoutError):
                await other.blpop("nothing ever comes here", 0)
            assert ours
            assert await readers(other, server) == ours
        assert server.hub.bus.up

    async def readers(other: redis.asyncio.Redis, server: Server) -> set[str]:
        listening = await other.client_list(_type="pubsub")
        return {client["id"] for client in listening if client["name"] == named(server.loop)}

    with Server(beacon_silence=60.0, presence_renew=3600.0) as server:
        run_scenario(scenario(server))


@pytest.mark.parametrize("sending", [True, False])
def test_bus_stops_although_its_driver_hides_the_cancellation(sending: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error at the moment of the cancellation: the driver raises that error instead, or tries again."""
    entered = asyncio.Event()

    async def publishing(*_: Any) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RedisError("away") from None

    connecting = redis.asyncio.ConnectionPool.get_connection

    async def subscribing(pool: redis.asyncio.ConnectionPool) -> Any:
        if pool.connection_kwargs["socket_timeout"]:  # the sender's
            return await connecting(pool)
        with contextlib.suppress(RedisError):
            await publishing()
        return await asyncio.Event().wait()

    async def scenario() -> None:
        own = pubsub.Bus(lambda _message: None, lambda: None, lambda: None)
        running = asyncio.create_task(own.run())
        own.send(publish.Beacon(epoch="e", head=1))
        await entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    if sending:
        monkeypatch.setattr(redis.asyncio.Redis, "publish", publishing)
    else:
        monkeypatch.setattr(redis.asyncio.ConnectionPool, "get_connection", subscribing)
    run_scenario(scenario())
