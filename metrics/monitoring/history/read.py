"""Reads the history: windows of single samples for rules, and points for charts.

A chart reads the coarsest tier whose buckets fit into its step. Tiers below supply the newest points, which that tier
does not have yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from events import store
from metrics.monitoring import buckets, metric_types
from metrics.monitoring.history import ranges, rollup, tables
from metrics.monitoring.metric_types import POSITIONS, SLOT_SECONDS, Metric

TierName: TypeAlias = Literal["raw", "minute", "hour"]
# [Unix seconds, lowest, average, highest, number of samples]; the three values are None in a gap.
Point: TypeAlias = tuple[int, float | None, float | None, float | None, int]

TIER_SECONDS: Final[dict[TierName, int]] = {"raw": SLOT_SECONDS, "minute": 60, "hour": 3600}
TIER_TABLES: Final[dict[TierName, str]] = {
    "raw": "metrics_sample",
    "minute": "metrics_minute",
    "hour": "metrics_hour",
}
SHARES: Final = {"requests.p50": 0.5, "requests.p95": 0.95, "requests.p99": 0.99}
DURATIONS: Final = "requests"  # the name of the histogram


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The points of one metric. `step` in seconds; `slot` is the newest slot that they include."""

    metric: str
    target: str
    unit: str
    step: int
    tier: TierName
    slot: int | None
    points: list[Point]


# -- single samples ---------------------------------------------------------------------------------------------------

WINDOW = """
select slot, {aggregate}(v[%(position)s]) from metrics_sample
 where {sources} and slot > %(after)s and slot <= %(until)s group by slot
"""
ONE_SOURCE = "source = %(source)s"
ALL_SOURCES = "source >= %(source)s || ':' and source < %(source)s || ';'"  # all targets of a group
NEWEST = """
select slot from metrics_sample where source = 'cluster' and slot > %(after)s and slot <= %(until)s
 order by slot desc limit 1
"""
SLOT = "select source, v from metrics_sample where slot = %s and source <> 'sampler'"


def window(name: str, seconds: int, until_slot: int, target: str = "") -> list[float | None]:
    """The values of the last `seconds` up to a slot, one per slot, oldest first; None: missing.

    Without a target, a metric of hosts or subscriptions gives the value of the worst one in each slot.
    """
    metric = metric_types.metric(name)
    count = seconds // SLOT_SECONDS
    sources, source = _sources(metric, target)
    asked = {
        "position": POSITIONS[name] + 1,
        "source": source,
        "after": until_slot - count,
        "until": until_slot,
    }
    found = dict(store.query(WINDOW.format(aggregate=_worst(metric), sources=sources), asked))
    return [found.get(slot) for slot in range(until_slot - count + 1, until_slot + 1)]


def _worst(metric: Metric) -> str:
    return "min" if metric.low_is_bad else "max"


def _sources(metric: Metric, target: str) -> tuple[str, str]:
    """The condition on the source, and its parameter."""
    if target or metric.group == "cluster":
        return ONE_SOURCE, metric_types.source(metric.group, target)
    return ALL_SOURCES, metric.group


def newest_slot(present: int | None = None) -> int | None:
    """The newest slot of the last day that has values."""
    until = tables.present_slot() if present is None else present
    found = store.query(NEWEST, {"after": until - tables.DAY_SLOTS, "until": until})
    return found[0][0] if found else None


def targets(slot: int) -> dict[str, dict[str, float | None]]:
    """The values of a slot: metric -> target -> value. The target of a cluster metric is empty."""
    found: dict[str, dict[str, float | None]] = {}
    for source, values in store.query(SLOT, (slot,)):
        group, _colon, target = source.partition(":")
        for metric in metric_types.METRICS.values():
            if metric.group == group and POSITIONS[metric.name] < len(values):
                found.setdefault(metric.name, {})[target] = values[POSITIONS[metric.name]]
    return found


def latest() -> tuple[int | None, dict[str, float | None]]:
    """The newest slot with values, and the value of each metric in it: of several targets the worst."""
    slot = newest_slot()
    by_target = targets(slot) if slot is not None else {}
    return slot, {
        metric.name: worst(metric, by_target.get(metric.name, {})) for metric in metric_types.METRICS.values()
    }


def worst(metric: Metric, by_target: dict[str, float | None]) -> float | None:
    """The worst of the values of several targets."""
    known = [value for value in by_target.values() if value is not None]
    return (min(known) if metric.low_is_bad else max(known)) if known else None


# -- points of a chart ------------------------------------------------------------------------------------------------

# The rows of each tier in [start, end) as (at, source, n, lo, hi, total) of one position.
RAW_ROWS = """
select to_timestamp(slot * 5) as at, source, (v[%(position)s] is not null)::int as n, v[%(position)s] as lo,
       v[%(position)s] as hi, v[%(position)s]::float as total
  from metrics_sample
 where {sources} and slot >= ceil(extract(epoch from %(raw_start)s::timestamptz) / 5)::bigint
   and slot < ceil(extract(epoch from %(end)s::timestamptz) / 5)::bigint
"""
TIER_ROWS = """
select at, source, n[%(position)s]::int, lo[%(position)s], hi[%(position)s], total[%(position)s]::float
  from metrics_{tier}
 where {sources} and at >= %({tier}_start)s and at < %({tier}_end)s
"""
# Two steps, because a bucket shows the worst target and not the mean of the targets.
POINTS = """
select bucket, min(lo), {worst}(average), max(hi), max(n)
  from (select width_bucket(at, %(bounds)s::timestamptz[]) as bucket, source, min(lo) as lo, max(hi) as hi,
               sum(total) / nullif(sum(n), 0) as average, sum(n)::int as n
          from ({rows}) as one group by 1, 2) as per_source
 where n > 0 group by bucket
"""
# Merged counts of durations by bucket of the chart.
HISTOGRAMS = """
select bucket, array_agg(count order by i)
  from (select width_bucket(at, %(bounds)s::timestamptz[]) as bucket, i, sum(count)::bigint as count
          from (select at, counts from metrics_histogram_hour
                 where name = %(name)s and at >= %(hour_start)s and at < %(hour_end)s
                union all
                select at, counts from metrics_histogram
                 where name = %(name)s and at >= %(minute_start)s and at < %(end)s) as rows
         cross join lateral unnest(counts) with ordinality as one(count, i)
         group by 1, 2) as merged
 group by bucket
"""


def points(
    name: str,
    wanted: ranges.Range,
    step: int | None = None,
    zone: ZoneInfo | None = None,
    *,
    after_slot: int | None = None,
    target: str = "",
) -> History:
    """The points of a metric in a range, a row for every bucket.

    With `after_slot` only the buckets that begin after that slot. Raises `ranges.BadRange` for more than
    `ranges.MOST_POINTS` points and `KeyError` for an unknown metric.
    """
    metric, zone = metric_types.metric(name), zone or ZoneInfo("UTC")
    if after_slot is not None:
        after = datetime.fromtimestamp((after_slot + 1) * SLOT_SECONDS, UTC)
        wanted = ranges.Range(min(max(wanted.start, after), wanted.end), wanted.end)
    step = step or max(ranges.default_step(wanted), _finest(wanted.start))
    found = ranges.bounds(wanted, step, zone)
    if after_slot is not None and found[0] < wanted.start:
        found = found[1:]  # a bucket that began before is known to the reader
    tier = _tier(step, found)
    asked = {"bounds": list(found), "position": POSITIONS[name] + 1, "end": found[-1], **_parts(tier, found)}
    sources, asked["source"] = _sources(metric, target)
    rows = {row[0]: row[1:] for row in store.query(_statement(metric, tier, sources), asked)}
    if metric.kind == "percentile" and step >= 60:
        _merge_percentiles(name, rows, asked)
    return History(
        metric=name,
        target=target,
        unit=metric.unit,
        step=step,
        tier=tier,
        slot=newest_slot(),
        points=[_point(at, rows.get(number)) for number, at in enumerate(found[:-1], 1)],
    )


def _finest(start: datetime) -> int:
    """The shortest step for which there still are rows at this instant."""
    days = tables.present_slot() / tables.DAY_SLOTS - start.timestamp() / 86_400
    if days <= tables.KEEP_DAYS["metrics_sample"]:
        return SLOT_SECONDS
    return 60 if days <= tables.KEEP_DAYS["metrics_minute"] else 3600


def _statement(metric: Metric, tier: TierName, sources: str) -> str:
    pieces = [RAW_ROWS.format(sources=sources)]
    pieces += [TIER_ROWS.format(tier=one, sources=sources) for one in ("minute", "hour") if _includes(tier, one)]
    return POINTS.format(worst=_worst(metric), rows=" union all ".join(pieces))


def _includes(tier: TierName, other: str) -> bool:
    return other == tier or (tier == "hour" and other == "minute")


def _tier(step: int, found: Sequence[datetime]) -> TierName:
    """The coarsest tier whose buckets fit between the bounds; days of a zone may begin at half past an hour."""
    if step % 60:
        return "raw"
    return "hour" if step % 3600 == 0 and all(at.minute == at.second == 0 for at in found) else "minute"


def _parts(tier: TierName, found: Sequence[datetime]) -> dict[str, Any]:
    """The part of the range that each tier is read for: a finer tier begins where the coarser one ends."""
    complete = rollup.checkpoints()
    start, end = found[0], found[-1]
    hour_end = max(start, min(end, complete.get("hour", start))) if tier == "hour" else start
    minute_end = max(hour_end, min(end, complete.get("minute", start))) if tier != "raw" else start
    return {
        "hour_start": start,
        "hour_end": hour_end,
        "minute_start": hour_end,
        "minute_end": minute_end,
        "raw_start": minute_end,
    }


def _merge_percentiles(name: str, rows: dict[int, Sequence[Any]], asked: dict[str, Any]) -> None:
    """Replace the averages of a percentile by the percentile of all requests of the bucket."""
    for bucket, counts in store.query(HISTOGRAMS, asked | {"name": DURATIONS}):
        merged = buckets.percentile(counts, SHARES[name])
        if merged is not None and bucket in rows:
            low, _average, high, n = rows[bucket]
            rows[bucket] = (low, merged, high, n)


def _point(at: datetime, row: Sequence[Any] | None) -> Point:
    low, average, high, count = row or (None, None, None, 0)
    return int(at.timestamp()), low, average, high, count


def last_hours(name: str, hours: int, target: str = "") -> History:
    """The points of the last hours up to now, for a chart beside a number."""
    now = datetime.fromtimestamp((tables.present_slot() + 1) * SLOT_SECONDS, UTC)
    return points(name, ranges.Range(now - timedelta(hours=hours), now), target=target)
