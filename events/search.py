"""Searches events by stream, type, actor, request and time, newest first, one page at a time.

    1  time      is converted to positions: a few look-ups by bisection, because positions ascend with time
    2  a stream  is read by its versions, a request by the index of correlation ids
    3  the rest  (type, actor) has no index, which would slow down every append: it is searched in windows of positions
                 that double, `REACH` positions in one call, and the answer says how far the search came

No statement reads the whole log. Each contains only the given conditions and is planned for their values: for
``:stream is null or stream = :stream``, or for an unknown request, PostgreSQL would plan to walk down the log.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import connection

from events import decoding, store
from events.types import RecordedEvent

WINDOW: Final = 50_000
REACH: Final = 1_000_000
NEAR: Final = 500  # number of positions at which the bisection stops: reading them is faster than halving again
# `recorded_at` is the start of a transaction, a position is drawn near its end: the longest time in between.
SLACK: Final = timedelta(minutes=10)

# Compares pairs, for which only the index of requests is of use. For `correlation_id = …` with many events PostgreSQL
# would plan to walk along the log, past all events of other requests.
OF_REQUEST: Final = """correlation_id is not null
   and (correlation_id, position) >= (%(correlation)s, 0::bigint)
   and (correlation_id, position) <= (%(correlation)s, 9223372036854775807)"""

CONDITIONS: Final[Mapping[str, str]] = {
    "stream": "stream = %(stream)s",
    "type": "type = %(type)s",
    "kind": "starts_with(type, %(kind)s)",
    "actor": "actor = %(actor)s",
    "correlation": OF_REQUEST,
    "since": "recorded_at >= %(since)s",
    "until": "recorded_at < %(until)s",
    "categories": "split_part(stream, '-', 1) = any(%(categories)s)",
}


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Search conditions, all of which must be met; None means no condition.

    kind         prefix of the type, such as ``user.``
    since, until recorded at or after, and before
    categories   of streams, such as ``("user", "form")``
    """

    stream: str | None = None
    type: str | None = None
    kind: str | None = None
    actor: str | None = None
    correlation: uuid.UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    categories: tuple[str, ...] | None = None

    def conditions(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in CONDITIONS}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Matching events, newest first.

    reached   the lowest position that was searched; the next page starts there
    end       True when the whole log was searched
    archived  positions up to this one are in archive files and are not searched
    """

    events: list[RecordedEvent]
    reached: int
    end: bool
    archived: int = 0


ARCHIVED = "select coalesce(max(high) - 1, 0) from events_archive where gone_at is not null"


def find(wanted: Query, *, upto: int, limit: int) -> Page:
    """The newest `limit` events at or below the position `upto` that match."""
    asked = wanted.conditions()
    archived = store.query(ARCHIVED)[0][0]
    down = max(archived, _bisected(_moved(wanted.since, -SLACK), upto)[0] if wanted.since else 0)
    top = _bisected(_moved(wanted.until, SLACK), upto)[1] if wanted.until else upto
    if wanted.stream:
        rows, reached = _in_stream(asked, down, top, limit), down
    elif not asked.keys() - {"correlation", "since", "until"}:
        rows, reached = _between(asked, down, top, limit), down
    else:
        rows, reached = _in_windows(asked, down, top, limit)
    events = decoding.events_of(rows)
    if len(events) == limit:
        reached = events[-1].position - 1
    return Page(events=events, reached=reached, end=reached <= down, archived=archived)


def _moved(moment: datetime, by: timedelta) -> datetime:
    """Adds a duration to an instant; returns the instant unchanged at the ends of the calendar."""
    try:
        return moment + by
    except OverflowError:
        return moment


def _planned(statement: str, values: Mapping[str, Any]) -> list[Any]:
    """Rows of a statement that is planned for its values, which Django's cursor writes into it.

    The store's own statements are prepared, and planned once for any values (`plan_cache_mode` in the settings).
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[Any] = cursor.fetchall()
        return rows


def _conditions(asked: Mapping[str, Any]) -> str:
    return "".join(f" and {CONDITIONS[name]}" for name in asked)


# -- 1: time to positions ---------------------------------------------------------------------------------------------

# Limited to Python's calendar: other values can only have been inserted by direct SQL.
CLAMPED: Final = "greatest('0002-01-01 00:00Z', least('9998-12-31 00:00Z', recorded_at))"

PROBE = f"""
select position, {CLAMPED} from events_event
 where position > %s and position <= %s order by position desc limit 1
"""  # noqa: S608 - a constant


def _bisected(moment: datetime, upto: int) -> tuple[int, int]:
    """Positions (low, high], few enough to read, around the first event recorded at `moment` or later.

    Each bound is the position of an event that was read. All events recorded `SLACK` after the moment have positions
    above `low`, and all above `high` were drawn after the moment. That holds for any order of the events in between,
    because no transaction takes longer than `SLACK`.
    """
    low, high = 0, upto
    while high - low > NEAR:
        middle = (low + high) // 2
        found = store.query(PROBE, (low, middle))
        if not found or found[0][1] < moment:
            low = middle
        else:
            high = found[0][0] - 1
    return low, high


FIRST = f"""
select position, {CLAMPED} from events_event where position > %s and position <= %s order by position limit 1
"""  # noqa: S608 - a constant


def first_since(moment: datetime, upto: int) -> tuple[int, datetime] | None:
    """Position and time of approximately the first event recorded since `moment`; None when there is none."""
    found: list[tuple[int, datetime]] = store.query(FIRST, (_bisected(moment, upto)[0], upto))
    return found[0] if found else None


# -- 2: by an index ---------------------------------------------------------------------------------------------------


def _in_stream(asked: Mapping[str, Any], down: int, top: int, limit: int) -> list[Any]:
    """A page of one stream, read by version, which ascends with the position."""
    statement = f"""
select {decoding.COLUMNS} from events_event
 where position > %(down)s and position <= %(top)s{_conditions(asked)}
   and version < coalesce((select version from events_event
                            where position = %(top)s + 1 and stream = %(stream)s), 9223372036854775807)
 order by version desc limit %(limit)s
"""  # noqa: S608 - constants only
    return _planned(statement, {**asked, "down": down, "top": top, "limit": limit})


def _between(asked: Mapping[str, Any], down: int, top: int, limit: int) -> list[Any]:
    order = "correlation_id desc, position desc" if "correlation" in asked else "position desc"
    statement = f"""
select {decoding.COLUMNS} from events_event
 where position > %(down)s and position <= %(top)s{_conditions(asked)}
 order by {order} limit %(limit)s
"""  # noqa: S608 - constants only
    return _planned(statement, {**asked, "down": down, "top": top, "limit": limit})


# -- 3: by windows ----------------------------------------------------------------------------------------------------


def _in_windows(asked: Mapping[str, Any], down: int, top: int, limit: int) -> tuple[list[Any], int]:
    """Rows, and the lowest position that was searched."""
    rows: list[Any] = []
    for low, high in _windows(down, top):
        rows += _between(asked, low, high, limit - len(rows))
        if len(rows) == limit:
            return rows, rows[-1][0] - 1
        down = low
    return rows, down


def _windows(down: int, top: int) -> Iterator[tuple[int, int]]:
    width, least = WINDOW, max(down, top - REACH)
    while top > least:
        low = max(least, top - width)
        yield low, top
        top, width = low, width * 2


# -- one request ------------------------------------------------------------------------------------------------------

TOGETHER = f"""
select {decoding.COLUMNS} from events_event
 where {OF_REQUEST} and position > %(down)s and position <= %(top)s
 order by correlation_id, position limit %(limit)s
"""  # noqa: S608 - constants only


def events_of_request(correlation: uuid.UUID, *, after: int = 0, upto: int, limit: int) -> list[RecordedEvent]:
    """The events that one request caused, in order."""
    asked = {"correlation": correlation, "down": after, "top": upto, "limit": limit}
    return decoding.events_of(_planned(TOGETHER, asked))


# -- forwards ---------------------------------------------------------------------------------------------------------


class Stretch(msgspec.Struct, frozen=True):
    """Events in order, and the position up to which there are no others: the next read starts there."""

    events: list[RecordedEvent]
    reached: int


def read_stretch(after: int, limit: int, *, upto: int, types: Sequence[str] | None = None) -> Stretch:
    """`store.read_here` that reads at most `REACH` positions, however rare the types are."""
    upto = max(after, upto if types is None else min(upto, after + REACH))
    events = store.read_here(after, limit, upto=upto, types=types) if after < upto else []
    return Stretch(events, events[-1].position if len(events) == limit else upto)
