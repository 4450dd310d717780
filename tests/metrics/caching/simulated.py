"""Several processes in one: each with its own knowledge of the log, its own memory, and one Valkey for all."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from events import freshness, head, store
from metrics import catalogue, queries
from metrics.caching import cache, figures
from metrics.caching.entries import Entry, Memory
from metrics.caching.shared import SharedCache
from metrics.figures import records

_numbers = itertools.count()


class Process:
    """A process whose follower advances only when the test advances it."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.known = freshness.Freshness()
        self.memory = Memory(limit, self.known)
        self.shared = SharedCache()
        self.cache = cache.Cache(self.memory, self.shared, self.known)
        self.known.start(head.epoch(), head.safe())
        self.known.confirm(time.monotonic() + 3600)  # never disconnected, unless a test says so

    def follow(self, upto: int | None = None) -> None:
        """Handle the events up to a position, or all."""
        safe = head.safe() if upto is None else upto
        for event in store.read_all(self.known.position, 10_000, upto=safe):
            self.known.touch(event)
        self.known.advance(safe)

    def ask(self, query: queries.Query[Any], role: str = "admin", reached: int = 0) -> Any:
        """Read a query through the cache; returns the decoded value."""
        return msgspec.json.decode(self.get(query, role, reached).value, type=query.result)

    def get(self, query: queries.Query[Any], role: str = "admin", reached: int = 0) -> Entry:
        return self.cache.get(queries.task_of(query, role), reached)


def task(load: Callable[[], Any], *tags: str, key: str | None = None, **how: Any) -> cache.Task:
    """A cache task for this load, under a new key unless one is given."""
    name = key or f"test:{next(_numbers)}:{time.time_ns()}"
    given = {"stats": figures.QueryFigures("test"), "shared": True, **how}
    return cache.Task(name, name, lambda: msgspec.json.encode(load()), slots=freshness.slots(tags), **given)


def fresh(query: queries.Query[Any]) -> Any:
    """The value from the database, as a cached one would be decoded."""
    return msgspec.json.decode(msgspec.json.encode(query.load()), type=query.result)


def every_query(user: UUID) -> list[queries.Query[Any]]:
    """One of each cached query whose answer events change."""
    from datetime import UTC, datetime, timedelta

    today = datetime.now(UTC).date()
    return [
        catalogue.Totals(),
        catalogue.UsersByPlan(),
        catalogue.UserForms(user=user),
        catalogue.FormStats(first=today - timedelta(days=6), last=today),
        records.UserDays(user=user),
        records.FormDays(form=user),
    ]
