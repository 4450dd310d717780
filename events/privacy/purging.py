"""Purges the copies of erased data that are readable elsewhere, in batches that can be interrupted anywhere.

An erasure is all subjects that were erased in one transaction. Its row in `events_purge` says which group of them is
being purged, and where:

    1  begin   a row for the oldest erasure that has none, with its first group of subjects
    2  batch   one transaction: lock the row, run its step for a batch of rows, move the row; then the next group
    3  done    after the last group: drop the copies of rebuilds, give the tombstones the time, delete the row

Several processes may purge at once: they take turns at the row, and no batch is repeated. A task does not wait for its
turn (`is_patient`), so that tasks which are sent while a long purge runs do not occupy all workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from django.db import transaction

from events import answers, encoding, extension, snapshots, store
from events.extension import Purger, Sweep
from events.rebuild import cancellation
from events.types import ERASED

BATCH: Final = 5_000  # rows of one batch
GROUP: Final = 200  # subjects


# -- steps -------------------------------------------------------------------------------------------------------------

# Snapshots of the subjects' streams, and of other streams under their keys (a form's submissions). All are unreadable.
SNAPSHOTS: Final = """
delete from events_snapshot where ctid = any(array(
    select ctid from events_snapshot
     where stream = any(%(subjects)s) or state #>> '{$personal,of}' = any(%(subjects)s) limit %(limit)s))
returning 1
"""

# Answers may quote values (notes of a merge); fingerprints are hashes of the request.
COMMANDS: Final = """
delete from events_command where id = any(array(
    select id from events_command where subject = any(%(subjects)s) limit %(limit)s))
returning 1
"""

PARKED: Final = """
update events_parked set error = %(erased)s, traceback = null
 where stream = any(%(subjects)s) and error <> %(erased)s returning 1
"""

# Error texts may quote a value: the database names the duplicate one.
NOTES: Final = (
    "update events_checkpoint set error = %s where error ilike any(%s) returning 1",
    "update events_rebuild set error = %s where error ilike any(%s) returning 1",
    "update events_parked set error = %s, traceback = null where concat(error, traceback) ilike any(%s) returning 1",
)


def _snapshots(subjects: Sequence[str], limit: int) -> int:
    return len(store.query(SNAPSHOTS, {"subjects": list(subjects), "limit": limit}))


def _plain_snapshots(_subjects: Sequence[str], limit: int) -> int:
    """Encrypts the plain snapshots of all subjects, because a plain snapshot does not name its subject."""
    return snapshots.encrypt_plain(limit)


def _commands(subjects: Sequence[str], limit: int) -> int:
    return len(store.query(COMMANDS, {"subjects": list(subjects), "limit": limit}))


def _plain_fingerprints(_subjects: Sequence[str], limit: int) -> int:
    """Keys the plain fingerprints of earlier releases, which did not store the subject of a command."""
    return answers.key_fingerprints(limit)


def _parked(subjects: Sequence[str], _limit: int) -> int:
    return len(store.query(PARKED, {"subjects": list(subjects), "erased": ERASED}))


def scrub(values: Iterable[str]) -> None:
    """Blank stored error texts that quote one of these values. Call it before the values are purged."""
    quoted = [value.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") for value in values if len(value) > 3]
    if quoted:
        for statement in NOTES:
            store.query(statement, (ERASED, [f"%{value}%" for value in quoted]))


ERASED_AT: Final = "select max(erased_at) from events_subject_key where subject = any(%s)"


def _rebuilds(subjects: Sequence[str], _limit: int) -> int:
    return cancellation.stop(store.query(ERASED_AT, (list(subjects),))[0][0])


def _copies(subjects: Sequence[str], _limit: int) -> int:
    return cancellation.discard(store.query(ERASED_AT, (list(subjects),))[0][0])


# Rebuilds first: none may put a table in place that was copied before. Their copies are dropped last, see `steps`.
_STEPS: Final[Mapping[str, Purger]] = {
    "rebuilds": _rebuilds,
    "snapshots": _snapshots,
    "plain snapshots": _plain_snapshots,
    "answers": _commands,
    "plain fingerprints": _plain_fingerprints,
    "parked": _parked,
}
extension.add_purgers(_STEPS)


def steps() -> dict[str, Purger | Sweep]:
    """All steps in order.

    The last one needs a separate privilege (`events.db.grants`). When that is missing, all other steps are done before,
    for all subjects: it runs once for an erasure, after the last group.
    """
    return {**extension.purgers, "copies": _copies}


# -- all of it --------------------------------------------------------------------------------------------------------

WAITING: Final = """
select distinct erased_at from events_subject_key
 where erased_at is not null and purged_at is null and (%(only)s::text[] is null or subject = any(%(only)s::text[]))
 order by erased_at
"""

GROUP_OF: Final = """
select subject from events_subject_key
 where erased_at = %s and purged_at is null and subject > %s order by subject limit %s
"""

BEGIN: Final = """
insert into events_purge (erased_at, subjects, step, expected) values (%s, %s, %s, %s)
on conflict (erased_at) do nothing
"""

BEGUN: Final = "select 1 from events_purge where erased_at = %s"

PLACE: Final = "select subjects, step, after::text from events_purge where erased_at = %s for update"
PLACE_IF_FREE: Final = f"{PLACE} skip locked"

MOVE: Final = """
update events_purge set step = %s, after = %s::jsonb, rows = rows + %s, updated_at = clock_timestamp()
 where erased_at = %s
"""

NEXT_GROUP: Final = """
update events_purge set subjects = %s, step = %s, after = null, expected = expected + %s where erased_at = %s
"""

PURGED: Final = """
update events_subject_key set purged_at = clock_timestamp() where erased_at = %s and purged_at is null returning 1
"""

END: Final = "delete from events_purge where erased_at = %s"

# Also of erasures that a process of the previous release has purged, which keeps no rows.
FORGET: Final = """
delete from events_purge p where not exists (
    select from events_subject_key k where k.erased_at = p.erased_at and k.purged_at is null)
"""

ReportStep: TypeAlias = Callable[[str, int], object]


def ignore_progress(_step: str, _rows: int) -> None:
    """Ignore the progress."""


def finish(
    only: Iterable[str] | None = None,
    report: ReportStep = ignore_progress,
    most: float = math.inf,
    *,
    is_patient: bool = True,
) -> int:
    """Purge all pending erasures, or those of the subjects in `only`; returns how many subjects were finished.

    `report` is called with each batch's step and its number of rows; after `most` rows the purge stops. An erasure that
    another process is purging is left to it unless the caller `is_patient`. When one erasure fails, the others are
    purged nevertheless, and the first error is raised.
    """
    done, left, failed = 0, most, None
    for (erased_at,) in store.query(WAITING, {"only": None if only is None else list(only)}):
        try:
            finished, rows = _purge(erased_at, report, left, PLACE if is_patient else PLACE_IF_FREE)
        except Exception as error:
            failed = failed or error
            continue
        done, left = done + finished, left - rows
        if left <= 0:
            break
    if failed is not None:
        raise failed
    store.execute(FORGET)
    return done


def _purge(erased_at: datetime, report: ReportStep, most: float, place: str) -> tuple[int, int]:
    """Purge one erasure; returns the finished subjects and the number of rows, at most about `most`."""
    done = rows = 0
    _begin(erased_at)
    while rows < most:
        with transaction.atomic():
            found = store.query(place, (erased_at,))
            if not found:  # another process has finished it, or is at it
                break
            step, read, finished = _batch(erased_at, *found[0], limit=int(min(BATCH, most - rows)))
        report(step, read)
        rows, done = rows + read, done + finished
    return done, rows


def _begin(erased_at: datetime) -> None:
    if not store.query(BEGUN, (erased_at,)) and (subjects := _group(erased_at)):
        store.execute(BEGIN, (erased_at, subjects, next(iter(steps())), _expected(subjects)))


def _group(erased_at: datetime, after: str = "") -> list[str]:
    return [row[0] for row in store.query(GROUP_OF, (erased_at, after, GROUP))]


def _expected(subjects: Sequence[str]) -> int:
    return sum(step.count(subjects) for step in steps().values() if isinstance(step, Sweep))


def _batch(
    erased_at: datetime, subjects: list[str], name: str, after: str | None, *, limit: int
) -> tuple[str, int, int]:
    """Run one batch of a step and move the row; returns the step, its rows and how many subjects are finished."""
    known = steps()
    names = list(known)
    if name not in known:  # a step of another release
        name, after = names[0], None
    step = known[name]
    rows, place, is_done = _run(step, subjects, limit, None if after is None else msgspec.json.decode(after))
    swept = rows if isinstance(step, Sweep) else 0
    finished = 0
    if not is_done:
        store.execute(MOVE, (name, None if place is None else encoding.encoded(place), swept, erased_at))
    elif name == names[-1]:
        finished = len(store.query(PURGED, (erased_at,)))
        store.execute(END, (erased_at,))
    elif name == names[-2] and (following := _group(erased_at, subjects[-1])):
        store.execute(MOVE, (name, None, swept, erased_at))
        store.execute(NEXT_GROUP, (following, names[0], _expected(following), erased_at))
    else:
        store.execute(MOVE, (names[names.index(name) + 1], None, swept, erased_at))
    return name, rows, finished


def _run(step: Purger | Sweep, subjects: Sequence[str], limit: int, after: Any) -> tuple[int, Any, bool]:
    """Rows, the place to go on from, and whether the step is done."""
    if isinstance(step, Sweep):
        rows, place = step.run(subjects, limit, after)
        return rows, place, place is None
    rows = step(subjects, limit)
    return rows, None, rows < limit


# -- progress ---------------------------------------------------------------------------------------------------------


class PurgeProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the purge of an erasure is: rows swept so far, and those expected; both 0 until it has begun."""

    rows: int = 0
    expected: int = 0

    @property
    def percent(self) -> int:
        return min(99, 100 * self.rows // self.expected) if self.expected else 0


PROGRESS: Final = """
select coalesce(p.rows, 0), coalesce(p.expected, 0)
  from events_subject_key k left join events_purge p on p.erased_at = k.erased_at
 where k.subject = %s and k.erased_at is not null and k.purged_at is null
"""


def progress(subject: str) -> PurgeProgress | None:
    """The progress of the purge that a subject waits for; None when it was not erased, or is purged."""
    found = store.query(PROGRESS, (subject,))
    return PurgeProgress(rows=found[0][0], expected=found[0][1]) if found else None
