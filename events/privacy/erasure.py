"""Taking a subject's data away: the key at once and for good, then whatever was readable of it elsewhere.

    1  shred   in the transaction that records the erasure: wait for whoever is writing about the subject, drop its key,
               leave a tombstone so that none is ever made again, and count the erasure up
    2  purge   afterwards, step by step, each in a transaction of its own and harmless to repeat: snapshots, answers to
               commands, texts of parked events; then what higher floors keep (`purgers`)
    3  done    the tombstone says when

Once step 1 has committed, no process reads or writes the data any more (`events_hold`, `events_shredding`). A process
that dies after it leaves its work in the table: `finish` finds it, whoever runs it next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from django.db import connection, transaction

from events import commands, errors, snapshots, store
from events.privacy import key_tree, key_witness, master_keys, subject_keys
from events.rebuild import cancellation
from events.types import ERASED

BATCH: Final = 5_000  # rows changed in one transaction

# A step of the purge for some subjects: changes at most so many rows, in the caller's transaction, and says how many it
# did change. Called again while that is all it was allowed.
Purger: TypeAlias = Callable[[Sequence[str], int], int]

# name -> step, in order. Higher floors add theirs in `ready()`.
purgers: dict[str, Purger] = {}


# -- 1 --------------------------------------------------------------------------------------------------------------

# Writers hold their subjects shared (`events_hold`); in the order of the slots, as they do.
WAIT: Final = """
select pg_advisory_xact_lock(17780, slot)
  from (select distinct hashtext(s) & 255 as slot from unnest(%s::text[]) s order by 1) slots
"""

SHRED: Final = """
insert into events_subject_key as k (subject, erased_at) select unnest(%s::text[]), now()
on conflict (subject) do update set key_id = null, secret = null, erased_at = excluded.erased_at
 where k.erased_at is null
returning subject
"""

COUNT_UP: Final = "update events_shredding set generation = nextval('events_shredding_seq') returning generation"


def shred(subjects: Iterable[str]) -> list[str]:
    """Step 1, in the caller's transaction: drop the keys of these subjects; returns those that had not been erased."""
    wanted = sorted(set(subjects))
    if not wanted:
        return []
    _wait_for_writers(wanted)
    gone = [row[0] for row in store.query(SHRED, (wanted,))]
    if gone:
        _count_up()
    return gone


LOCK_TREE: Final = "select key_id, secret from events_subject_key where subject = %s for update"

KEEP_TREE: Final = "update events_subject_key set key_id = %s, secret = %s where subject = %s returning subject"


def shred_leaf(subject: str, stream: str) -> None:
    """Step 1 for one stream that is kept under another subject's key: that stream's leaf is forgotten, no other."""
    _wait_for_writers([subject])
    found = store.query(LOCK_TREE, (subject,))
    if not found or found[0][1] is None:
        return
    key_witness.prove()
    secret = master_keys.unwrap(subject, found[0][0], bytes(found[0][1]))
    own, tree = secret[: subject_keys.OWN], secret[subject_keys.OWN :]
    nodes = key_tree.forget(key_tree.unpack(tree), key_tree.path(stream, own))
    wrapped = master_keys.wrap(subject, own + key_tree.pack(nodes))
    store.query(KEEP_TREE, (*wrapped, subject))
    _count_up()


def _wait_for_writers(subjects: Sequence[str]) -> None:
    if not connection.in_atomic_block:
        raise RuntimeError("an erasure belongs into the transaction that records it")
    store.query(WAIT, (list(subjects),))


def _count_up() -> None:
    """Every process lets its keys go with the first statement that sees this; ours need not wait for one."""
    store.query(COUNT_UP)
    store.once_committed(subject_keys.CACHE.clear)


# -- 2 --------------------------------------------------------------------------------------------------------------

# Their own, and those of other streams under their key (a form's submissions): no one can read them any more.
SNAPSHOTS: Final = """
delete from events_snapshot where ctid = any(array(
    select ctid from events_snapshot
     where stream = any(%(subjects)s) or state #>> '{$personal,of}' = any(%(subjects)s) limit %(limit)s))
returning 1
"""

# Their answers may quote (notes of a merge), their fingerprints are hashes of what was sent.
COMMANDS: Final = """
delete from events_command where id = any(array(
    select id from events_command where subject = any(%(subjects)s) limit %(limit)s))
returning 1
"""

PARKED: Final = """
update events_parked set error = %(erased)s, traceback = null
 where stream = any(%(subjects)s) and error <> %(erased)s returning 1
"""

# Errors that an operator reads may quote a value: the database names the one that was there twice.
NOTES: Final = (
    "update events_checkpoint set error = %s where error ilike any(%s) returning 1",
    "update events_rebuild set error = %s where error ilike any(%s) returning 1",
    "update events_parked set error = %s, traceback = null where concat(error, traceback) ilike any(%s) returning 1",
)


def _snapshots(subjects: Sequence[str], limit: int) -> int:
    return len(store.query(SNAPSHOTS, {"subjects": list(subjects), "limit": limit}))


def _plain_snapshots(_subjects: Sequence[str], limit: int) -> int:
    """Whosever they are: nothing tells whose data one in the clear holds. None are left after the first erasure."""
    return snapshots.encrypt_plain(limit)


def _commands(subjects: Sequence[str], limit: int) -> int:
    return len(store.query(COMMANDS, {"subjects": list(subjects), "limit": limit}))


def _plain_fingerprints(_subjects: Sequence[str], limit: int) -> int:
    """Of earlier releases, which did not write down whose data a command held: theirs say nothing any more."""
    return commands.key_fingerprints(limit)


def _parked(subjects: Sequence[str], _limit: int) -> int:
    return len(store.query(PARKED, {"subjects": list(subjects), "erased": ERASED}))


def scrub(values: Iterable[str]) -> None:
    """Blank the notes of errors that quote one of these values, whatever they are about; before the values are gone."""
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
purgers |= {
    "rebuilds": _rebuilds,
    "snapshots": _snapshots,
    "plain snapshots": _plain_snapshots,
    "answers": _commands,
    "plain fingerprints": _plain_fingerprints,
    "parked": _parked,
}


def steps() -> dict[str, Purger]:
    """All steps in order. The last needs a right of its own (`events.db.grants`): where that was not granted, all else is
    done before it fails.
    """
    return {**purgers, "copies": _copies}


UNPURGED: Final = """
select subject from events_subject_key where erased_at is not null and purged_at is null
   and (%(only)s::text[] is null or subject = any(%(only)s::text[])) order by erased_at, subject limit %(limit)s
"""

PURGED: Final = """
update events_subject_key set purged_at = clock_timestamp() where subject = any(%s) and purged_at is null returning 1
"""

ReportStep: TypeAlias = Callable[[str, int], object]


def finish(
    only: Sequence[str] | None = None, report: ReportStep = lambda _step, _rows: None, most: float = math.inf
) -> int:
    """Steps 2 and 3 for all subjects that wait for it, or for some of them; returns how many were finished.

    `report` is told each step's name and how many rows it changed; after `most` rows it stops. May be stopped anywhere
    and run again, also by several at once.
    """
    done, changed = 0, 0
    while subjects := _unpurged(only, 200):
        for name, purger in steps().items():
            rows = BATCH
            while rows >= BATCH and changed < most:
                with transaction.atomic():
                    rows = purger(subjects, BATCH)
                changed += rows
                report(name, rows)
        if changed >= most:
            break
        done += len(store.query(PURGED, (subjects,)))
    return done


def _unpurged(only: Sequence[str] | None, limit: int) -> list[str]:
    wanted = {"only": None if only is None else list(only), "limit": limit}
    return [row[0] for row in store.query(UNPURGED, wanted)]


IS_PURGING: Final = (
    "select 1 from events_subject_key where subject = %s and erased_at is not null and purged_at is null"
)


def is_purging(subject: str) -> bool:
    """Was it erased, and waits for steps 2 or 3?"""
    return bool(store.query(IS_PURGING, (subject,)))


# -- for the operator -----------------------------------------------------------------------------------------------

STATUS: Final = """
select count(*) filter (where secret is not null), count(*) filter (where erased_at is not null),
       count(*) filter (where erased_at is not null and purged_at is null),
       min(erased_at) filter (where erased_at is not null and purged_at is null)
  from events_subject_key
"""


class ErasureStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How many subjects have a key, were erased, and wait for their purge (the longest since `since`)."""

    keys: int
    erased: int
    unpurged: int
    since: datetime | None


def status() -> ErasureStatus:
    return ErasureStatus(**dict(zip(ErasureStatus.__struct_fields__, store.query(STATUS)[0], strict=True)))


# -- another master key ---------------------------------------------------------------------------------------------

OUTDATED: Final = """
select subject, key_id, secret from events_subject_key
 where key_id <> %s and subject > %s collate "C" order by subject limit %s for update
"""

REWRAP: Final = """
update events_subject_key k set key_id = %s, secret = n.secret
  from unnest(%s::text[], %s::bytea[]) n(subject, secret) where k.subject = n.subject returning 1
"""

LEFT: Final = "select count(*) from events_subject_key where key_id <> %s"


def outdated() -> int:
    """How many keys are still wrapped by another master key than the current one."""
    left: int = store.query(LEFT, (master_keys.current(),))[0][0]
    return left


def rotate(batch: int = 1_000, report: Callable[[int], object] = lambda _: None) -> int:
    """Wrap every subject's key with the current master key; returns how many were. Each batch is a transaction.

    Nothing is encrypted anew: events stay as they are. Keys that cannot be opened are passed over; when all others are
    wrapped, `MasterKeyMissing` or `MasterKeyWrong` says how many and why. `MasterKeyWrong` at once, before anything is
    changed, where it is the current master key that is wrong.
    """
    changed, after, stuck = 0, "", list[errors.MasterKeyMissing]()
    key_witness.prove()
    while True:
        with transaction.atomic():
            rows: list[Any] = store.query(OUTDATED, (master_keys.current(), after, batch))
            changed += _rewrap(rows, stuck)
        report(len(rows))
        if len(rows) < batch:
            break
        after = rows[-1][0]
    if stuck:
        left = f"{len(stuck)} keys of subjects stay as they are; {changed} were wrapped."
        raise type(stuck[0])(f"{stuck[0].message} {left}")
    return changed


def _rewrap(rows: Sequence[Any], stuck: list[errors.MasterKeyMissing]) -> int:
    again = {}
    for subject, key_id, wrapped in rows:
        try:
            again[subject] = master_keys.wrap(subject, master_keys.unwrap(subject, key_id, bytes(wrapped)))[1]
        except errors.MasterKeyMissing as error:
            stuck.append(error)
    if again:
        store.query(REWRAP, (master_keys.current(), list(again), list(again.values())))
    return len(again)
