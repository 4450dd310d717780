"""Erases a subject: drops its key, then purges the copies of its data that are readable elsewhere.

    1  shred   in the transaction that records the erasure: wait for writers of this subject, drop its key, leave a
               tombstone so that no new key is made, and increment the generation
    2  purge   afterwards, in steps, each a transaction of its own that may be repeated: running rebuilds, snapshots,
               answers to commands, texts of parked events; then data of higher layers (`extension.add_purgers`), and
               the copies that rebuilds made
    3  done    the tombstone records the time

Once step 1 has committed, no process reads or writes the data any more (`events_hold`, `events_shredding`). If the
process dies after that, the tombstone stays without a time of purge, and the next `finish` continues.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from django.db import connection, transaction

from events import answers, errors, extension, snapshots, store
from events.extension import Purger
from events.privacy import key_tree, key_witness, master_keys, subject_keys
from events.rebuild import cancellation
from events.types import ERASED

BATCH: Final = 5_000  # rows changed in one transaction


# -- 1 shred ----------------------------------------------------------------------------------------------------------

# Writers lock their subjects shared (`events_hold`); taken in the order of slots, as they do.
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

INCREMENT_GENERATION: Final = (
    "update events_shredding set generation = nextval('events_shredding_seq') returning generation"
)


def shred(subjects: Iterable[str]) -> list[str]:
    """Step 1, in the caller's transaction: drop the keys of these subjects; returns those not erased before."""
    wanted = sorted(set(subjects))
    if not wanted:
        return []
    _wait_for_writers(wanted)
    gone = [row[0] for row in store.query(SHRED, (wanted,))]
    if gone:
        _increment_generation()
    return gone


LOCK_TREE: Final = "select key_id, secret from events_subject_key where subject = %s for update"

KEEP_TREE: Final = "update events_subject_key set key_id = %s, secret = %s where subject = %s returning subject"


def shred_leaf(subject: str, stream: str) -> None:
    """Step 1 for one stream under another subject's key: only that stream's leaf is forgotten."""
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
    _increment_generation()


def _wait_for_writers(subjects: Sequence[str]) -> None:
    if not connection.in_atomic_block:
        raise RuntimeError("an erasure must run in the transaction that records it")
    store.query(WAIT, (list(subjects),))


def _increment_generation() -> None:
    """Increment the generation: every process drops its cached keys at its next statement, this one on commit."""
    store.query(INCREMENT_GENERATION)
    store.once_committed(subject_keys.CACHE.clear)


# -- 2 purge ----------------------------------------------------------------------------------------------------------

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


def steps() -> dict[str, Purger]:
    """All steps in order.

    The last one needs a separate privilege (`events.db.grants`). When that is missing, all other steps are done before.
    """
    return {**extension.purgers, "copies": _copies}


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
    """Steps 2 and 3 for all pending subjects, or `only` for some; returns how many were finished.

    `report` is called with each step's name and the number of rows it changed; after `most` rows the purge stops. It
    may be interrupted anywhere and run again, also by several processes at once.
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
    """True when the subject was erased and steps 2 and 3 are not finished."""
    return bool(store.query(IS_PURGING, (subject,)))


# -- for the operator -------------------------------------------------------------------------------------------------

STATUS: Final = """
select count(*) filter (where secret is not null), count(*) filter (where erased_at is not null),
       count(*) filter (where erased_at is not null and purged_at is null),
       min(erased_at) filter (where erased_at is not null and purged_at is null)
  from events_subject_key
"""


class ErasureStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of subjects with a key, erased, and waiting for their purge (the oldest since `since`)."""

    keys: int
    erased: int
    unpurged: int
    since: datetime | None


def status() -> ErasureStatus:
    return ErasureStatus(**dict(zip(ErasureStatus.__struct_fields__, store.query(STATUS)[0], strict=True)))


# -- rotating master keys ---------------------------------------------------------------------------------------------

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
    """The number of keys that are still wrapped by a master key other than the current one."""
    left: int = store.query(LEFT, (master_keys.current(),))[0][0]
    return left


def rotate(batch: int = 1_000, report: Callable[[int], object] = lambda _: None) -> int:
    """Rewrap every subject's key with the current master key; returns how many. Each batch is a transaction.

    Events stay as they are. Keys that cannot be unwrapped are skipped; when all others are done, `MasterKeyMissing` or
    `MasterKeyWrong` says how many remain and why. Raises `MasterKeyWrong` before any change where the current master
    key is wrong.
    """
    changed, after, failed = 0, "", list[errors.MasterKeyMissing]()
    key_witness.prove()
    while True:
        with transaction.atomic():
            rows: list[Any] = store.query(OUTDATED, (master_keys.current(), after, batch))
            changed += _rewrap(rows, failed)
        report(len(rows))
        if len(rows) < batch:
            break
        after = rows[-1][0]
    if failed:
        left = f"{len(failed)} keys of subjects stay as they are; {changed} were wrapped."
        raise type(failed[0])(f"{failed[0].message} {left}")
    return changed


def _rewrap(rows: Sequence[Any], failed: list[errors.MasterKeyMissing]) -> int:
    again = {}
    for subject, key_id, wrapped in rows:
        try:
            again[subject] = master_keys.wrap(subject, master_keys.unwrap(subject, key_id, bytes(wrapped)))[1]
        except errors.MasterKeyMissing as error:
            failed.append(error)
    if again:
        store.query(REWRAP, (master_keys.current(), list(again), list(again.values())))
    return len(again)
