"""The partitions of the log: their bounds, their sizes, and how long the free positions last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from events import head, search, store

# The one definition of bounds: each partition holds positions low <= p < high. A subquery, for `from ({BOUNDS}) p`.
BOUNDS: Final = """
select c.oid, c.relname as name, (b.bound)[1]::bigint as low, (b.bound)[2]::bigint as high, c.reltuples
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
 cross join lateral
       regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''(\\d+)''\\) TO \\(''(\\d+)''\\)') as b(bound)
 where i.inhparent = to_regclass('events_event')
"""

SIZES = f"""
select name, low, high, pg_total_relation_size(oid), greatest(reltuples, 0)::bigint from ({BOUNDS}) p order by low
"""  # noqa: S608 - BOUNDS is a constant

NOW = "select clock_timestamp()"

RATE_OVER: Final = timedelta(days=7)
SECONDS_PER_DAY: Final = 86_400


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """Positions from `first` to `last`, of which `drawn` are used; `events` is the planner's estimate, or 0."""

    name: str
    first: int
    last: int
    bytes: int
    events: int
    drawn: int = 0

    @property
    def positions(self) -> int:
        return self.last - self.first + 1


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """The log's partitions and their headroom.

    headroom   positions that have a partition and are not drawn yet
    per_day    positions drawn per day, averaged over the last week; None for a log younger than an hour
    """

    partitions: list[Partition]
    headroom: int
    bytes: int
    per_day: float | None

    @property
    def days(self) -> float | None:
        """Days until the headroom is used up at this rate."""
        return self.headroom / self.per_day if self.per_day else None


def capacity() -> Capacity:
    """All partitions by position, with the headroom behind the last drawn position."""
    last = head.last()
    partitions = [_partition(row, last) for row in store.query(SIZES)]
    headroom = max(0, partitions[-1].last - last) if partitions else 0
    size = sum(one.bytes for one in partitions)
    return Capacity(partitions=partitions, headroom=headroom, bytes=size, per_day=_per_day(last))


def _partition(row: tuple[str, int, int, int, int], last: int) -> Partition:
    name, low, high, size, events = row
    drawn = min(max(0, last - low + 1), high - low)
    return Partition(name=name, first=low, last=high - 1, bytes=size, events=events, drawn=drawn)


def _per_day(last: int) -> float | None:
    now: datetime = store.query(NOW)[0][0]
    found = search.first_since(now - RATE_OVER, last)
    if found is None:
        return None
    position, recorded_at = found
    seconds = (now - recorded_at).total_seconds()
    return (last - position) / seconds * SECONDS_PER_DAY if seconds >= 3600 else None
