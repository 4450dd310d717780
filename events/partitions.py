"""The log on disk: its partitions, how large they are, how long there is room."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from events import head, search, store

PARTITIONS = """
select c.relname, b.bounds[1]::bigint, b.bounds[2]::bigint, pg_total_relation_size(c.oid),
       greatest(c.reltuples, 0)::bigint
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  cross join lateral (
      select regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''(\\d+)''\\) TO \\(''(\\d+)''\\)') as bounds) b
 where i.inhparent = 'events_event'::regclass order by 2
"""

NOW = "select clock_timestamp()"

PACE: Final = timedelta(days=7)


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


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """room   positions that have a partition and are not drawn yet
    pace      positions drawn in a day, by the last week; None for a log that is younger than an hour
    """

    partitions: list[Partition]
    room: int
    bytes: int
    pace: float | None

    @property
    def days(self) -> float | None:
        """How long the room lasts at this pace."""
        return self.room / self.pace if self.pace else None


def layout() -> Layout:
    last = head.last()
    partitions = [_partition(row, last) for row in store.query(PARTITIONS)]
    room = max(0, partitions[-1].last - last) if partitions else 0
    size = sum(one.bytes for one in partitions)
    return Layout(partitions=partitions, room=room, bytes=size, pace=_pace(last))


def _partition(row: tuple[str, int, int, int, int], last: int) -> Partition:
    name, start, stop, size, events = row
    drawn = min(max(0, last - start + 1), stop - start)
    return Partition(name=name, first=start, last=stop - 1, bytes=size, events=events, drawn=drawn)


def _pace(last: int) -> float | None:
    now: datetime = store.query(NOW)[0][0]
    found = search.first_since(now - PACE, last)
    if found is None:
        return None
    position, recorded_at = found
    seconds = (now - recorded_at).total_seconds()
    return (last - position) / seconds * 86_400 if seconds >= 3600 else None
