"""Rolls samples up: slots to minutes, minutes to hours.

Each run of a tier is one transaction: lock its checkpoint, write the buckets that have closed since, move the
checkpoint. A bucket is always computed from all of the tier below, so a repeated run writes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction

from events import store

GRACE: Final = timedelta(seconds=10)  # a sample is written up to this long after the start of its slot
MOST: Final = 1440  # buckets of one run; the next run does the rest

MINUTES = """
insert into metrics_minute (at, source, n, lo, hi, total)
select at, source, array_agg(n order by i), array_agg(lo order by i), array_agg(hi order by i),
       array_agg(total order by i)
  from (select to_timestamp(slot / 12 * 60) as at, source, i, count(x)::smallint as n, min(x) as lo, max(x) as hi,
               sum(x)::real as total
          from metrics_sample cross join lateral unnest(v) with ordinality as one(x, i)
         where slot >= extract(epoch from %(start)s::timestamptz)::bigint / 5
           and slot < extract(epoch from %(end)s::timestamptz)::bigint / 5
         group by 1, 2, 3) as bucket
 group by at, source
on conflict (source, at) do update set n = excluded.n, lo = excluded.lo, hi = excluded.hi, total = excluded.total
returning 1
"""
HOURS = """
insert into metrics_hour (at, source, n, lo, hi, total)
select at, source, array_agg(n order by i), array_agg(lo order by i), array_agg(hi order by i),
       array_agg(total order by i)
  from (select to_timestamp(floor(extract(epoch from at) / 3600) * 3600) as at, source, i, sum(one.n)::smallint as n,
               min(one.lo) as lo, max(one.hi) as hi, sum(one.total)::real as total
          from metrics_minute as m
         cross join lateral rows from (unnest(m.n), unnest(m.lo), unnest(m.hi), unnest(m.total)) with ordinality
               as one(n, lo, hi, total, i)
         where at >= %(start)s and at < %(end)s
         group by 1, 2, 3) as bucket
 group by at, source
on conflict (source, at) do update set n = excluded.n, lo = excluded.lo, hi = excluded.hi, total = excluded.total
returning 1
"""
HISTOGRAM_HOURS = """
insert into metrics_histogram_hour (at, name, counts)
select at, name, array_agg(count order by i)
  from (select to_timestamp(floor(extract(epoch from at) / 3600) * 3600) as at, name, i, sum(count)::int as count
          from metrics_histogram cross join lateral unnest(counts) with ordinality as one(count, i)
         where at >= %(start)s and at < %(end)s
         group by 1, 2, 3) as bucket
 group by at, name
on conflict (name, at) do update set counts = excluded.counts
returning 1
"""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier: the length of its buckets, its statements, and the first instant of the tier below."""

    name: str
    seconds: int
    statements: tuple[str, ...]
    first: str


MINUTE: Final = Tier("minute", 60, (MINUTES,), "select to_timestamp(min(slot) * 5) from metrics_sample")
HOUR: Final = Tier("hour", 3600, (HOURS, HISTOGRAM_HOURS), "select min(at) from metrics_minute")
TIERS: Final = (MINUTE, HOUR)

LOCK = "select upto from metrics_rollup where tier = %s for update skip locked"
UPTO = "select tier, upto from metrics_rollup"
CREATE = "insert into metrics_rollup (tier, upto) values (%s, %s) on conflict do nothing"
MOVE = "update metrics_rollup set upto = %s where tier = %s returning tier"


def roll_up(slot: int) -> dict[str, int]:
    """Write the buckets that closed before a slot; returns the number of rows by tier. Repeated, it writes nothing."""
    now = datetime.fromtimestamp(slot * 5, UTC) - GRACE
    written = {}
    for tier in TIERS:
        written[tier.name] = _roll_up(tier, now)
        now = checkpoints().get(tier.name, now)  # the next tier goes no further than this one
    return written


def checkpoints() -> dict[str, datetime]:
    """Maps each tier to the instant up to which it is complete."""
    return dict(store.query(UPTO))


def _roll_up(tier: Tier, now: datetime) -> int:
    end = _floor(now, tier.seconds)
    with transaction.atomic():
        found = store.query(LOCK, (tier.name,))
        if not found:
            return _begin(tier)
        start = found[0][0]
        end = min(end, start + timedelta(seconds=MOST * tier.seconds))
        if end <= start:
            return 0
        rows = sum(len(store.query(statement, {"start": start, "end": end})) for statement in tier.statements)
        store.query(MOVE, (end, tier.name))
    return rows


def _begin(tier: Tier) -> int:
    """Set the first checkpoint of a tier to the first row below it; the next run continues there."""
    first = store.query(tier.first)[0][0]
    if first is not None:
        store.execute(CREATE, (tier.name, _floor(first, tier.seconds)))
    return 0


def _floor(at: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)
