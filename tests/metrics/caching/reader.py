"""A web process for tests: its hub follows the log, and threads read through the cache and check every answer.

`python -c "…; reader.main(user)"` obeys the lines on its standard input and answers with lines of JSON:

    go              each thread reads until the process ends
    seen N          answer once N more reads are done: their numbers, and what was wrong
    tolerate        reads may fail from now on because the database is away
    failed N        answer once N more reads have failed so
    burst KEY       N threads read a slow query at once
    block SECONDS   the event loop, and so the follower, does nothing for that time

With PATIENT=1 in the environment it waits up to a minute for Valkey and for other processes, so that it does not load
a value itself only because the machine is busy.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import psycopg
from django.db import DatabaseError, connection

from backoffice.sections.users.domain import UserUpdated
from events import errors, freshness, store, types, valkey
from metrics import queries
from metrics.caching import cache
from metrics.queries import Query, define
from realtime import local_hub

THREADS = 2
AWAY = (errors.StoreUnavailable, psycopg.OperationalError, DatabaseError)
BURST = 50


class Admin:
    """Somebody who may do everything."""

    is_active = is_staff = is_superuser = True
    role = "admin"


@define
class Version(Query[int], frozen=True, kw_only=True):
    """The version of a user's stream, read from the log."""

    user: UUID

    name: ClassVar[str] = "test-version"
    result: ClassVar[Any] = int
    right: ClassVar[tuple[str, str]] = ("view", "user")
    shared: ClassVar[bool] = True

    def own_tags(self) -> tuple[str, ...]:
        return (f"user-{self.user}",)

    def load(self) -> int:
        return int(
            store.query("select coalesce(max(version), 0) from events_event where stream = %s", (f"user-{self.user}",))[
                0
            ][0]
        )


@define
class Slow(Query[int], frozen=True, kw_only=True):
    """A query that takes 0.3 seconds and counts its loads in a table."""

    key: str

    name: ClassVar[str] = "test-slow"
    result: ClassVar[Any] = int
    right: ClassVar[tuple[str, str]] = ("view", "user")
    tags: ClassVar[tuple[str, ...]] = ("nothing",)
    shared: ClassVar[bool] = True

    def load(self) -> int:
        store.query("insert into loads (key) values (%s) returning 1", (self.key,))
        store.query("select pg_sleep(0.3)")
        return 1


class Reader:
    """Reads a user's version and checks it. `known` is the newest version that this process has handled."""

    def __init__(self, user: str) -> None:
        self.stream = f"user-{user}"
        self.query = Version(user=UUID(user))
        self.known = self.reads = self.failed = 0
        self.may_fail = False
        self.wrong: list[str] = []
        touch = freshness.LOCAL.touch

        def touch_and_remember(event: types.RecordedEvent) -> None:
            touch(event)
            if event.stream == self.stream:
                self.known = max(self.known, event.version)

        freshness.LOCAL.touch = touch_and_remember  # type: ignore[method-assign]

    def read(self) -> None:
        """Reads for ever; records each answer older than the process knew before, or older than its own write."""
        dice = random.Random()
        while True:
            try:
                known = self.known
                value = queries.ask(self.query, Admin()).value
                if value < known:
                    self.wrong.append(f"{value} after {known} was known")
                if dice.random() < 0.02:
                    done = store.append(self.stream, [UserUpdated(first_name="A")])
                    value = queries.ask(self.query, Admin(), min_position=done.position).value
                    if value < done.version:
                        self.wrong.append(f"{value} after {done.version} was written")
            except Exception as error:
                connection.close()  # as the end of a request does
                if self.may_fail and isinstance(error, AWAY):
                    self.failed += 1
                    time.sleep(0.005)
                    continue
                self.wrong.append(repr(error))
            self.reads += 1
            if dice.random() < 0.05:
                time.sleep(0.001)  # lets the follower run

    def wait_for(self, order: str, number: int) -> None:
        """Wait until so many more reads are done, or have failed."""
        counter = "failed" if order == "failed" else "reads"
        upto = getattr(self, counter) + number
        while getattr(self, counter) < upto:
            time.sleep(0.005)

    def report(self) -> dict[str, Any]:
        (own,) = [one for one in queries.report().queries if one.query == self.query.name]
        counts = msgspec.structs.asdict(own)
        return counts | {
            "reads": self.reads,
            "wrong": self.wrong[:3],
            "trusted": freshness.LOCAL.trusted(),
            "position": freshness.LOCAL.position,
            "valkey": cache.LOCAL.shared.breaker.state,
        }


def be_patient() -> None:
    if os.environ.get("PATIENT"):
        cache.LEASE_SECONDS = valkey.TIMEOUTS["cache"] = 60.0  # type: ignore[misc]


def main(user: str) -> None:
    be_patient()
    reader = Reader(user)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(_follow(), loop).result(60)
    print(json.dumps(reader.report()), flush=True)
    for line in sys.stdin:
        order, _, rest = line.strip().partition(" ")
        if order == "go":
            for _ in range(THREADS):
                threading.Thread(target=reader.read, daemon=True).start()
        elif order == "tolerate":
            reader.may_fail = True
        elif order in ("seen", "failed"):
            reader.wait_for(order, int(rest))
        elif order == "trust":
            while freshness.LOCAL.trusted() is not (rest == "1"):
                time.sleep(0.005)
        elif order == "position":
            while freshness.LOCAL.position < int(rest):
                time.sleep(0.001)
        elif order == "block":
            loop.call_soon_threadsafe(time.sleep, float(rest))
        elif order == "burst":
            burst(rest)
        print(json.dumps(reader.report()), flush=True)


async def _follow() -> None:
    hub = await local_hub.current()
    await hub.wait_ready()


def burst(key: str) -> None:
    def ask() -> None:
        try:
            assert queries.ask(Slow(key=key), Admin()).value == 1
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(BURST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
