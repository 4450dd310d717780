"""Finding events: newest first, by stream, type, actor, request and time, a page at a time, however long the log is.

    1  time      becomes positions: a few look-ups by bisection, because positions ascend with time
    2  a stream  is read by its versions, a request by the index of correlation ids
    3  the rest  (type, actor) has no index, which every append would pay for: it is looked for in windows of positions
                 that double, `REACH` positions in one call, and the answer says how far it came

No statement reads the whole log. Each is made of the conditions that were asked for and of no others, and planned for
these very values: for ``:stream is null or stream = :stream``, or for a request that may be any, PostgreSQL would plan
to walk down the log.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import connection

from events import store
from events.types import RecordedEvent

WINDOW: Final = 50_000
REACH: Final = 1_000_000
NEAR: Final = 500  # positions, when bisecting: less is read quicker than halved
# `recorded_at` is when a transaction began, a position is drawn near its end: so long a transaction may take.
SLACK: Final = timedelta(minutes=10)

CONDITIONS: Final[Mapping[str, str]] = {
    "stream": "stream = %(stream)s",
    "type": "type = %(type)s",
    "kind": "starts_with(type, %(kind)s)",
    "actor": "actor = %(actor)s",
    "correlation": "correlation_id = %(correlation)s",
    "since": "recorded_at >= %(since)s",
    "until": "recorded_at < %(until)s",
    "categories": "split_part(stream, '-', 1) = any(%(categories)s)",
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for. All of it must hold; None is "whatever".

    kind         beginning of the type, such as ``user.``
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

    def asked(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in CONDITIONS}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Events, newest first. `reached` is the position down to which the log was looked through (the next page begins
    there); `end` whether that was all of it; positions up to `archived` are in files, and not looked through.
    """

    events: list[RecordedEvent]
    reached: int
    end: bool
    archived: int = 0


ARCHIVED = "select coalesce(max(high) - 1, 0) from events_archive where gone_at is not null"


def find(wanted: Wanted, *, upto: int, limit: int) -> Found:
    """The newest `limit` events at or below the position `upto` that answer."""
    asked = wanted.asked()
    archived = store.query(ARCHIVED)[0][0]
    down = max(archived, _bisected(_moved(wanted.since, -SLACK), upto)[0] if wanted.since else 0)
    top = _bisected(_moved(wanted.until, SLACK), upto)[1] if wanted.until else upto
    if wanted.stream:
        rows, reached = _in_stream(asked, down, top, limit), down
    elif not asked.keys() - {"correlation", "since", "until"}:
        rows, reached = _between(asked, down, top, limit), down
    else:
        rows, reached = _in_windows(asked, down, top, limit)
    events = store.rows_to_events(rows)
    if len(events) == limit:
        reached = events[-1].position - 1
    return Found(events=events, reached=reached, end=reached <= down, archived=archived)


def _moved(moment: datetime, by: timedelta) -> datetime:
    """An instant earlier or later; at either end of the calendar, itself."""
    try:
        return moment + by
    except OverflowError:
        return moment


def _planned(statement: str, values: Mapping[str, Any]) -> list[Any]:
    """Rows of a statement planned for its values: Django's cursor writes them into it. The store's statements are
    prepared, and planned once for whatever comes (`plan_cache_mode` in the settings).
    """
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[Any] = cursor.fetchall()
        return rows


def _conditions(asked: Mapping[str, Any]) -> str:
    return "".join(f" and {CONDITIONS[name]}" for name in asked)


# -- 1: time becomes positions --------------------------------------------------------------------------------------

# Within the calendar that Python has, whatever a hand in the database wrote.
CLAMPED: Final = "greatest('0002-01-01 00:00Z', least('9998-12-31 00:00Z', recorded_at))"

PROBE = f"""
select position, {CLAMPED} from events_event
 where position > %s and position <= %s order by position desc limit 1
"""  # noqa: S608 - a constant


def _bisected(moment: datetime, upto: int) -> tuple[int, int]:
    """Positions (low, high], few enough to be read, on the way from what was recorded before `moment` to the rest.

    Both bounds rest on an event that was seen. What was drawn after the event at `low` is all that can have been
    recorded `SLACK` after the moment, and what stands above `high` was drawn after the moment: that holds whatever the
    order of the events in between, because no transaction takes longer than `SLACK`.
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
    """About the first event recorded since: its position and when. None when there is none."""
    found: list[tuple[int, datetime]] = store.query(FIRST, (_bisected(moment, upto)[0], upto))
    return found[0] if found else None


# -- 2: by an index -------------------------------------------------------------------------------------------------


def _in_stream(asked: Mapping[str, Any], down: int, top: int, limit: int) -> list[Any]:
    """By version, which ascends with the position: the page begins below the version that stands at its edge."""
    statement = f"""
select {store.COLUMNS} from events_event
 where position > %(down)s and position <= %(top)s{_conditions(asked)}
   and version < coalesce((select version from events_event
                            where position = %(top)s + 1 and stream = %(stream)s), 9223372036854775807)
 order by version desc limit %(limit)s
"""  # noqa: S608 - constants only
    return _planned(statement, {**asked, "down": down, "top": top, "limit": limit})


def _between(asked: Mapping[str, Any], down: int, top: int, limit: int) -> list[Any]:
    statement = f"""
select {store.COLUMNS} from events_event
 where position > %(down)s and position <= %(top)s{_conditions(asked)}
 order by position desc limit %(limit)s
"""  # noqa: S608 - constants only
    return _planned(statement, {**asked, "down": down, "top": top, "limit": limit})


# -- 3: by windows --------------------------------------------------------------------------------------------------


def _in_windows(asked: Mapping[str, Any], down: int, top: int, limit: int) -> tuple[list[Any], int]:
    """Rows, and the position down to which was looked."""
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


# -- one request ----------------------------------------------------------------------------------------------------

TOGETHER = f"""
select {store.COLUMNS} from events_event
 where correlation_id = %(correlation)s and position > %(down)s and position <= %(top)s
 order by position limit %(limit)s
"""  # noqa: S608 - COLUMNS is a constant


def together(correlation: uuid.UUID, *, after: int = 0, upto: int, limit: int) -> list[RecordedEvent]:
    """What one request caused, in order."""
    asked = {"correlation": correlation, "down": after, "top": upto, "limit": limit}
    return store.rows_to_events(_planned(TOGETHER, asked))
