"""Four web processes with a relay and a failing Valkey: no answer is older than its process knows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from devtools import processes
from devtools.valkey import Valkey
from events import head, store
from events.types import new_id
from tests.events import effects, servers
from tests.live import PROJECT
from tests.metrics.caching.reader import BURST

READ = "import sys, django; django.setup(); from tests.metrics.caching import reader; reader.main(sys.argv[1])"
READERS = 4
READS = 60  # of each process between two disturbances

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


class Reader:
    """A process that runs `tests.metrics.caching.reader`."""

    def __init__(self, user: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            processes.child_command([sys.executable, "-c", READ, user]),
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def order(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the reader has ended"
        found: dict[str, Any] = json.loads(line)
        return found


def all_of(readers: Sequence[Reader], line: str) -> list[dict[str, Any]]:
    """Send a line to all readers, then return the answer of each."""
    for reader in readers:
        reader.order(line)
    return [reader.answer() for reader in readers]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    started = Valkey(tmp_path, durable=False)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def environment(server: Valkey) -> dict[str, str]:
    return os.environ | {
        "DATABASE_URL": effects.database_url(),
        "REDIS_URL": server.url(),
        "DJANGO_SETTINGS_MODULE": "backoffice.settings",
        "DATABASE_POOL": "4",
    }


def start_relay(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        processes.child_command([sys.executable, "manage.py", "run_subscriptions", "relay", "--lease", "0.5"]),
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def running(environment: dict[str, str], user: str, number: int = READERS) -> Iterator[list[Reader]]:
    readers = [Reader(user, environment) for _ in range(number)]
    try:
        for reader in readers:
            reader.answer()
        yield readers
    finally:
        for reader in readers:
            with reader.process as process:
                process.kill()


def send(server: Valkey, signum: int) -> None:
    assert server.process
    os.kill(server.process.pid, signum)


def test_no_read_is_older_than_what_its_process_knows(server: Valkey, environment: dict[str, str]) -> None:
    """Meanwhile all write, followers pause, Valkey is flushed, stopped, killed and restored, the relay is killed."""
    relay = start_relay(environment)
    client = redis.Redis.from_url(server.url())

    def flush() -> None:
        client.flushall()

    def pause_followers() -> None:
        for reader in readers[:2]:
            reader.order("block 0.4")
            reader.answer()

    def stop_valkey() -> None:
        send(server, signal.SIGSTOP)
        all_of(readers, f"seen {READS}")
        send(server, signal.SIGCONT)

    def stop_process() -> None:
        os.kill(readers[0].process.pid, signal.SIGSTOP)
        all_of(readers[1:], f"seen {READS}")
        os.kill(readers[0].process.pid, signal.SIGCONT)

    def restore_old_dump() -> None:
        with contextlib.suppress(redis.RedisError):
            client.save()
        all_of(readers, f"seen {READS}")
        server.kill()
        all_of(readers, f"seen {READS}")
        server.start()

    def kill_relay() -> None:
        nonlocal relay
        relay.kill()
        relay.wait()
        all_of(readers, f"seen {READS}")
        relay = start_relay(environment)

    with running(environment, str(new_id())) as readers:
        try:
            all_of(readers, "go")
            for disturb in (flush, pause_followers, stop_valkey, stop_process, restore_old_dump, kill_relay, flush):
                disturb()
                for found in all_of(readers, f"seen {READS}"):
                    assert not found["wrong"], disturb.__name__
            all_of(readers, "trust 1")
            together = all_of(readers, f"seen {READS}")
        finally:
            relay.kill()
            relay.wait()
    assert all(found["hits"] for found in together)
    assert sum(found["shared"] for found in together)
    assert not [found["wrong"] for found in together if found["wrong"]]


def test_restarts_and_crashes_of_postgresql_during_reads_make_no_answer_old(
    server: Valkey, environment: dict[str, str]
) -> None:
    with servers.server("cache") as postgres, servers.used(postgres):
        servers.migrate()
        environment["DATABASE_URL"] = postgres.url()
        relay = start_relay(environment)
        try:
            with running(environment, str(new_id()), 2) as readers:
                all_of(readers, "go")
                all_of(readers, f"seen {READS}")
                all_of(readers, "tolerate")
                for stop in (postgres.stop, postgres.kill):
                    for reader in readers:
                        reader.order("failed 1")
                    stop()
                    for reader in readers:
                        reader.answer()
                    postgres.start()
                    all_of(readers, "trust 1")
                    for found in all_of(readers, f"seen {READS}"):
                        assert not found["wrong"], stop.__name__
                assert all(found["hits"] for found in all_of(readers, f"seen {READS}"))
        finally:
            relay.kill()
            relay.wait()


def test_two_hundred_misses_in_four_processes_are_one_load(environment: dict[str, str]) -> None:
    store.execute("create table loads (key text)")
    relay = start_relay(environment)
    try:
        with running(environment | {"PATIENT": "1"}, str(new_id())) as readers:
            all_of(readers, "trust 1")
            found = all_of(readers, "burst a")
        assert store.query("select count(*) from loads") == [(1,)]
        assert len(found) * BURST == 200
    finally:
        relay.kill()
        relay.wait()
        store.execute("drop table loads")


def test_process_without_relay_and_valkey_stays_connected_by_reading_the_store(
    server: Valkey, environment: dict[str, str]
) -> None:
    server.stop()
    user = str(new_id())
    with running(environment, user, 1) as readers:
        all_of(readers, "trust 1")
        position = effects.grow(1, [f"user-{user}"])
        assert all(found["position"] >= position for found in all_of(readers, f"position {position}"))
        assert head.safe() == position


def test_process_that_was_stopped_is_disconnected_when_it_continues(environment: dict[str, str]) -> None:
    with running(environment, str(new_id()), 1) as readers:
        all_of(readers, "trust 1")
        one = readers[0]
        one.order("block 2")
        assert one.answer()["trusted"]
        one.order("trust 0")
        assert not one.answer()["trusted"]
        one.order("trust 1")
        assert one.answer()["trusted"]
