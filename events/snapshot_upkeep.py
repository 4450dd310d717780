"""Keeps the right snapshots: takes those that are due by age or for old versions, and deletes the others.

Of each stream the newest `KEEP` snapshots stay and, for old versions, one of every `SPACING` versions.
"""

from __future__ import annotations

from typing import Final

from django.db import transaction

from events import snapshots, store
from events.aggregate import Aggregate, all_aggregates

SPACING: Final = 500  # versions between the snapshots that are kept for old versions
PAGE: Final = 500
KEEP: Final = 3

# Streams that may need a snapshot: by age, or for old versions.
STALE = """
select s.stream, s.version - coalesce(n.version, 0) >= %(tail)s
                 and (n.created_at is null or n.created_at < now() - %(days)s * interval '1 day'),
       case when s.version < 2 * %(spacing)s then false else s.version / %(spacing)s > (
            select count(distinct o.version / %(spacing)s) from events_snapshot o
             where o.stream = s.stream and o.state_version = %(state_version)s and o.version >= %(spacing)s) end
  from events_stream s
  left join lateral (
    select version, created_at from events_snapshot n
     where n.stream = s.stream and n.state_version = %(state_version)s order by version desc limit 1) n on true
 where s.stream > %(after)s collate "C" and s.stream < %(end)s collate "C"
   and not exists (select 1 from events_subject_key k where k.subject = s.stream and k.erased_at is not null)
 order by s.stream limit %(limit)s
"""

# Of each `SPACING` versions, the first snapshot of the newest shape stays.
PRUNE = """
delete from events_snapshot s using (
    select stream, version, row_number() over (partition by stream order by version desc) as age,
           version < %(spacing)s or row_number() over (
               partition by stream, version / %(spacing)s order by state_version desc, version) > 1 as is_extra
      from events_snapshot
) old where s.stream = old.stream and s.version = old.version and old.age > %(keep)s and old.is_extra returning 1
"""


# An erasure of the record waits for this lock, and then deletes the new snapshot with the others.
LOCK = "select version from events_stream where stream = %s for share"


def refresh() -> int:
    """Take the snapshots that are due by age or for old versions; returns how many.

    By age: of records that change too rarely to get one by number of events, or whose snapshots have another
    `state_version`. For old versions: of records that grew before these were kept. Each is a transaction of its own, so
    an interrupted run has less left to do.
    """
    return sum(_refresh(aggregate) for aggregate in all_aggregates() if aggregate.snapshot_days > 0)


def _refresh(aggregate: Aggregate) -> int:
    made, bounds = 0, {"after": f"{aggregate.category}-", "end": f"{aggregate.category}."}  # "." follows "-"
    wanted = {
        "tail": snapshots.TAIL,
        "days": aggregate.snapshot_days,
        "state_version": aggregate.state_version,
        "limit": PAGE,
        "spacing": SPACING,
    }
    while found := store.query(STALE, wanted | bounds):
        bounds["after"] = found[-1][0]
        for stream, is_stale, lacks_old in found:
            if lacks_old:
                made += _take_old(aggregate, stream)
            if is_stale:
                made += _take(aggregate, stream)
    return made


def _take(aggregate: Aggregate, stream: str, version: int | None = None) -> bool:
    """Take one snapshot; False where events cannot be read, which a snapshot would hide."""
    with transaction.atomic():
        store.query(LOCK, (stream,))
        found = snapshots.folded(stream, version)
        if not found.unreadable:
            snapshots.save(aggregate, stream, found.version, found.state)
        return not found.unreadable


# The multiples of the spacing that have no snapshot before the next multiple.
LACKING = """
select p from generate_series(%(spacing)s::bigint, (select version from events_stream where stream = %(stream)s),
                              %(spacing)s::bigint) p
 where not exists (select from events_snapshot n
                    where n.stream = %(stream)s and n.state_version = %(state_version)s
                      and n.version >= p and n.version < p + %(spacing)s)
 order by p
"""


def _take_old(aggregate: Aggregate, stream: str) -> int:
    """Take the missing snapshots for old versions, each folded from the one before; returns how many."""
    wanted = {"stream": stream, "state_version": aggregate.state_version, "spacing": SPACING}
    made = 0
    for (version,) in store.query(LACKING, wanted):
        if not _take(aggregate, stream, version):
            break
        made += 1
    return made


def prune(keep: int = KEEP) -> int:
    """Delete all but the newest `keep` snapshots of each stream and those for old versions; returns how many."""
    return len(store.query(PRUNE, {"keep": keep, "spacing": SPACING}))
