"""The shared level while Valkey is unreachable, stopped, flushed or restored: slow, but never wrong or an error."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from devtools.valkey import Valkey
from events import head, store, valkey
from metrics import catalogue, queries
from metrics.caching import cache, shared
from tests import factories
from tests.factories import Thread
from tests.metrics.caching.simulated import Process, task


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey for this test alone, which it may stop, flush and kill."""
    started = Valkey(tmp_path, durable=False)
    started.start()
    with override_settings(REDIS_URL=started.url()):
        yield started
    started.stop()


def send(server: Valkey, signum: int) -> None:
    assert server.process
    os.kill(server.process.pid, signum)


@pytest.fixture(autouse=True)
def quickly_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "OPEN_SECONDS", 0.05)


def count() -> int:
    return int(store.query("select count(*) from users where deleted_at is null")[0][0])


def read_until_shared(processes: list[Process], asked: cache.Task) -> None:
    """Read in turn until one process takes a value from Valkey that another one stored."""
    before, deadline = asked.stats.shared, time.monotonic() + 30
    while asked.stats.shared == before:
        assert time.monotonic() < deadline
        factories.user()
        for process in processes:
            process.follow()
            assert int(process.cache.get(asked).value) == count()


@pytest.mark.services
def test_refused_connection_costs_a_load_and_the_cache_comes_back(server: Valkey) -> None:
    processes, asked = [Process(), Process()], task(count, "user")
    read_until_shared(processes, asked)
    server.stop()
    for _ in range(5):
        factories.user()
        for process in processes:
            process.follow()
            assert int(process.cache.get(asked).value) == count()
    assert processes[0].shared.breaker.state == "open"
    server.start()
    read_until_shared(processes, asked)
    assert processes[0].shared.breaker.state == "ok"


@pytest.mark.services
def test_stopped_server_costs_one_timeout_and_not_one_for_each_read(server: Valkey, monkeypatch: Any) -> None:
    monkeypatch.setattr(shared, "OPEN_SECONDS", 3_600.0)
    process, asked = Process(), task(count, "user")
    process.cache.get(asked)
    calls: list[int] = []
    prepared = shared.SharedCache._prepared
    monkeypatch.setattr(shared.SharedCache, "_prepared", lambda self: calls.append(1) or prepared(self))
    send(server, signal.SIGSTOP)
    try:
        for _ in range(5):
            factories.user()
            process.follow()
            assert int(process.cache.get(asked).value) == count()
    finally:
        send(server, signal.SIGCONT)
    assert len(calls) == 1


@pytest.mark.services
def test_half_open_server_is_only_slower(server: Valkey) -> None:
    """It accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with override_settings(REDIS_URL=f"redis://127.0.0.1:{port}/0"):
            process, asked = Process(), task(count, "user")
            assert process.cache.get(asked).value == b"0"
            assert process.shared.breaker.state == "open"


@pytest.mark.services
def test_flushed_server_costs_a_load(server: Valkey) -> None:
    one, two, asked = Process(), Process(), task(count, "user")
    one.cache.get(asked)
    valkey.client("background").flushall()
    assert two.cache.get(asked).value == b"0"
    assert asked.stats.loads == 2


@pytest.mark.services
def test_value_from_an_old_dump_is_refused(server: Valkey) -> None:
    one, two, asked = Process(), Process(), task(count, "user")
    assert one.cache.get(asked).value == b"0"
    client = valkey.client("background")
    client.save()
    factories.user()
    for process in (one, two):
        process.follow()
    assert one.cache.get(asked).value == b"1"
    server.kill()
    server.start()  # with the dump
    while (found := two.shared.fetch(asked.key, two.known.epoch, 0, shared.new_token(), 0.01)) is None:
        time.sleep(0.01)  # the first call finds its connection closed
    assert isinstance(found, shared.Found)
    assert found.value == b"0"  # the old value is back; a cache that only deletes outdated values would return it
    assert two.cache.get(asked).value == b"1"
    assert (asked.stats.shared, asked.stats.loads) == (0, 3)


@pytest.mark.services
def test_value_that_is_not_ours_is_a_miss(server: Valkey) -> None:
    process, asked = Process(), task(count, "user")
    value_key, _ = process.shared._keys(asked.key)
    client = valkey.client("background")
    client.hset(value_key, mapping={"epoch": process.known.epoch, "asof": "x", "until": "y", "value": "z"})
    assert process.cache.get(asked).value == b"0"
    client.set(value_key, "not a hash")
    assert Process().cache.get(asked).value == b"0"


@pytest.mark.services
def test_readers_wait_for_a_stopped_server_together(server: Valkey) -> None:
    process, asked = Process(), task(count, "user")
    send(server, signal.SIGSTOP)
    try:
        readers = [Thread(lambda: process.cache.get(asked).value) for _ in range(8)]
        assert {reader.result() for reader in readers} == {b"0"}
    finally:
        send(server, signal.SIGCONT)


GARBAGE: dict[str, Callable[[Any, str], object]] = {
    "a string": lambda client, key: client.set(key, "garbage"),
    "a list": lambda client, key: client.rpush(key, "garbage"),
    "an empty hash": lambda client, key: client.hset(key, "other", "1"),
    "words for numbers": lambda client, key: client.hset(key, mapping=stamp(asof="new", until="late", at="now")),
    "no number": lambda client, key: client.hset(key, mapping=stamp(asof="nan", until="inf", at="-nan")),
    "a value that never ends": lambda client, key: client.hset(key, mapping=stamp()),
    "no value of this query": lambda client, key: (
        client.hset(key, mapping=stamp()),
        client.pexpire(key, 60_000),
    ),
}


def stamp(**changed: str) -> dict[str, str]:
    far = str(int(time.time() * 1000) + 10**9)
    fields = {"epoch": head.epoch(), "asof": str(10**9), "until": far, "at": "1", "value": '{"free": "\\u0000'}
    return fields | changed


@pytest.mark.services
@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_at_a_key_is_replaced_and_disturbs_no_other_key(server: Valkey, kind: str, part: int) -> None:
    client = valkey.shared_client("cache")
    factories.user()
    first, second, query = Process(), Process(), catalogue.UsersByPlan()
    key = first.shared._keys(queries.task_of(query, "admin").key)[part]
    GARBAGE[kind](client, key)
    assert first.ask(query).free == count()
    assert first.shared.breaker.state == "ok"
    before = queries.task_of(query, "admin").stats.shared
    assert second.ask(query).free == count()
    assert queries.task_of(query, "admin").stats.shared == before + 1
    assert client.ttl(key) != -1


@pytest.mark.services
def test_shared_value_holds_no_longer_than_declared_when_the_clock_of_valkey_is_set_back(server: Valkey) -> None:
    client = valkey.shared_client("cache")
    first, second, asked = Process(), Process(), task(count, "user", seconds=5.0)
    first.cache.get(asked)
    key = first.shared._keys(asked.key)[0]
    client.hset(key, "until", str(int(time.time() * 1000) + 10**9))
    assert second.cache.get(asked).until <= time.monotonic() + asked.seconds
