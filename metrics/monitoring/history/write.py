"""Writes samples: claims a slot, and stores the values of a slot as one array per source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from events import store
from metrics.monitoring import buckets
from metrics.monitoring.history import tables
from metrics.monitoring.metric_types import METRICS, POSITIONS, SIZES, Group, source

# (metric, target) -> value; None or no entry: missing.
Values = Mapping[tuple[str, str], float | None]

SAMPLER: Final = "sampler"  # the source whose row claims a slot
# A newest slot that is further ahead than this does not stop sampling: the clock was wrong, and is right again.
TRUSTED_AHEAD: Final = 3600 // 5
LARGEST: Final = 3.0e38  # of a `real`

# A slot is the primary key of its claim, so one sampler has it. A slot before the newest is refused: the clock was set
# back, and the slots it repeats have been judged.
CLAIM = """
insert into metrics_sample (slot, source, v)
select %(slot)s, %(source)s, '{}'
 where not exists (select from metrics_sample where source = %(source)s
                      and slot > %(slot)s and slot <= %(slot)s + %(ahead)s)
on conflict do nothing returning slot
"""
NEWEST = """
select max(slot) from metrics_sample
 where source = %(source)s and slot < %(slot)s and slot >= %(slot)s - %(back)s
"""
INSERT = "insert into metrics_sample (slot, source, v) values {} on conflict do nothing"
ADD_HISTOGRAM = """
insert into metrics_histogram as stored (at, name, counts)
values (to_timestamp(%(minute)s * 60), %(name)s, %(counts)s::int[])
on conflict (name, at) do update set counts = (
    select array_agg(coalesce(a, 0) + coalesce(b, 0) order by i)
      from rows from (unnest(stored.counts), unnest(excluded.counts)) with ordinality both_counts(a, b, i))
returning counts
"""
MINUTE_BEFORE = "select counts from metrics_histogram where name = %s and at = to_timestamp(%s * 60)"


def claim(slot: int) -> bool:
    """Claim a slot for this process; False when another has it, or when the clock went back."""
    asked = {"slot": slot, "source": SAMPLER, "ahead": TRUSTED_AHEAD}
    return bool(store.query(CLAIM, asked))


def previous(slot: int) -> int | None:
    """The newest claimed slot before this one, of the last day."""
    found: int | None = store.query(NEWEST, {"slot": slot, "source": SAMPLER, "back": tables.DAY_SLOTS})[0][0]
    return found


def values(slot: int, found: Values) -> None:
    """Store the values of a slot, a row for each source that has one."""
    rows: dict[str, list[float | None]] = {}
    for (name, target), value in found.items():
        group: Group = METRICS[name].group
        row = rows.setdefault(source(group, target), [None] * SIZES[group])
        row[POSITIONS[name]] = _storable(value)
    if rows:
        parameters = [part for name, row in rows.items() for part in (slot, name, row)]
        store.query(INSERT.format(", ".join(["(%s, %s, %s::real[])"] * len(rows))) + " returning slot", parameters)


def _storable(value: float | None) -> float | None:
    """The value as a `real` can hold it; infinite values and NaN are missing."""
    return float(value) if value is not None and -LARGEST < value < LARGEST else None


def add_durations(slot: int, name: str, counts: Sequence[int]) -> list[int]:
    """Add a slot's durations to the histogram of its minute; returns the counts of this minute and the one before."""
    minute = slot // tables.MINUTE_SLOTS
    asked = {"minute": minute, "name": name, "counts": list(counts)}
    present = store.query(ADD_HISTOGRAM, asked)[0][0]
    before = store.query(MINUTE_BEFORE, (name, minute - 1))
    return [a + b for a, b in zip(present, before[0][0] if before else [0] * buckets.SIZE, strict=True)]
