"""Every client of Valkey finds the new primary after a failover of the Sentinels."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
import redis.asyncio.sentinel
import redis.sentinel
from celery import Celery
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.test import override_settings
from django_redis.cache import RedisCache
from django_redis.exceptions import ConnectionInterrupted
from kombu.exceptions import OperationalError
from redis.backoff import ExponentialWithJitterBackoff

from backoffice import celery_app
from devtools import processes
from events import notifications, valkey, valkey_urls
from realtime import publish, pubsub
from tests import sentinels

WAIT = 30.0


@pytest.fixture
def group() -> Iterator[sentinels.Group]:
    notifications._disconnect()  # from the server of other tests
    with sentinels.group() as running, override_settings(REDIS_URL=running.address):
        yield running
        notifications._disconnect()
        valkey._shared.cache_clear()


def works(act: Callable[[], object]) -> bool:
    """Whether a call to Valkey succeeds; during the failover it fails."""
    try:
        act()
    except (redis.RedisError, OSError):
        return False
    return True


def test_all_clients_follow_a_failover(group: sentinels.Group) -> None:
    location, options = valkey_urls.cache(group.address)
    cache = RedisCache(location, {"OPTIONS": options | {"SOCKET_TIMEOUT": 2, "SOCKET_CONNECT_TIMEOUT": 2}})
    cache.set("before", 1)
    received: list[publish.Message] = []

    async def scenario() -> None:
        bus = pubsub.Bus(on_message=received.append, on_notification=notified.set, on_subscribed=lambda: None)
        running = asyncio.create_task(bus.run())

        async def until(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(WAIT):
                while not condition():
                    await asyncio.sleep(0.02)

        await until(lambda: bus.up)
        shared = valkey.shared_client("bus")
        assert works(lambda: shared.set("before", 1))
        group.primary.kill()
        await until(lambda: not bus.up)
        await until(lambda: bus.up)
        assert await asyncio.to_thread(processes.wait_until, lambda: works(lambda: shared.set("after", 2)), WAIT)
        await until(lambda: publish.send(publish.Beacon(epoch="e", head=1)) and bool(received))
        second = publish.Beacon(epoch="e", head=2)
        await until(lambda: bus.send(second) or second in received)  # senders repeat what is lost
        await until(lambda: notifications.notify(7) or notified.is_set())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    notified = asyncio.Event()
    notifications.notify(6)
    asyncio.run(scenario())
    assert processes.wait_until(lambda: works(lambda: cache.set("after", 2)), WAIT)
    assert cache.get("after") == 2
    cache.close()
    with redis.Redis(port=group.replica.port, password=group.replica.password) as promoted:
        assert promoted.role()[0] == b"master"
        assert promoted.get("after") == b"2"


def test_tasks_that_the_queue_accepts_after_a_failover_are_done(group: sentinels.Group) -> None:
    url, options = valkey_urls.broker(group.address)
    app = Celery("failover", broker=url, task_ignore_result=True, set_as_current=False)
    app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | options
    app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
    done: set[int] = set()
    accepted = set()

    @app.task(name="tests.note")
    def note(number: int) -> None:
        done.add(number)

    def send(number: int) -> bool:
        try:
            note.apply_async((number,), retry=False)
        except (note.OperationalError, redis.RedisError, OSError):
            return False
        accepted.add(number)
        return True

    try:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
            assert send(0)
            assert processes.wait_until(lambda: done == {0}, WAIT)
            group.primary.kill()
            for number in range(1, 11):
                assert processes.wait_until(lambda number=number: send(number), WAIT)
            assert processes.wait_until(lambda: accepted <= done, WAIT), accepted - done
    finally:  # a worker makes its application the current one of the whole process
        celery_app.set_current()
        celery_app.set_default()


@pytest.fixture
def first_bytes() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a server that closes each connection, and the first byte that it received on each."""
    found: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):  # at the end
                while True:
                    with server.accept()[0] as connection:
                        found.append(connection.recv(1))

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], found
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("server", ["sentinel", "primary"])
def test_every_client_uses_tls_for_the_sentinels_and_the_primary(
    first_bytes: tuple[int, list[bytes]], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, found = first_bytes
    monkeypatch.setattr(ExponentialWithJitterBackoff, "compute", lambda *_: 0.0)
    if server == "primary":  # as if a Sentinel had answered

        async def discovered(*_: object) -> tuple[str, int]:
            return "127.0.0.1", port

        monkeypatch.setattr(redis.sentinel.Sentinel, "discover_master", lambda *_: ("127.0.0.1", port))
        monkeypatch.setattr(redis.asyncio.sentinel.Sentinel, "discover_master", discovered)
    address = f"sentinels://:secret@127.0.0.1:{port}/tls-{port}"  # django-redis keeps a pool for each name
    url, options = valkey_urls.broker(address)
    app = Celery("tls", broker=url, set_as_current=False, broker_use_ssl=valkey_urls.broker_tls(address))
    app.conf.broker_transport_options = options | {"max_retries": 0}
    location, cache_options = valkey_urls.cache(address)
    cache = RedisCache(location, {"OPTIONS": cache_options})

    async def ping() -> None:
        async with valkey.async_client("bus", retry=None) as client:
            await client.ping()

    acts: list[Callable[[], object]] = [
        lambda: valkey.client("bus", retry=None).ping(),
        lambda: asyncio.run(ping()),
        lambda: app.send_task("any", retry=False),
        lambda: cache.get("any"),
    ]
    with override_settings(REDIS_URL=address):
        for act in acts:
            before = len(found)
            with pytest.raises((redis.RedisError, OperationalError, ConnectionInterrupted)):
                act()
            assert found[before:]
    assert set(found) == {b"\x16"}, "the first byte of a TLS handshake"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sentinel://one,two", "names no primary"),
        ("sentinel://one,,two/fe", "names no Sentinel in ''"),
        ("sentinel://one:0/fe", "names no Sentinel in 'one:0'"),
        ("sentinel://one/fe?timeout=3", "unknown option: timeout"),
    ],
)
def test_wrong_address_of_sentinels_is_named(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        valkey_urls.sentinels(address)


def test_address_of_sentinels_is_translated_for_each_library() -> None:
    address = "sentinel://me:p%40ss@one:26380,[::1],three/fe/2?sentinel_password=s"
    known = valkey_urls.sentinels(address)
    assert known is not None
    assert known.hosts == (("one", 26380), ("::1", 26379), ("three", 26379))
    assert known.options() == {"db": 2, "username": "me", "password": "p@ss"}
    url, options = valkey_urls.broker(address)
    assert url == (
        "sentinel://me:p%40ss@one:26380/2;sentinel://me:p%40ss@[::1]:26379/2;sentinel://me:p%40ss@three:26379/2"
    )
    assert options == {"master_name": "fe", "sentinel_kwargs": {"password": "s"}}
    location, cache = valkey_urls.cache(address)
    assert location == "redis://fe/2"
    assert cache["PASSWORD"] == "p@ss"
