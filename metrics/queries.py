"""The query bus: every read of metrics is a `Query`, and `ask` is the only way to its answer.

A query is a struct. Its fields are the arguments; its class attributes declare what it returns, who may ask, what it
depends on and how its answer is cached. `define` registers it, and refuses declarations that cannot be right.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import types as python_types
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec
from django.core.exceptions import PermissionDenied

from backoffice import __version__, access
from events import freshness, head
from events.db import replica
from events.subscriptions import progress
from metrics.caching import cache, figures
from metrics.caching.entries import Entry, Size

R = TypeVar("R")
Q = TypeVar("Q", bound="type[Query[Any]]")

CONSISTENT_SECONDS: Final = 5.0
DAY: Final = timedelta(days=1)


class Query(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Base of the queries.

    name        the first part of the names of its cached values, which `invalidate_cache` matches
    result      the type of the answer
    right       (action, category): the right that staff need
    tags        the tags of the events that can change the answer; see `metrics.caching.tags`
    within      None: exact, every event of its tags invalidates a cached answer. Else the seconds that it may be old
    seconds     how long an answer is kept at most; 0: it is not cached
    shared      kept in Valkey too; then `result` consists of numbers, dates and known words
    fed_by      subscriptions that keep the tables it reads; such an answer cannot be exact
    """

    name: ClassVar[str]
    result: ClassVar[Any]
    right: ClassVar[tuple[str, str]]
    tags: ClassVar[tuple[str, ...]] = ()
    within: ClassVar[float | None] = None
    seconds: ClassVar[float] = 30.0
    shared: ClassVar[bool] = False
    fed_by: ClassVar[tuple[str, ...]] = ()

    def load(self) -> R:
        """The answer from the database."""
        raise NotImplementedError

    def own_tags(self) -> tuple[str, ...]:
        """Tags that depend on the arguments, besides `tags`."""
        return ()

    def until(self, now: datetime) -> datetime | None:
        """The instant at which the clock alone changes the answer; None where it does not."""
        return None


class Answer(msgspec.Struct, Generic[R], frozen=True):
    """The answer, and the position and time that it describes; `raw` is the value as JSON."""

    value: R
    raw: bytes
    position: int
    at: datetime


# -- the registry -----------------------------------------------------------------------------------------------------

_queries: dict[str, type[Query[Any]]] = {}
_figures: dict[str, figures.QueryFigures] = {}


def define(query: Q) -> Q:
    """Register a query. Raises `TypeError` for a declaration that cannot be right."""
    if query.name in _queries and _queries[query.name].__qualname__ != query.__qualname__:
        raise TypeError(f"two queries are called {query.name!r}")
    if query.seconds and query.within is None and query.fed_by:
        raise TypeError(f"{query.name}: an exact answer cannot come from tables that follow the log")
    if query.seconds and not query.tags and query.own_tags is Query.own_tags and query.within is None:
        raise TypeError(f"{query.name}: an exact answer that depends on no event needs no cache")
    if query.shared:
        _demand_numbers(query.result, query.name)
    _queries[query.name] = query
    _figures.setdefault(query.name, figures.QueryFigures(query.name))
    return query


def registered() -> Mapping[str, type[Query[Any]]]:
    """All queries by name."""
    return dict(sorted(_queries.items()))


NUMBERS: Final = (int, float, bool, Decimal, date, datetime, timedelta, UUID, type(None))


def _demand_numbers(result: Any, name: str) -> None:
    """Raises `TypeError` unless a type consists of numbers, dates, ids and known words only."""
    origin = get_origin(result)
    if result in NUMBERS or (isinstance(result, type) and issubclass(result, enum.Enum)) or origin is Literal:
        return
    if isinstance(result, type) and issubclass(result, msgspec.Struct):
        parts = [field.type for field in msgspec.structs.fields(result)]
    elif origin in (list, tuple, dict, frozenset, Union, python_types.UnionType):
        parts = [part for part in get_args(result) if part is not Ellipsis]
    else:
        raise TypeError(f"{name}: {result!r} may hold personal data, which must not be shared")
    for part in parts:
        _demand_numbers(part, name)


# -- ask --------------------------------------------------------------------------------------------------------------


def ask(query: Query[R], staff: Any, *, min_position: int = 0, consistent: bool = False) -> Answer[R]:
    """The answer to a query, for a person or a program.

    1  check the right of `staff`; raises `PermissionDenied`
    2  wait for the subscriptions behind it, where the caller names what it must include
    3  memory, Valkey or the database: `metrics.caching.cache`

    `min_position`: the answer includes the event at this position, for example of the caller's own command.
    `consistent`: it includes everything that is committed. Raises `WaitTimeout` where a subscription does not follow.
    """
    action, category = query.right
    if not access.may(staff, action, category):
        raise PermissionDenied
    if consistent:
        min_position = max(min_position, head.newest())
    if min_position:
        for name in query.fed_by:
            progress.wait_for(name, min_position, CONSISTENT_SECONDS)
    if not query.seconds:
        entry = cache.LOCAL.load_only(_task(query, access.projection_key(staff)))
    else:
        entry = cache.LOCAL.get(_task(query, access.projection_key(staff)), min_position)
    return _answer(query, entry)


async def aask(query: Query[R], staff: Any, *, min_position: int = 0) -> Answer[R]:
    """`ask` for the event loop; for cached queries over inline read tables."""
    action, category = query.right
    if not access.may(staff, action, category):
        raise PermissionDenied
    return _answer(query, await cache.LOCAL.aget(_task(query, access.projection_key(staff)), min_position))


def _answer(query: Query[R], entry: Entry) -> Answer[R]:
    replica.show(entry.asof)
    value: R = msgspec.json.decode(entry.value, type=query.result)
    return Answer(value, entry.value, entry.asof, datetime.fromtimestamp(entry.at, UTC))


def task_of(query: Query[Any], role: str) -> cache.Task:
    """The task of a query for one role, as the cache runs it."""
    return _task(query, role)


@functools.lru_cache(maxsize=1_024)
def _task(query: Query[Any], role: str) -> cache.Task:
    """The task of a query; equal queries share one object, so that nothing is computed for a hit."""
    name = value_name(query, role)
    return cache.Task(
        f"{build()}:{name}",
        name,
        lambda: msgspec.json.encode(query.load()),
        slots=freshness.slots((*query.tags, *query.own_tags())),
        stats=_figures[query.name],
        exact=query.within is None,
        seconds=query.seconds if query.within is None else min(query.within, query.seconds),
        shared=query.shared,
        fed_by=query.fed_by,
        until=functools.partial(_seconds_left, query.until),
        check=functools.partial(msgspec.json.decode, type=query.result),
    )


def value_name(query: Query[Any], role: str) -> str:
    """The name of a cached value: query, arguments, role (``user-forms:<id>:admin``)."""
    arguments = [str(getattr(query, name)) for name in query.__struct_fields__]
    return ":".join((query.name, *arguments, role))


def _seconds_left(until: Callable[[datetime], datetime | None]) -> float:
    now = datetime.now(UTC)
    end = until(now)
    return float("inf") if end is None else max(0.0, (end - now).total_seconds())


def next_midnight(now: datetime) -> datetime:
    """The end of the day, in UTC."""
    return datetime.combine(now.astimezone(UTC).date() + DAY, datetime.min.time(), UTC)


@functools.cache
def build() -> str:
    """Identifies the code that loads values, by release and a digest of this package. Builds share no values."""
    digest = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def report() -> figures.CacheReport:
    """The cache of this process, for display; brings the figures of Prometheus up to date."""
    local, sizes = cache.LOCAL, cache.LOCAL.memory.sizes()
    figures.BYTES.set(local.memory.bytes)
    figures.CONNECTED.set(local.known.trusted())
    rows = []
    for name in registered():
        size = sizes.get(name, Size(0, 0, 0))
        _figures[name].flush(size.hits)
        counts = _figures[name].counts(size.hits)
        rows.append(figures.QueryReport(query=name, entries=size.entries, bytes=size.bytes, **counts))
    return figures.CacheReport(
        connected=local.known.trusted(),
        position=local.known.position,
        floor=local.known.floor,
        valkey=local.shared.breaker.state,
        bytes=local.memory.bytes,
        limit=local.memory.limit,
        queries=rows,
    )


def hits_and_misses() -> tuple[int, int]:
    """The numbers of reads of this process that the cache answered (from memory or Valkey) and did not answer."""
    sizes = cache.LOCAL.memory.sizes()
    counts = [_figures[name].counts(sizes[name].hits if name in sizes else 0) for name in registered()]
    return sum(one["hits"] + one["shared"] for one in counts), sum(one["misses"] for one in counts)
