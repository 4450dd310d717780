"""Snapshots: stored states, so that a long stream need not be folded from its beginning.

A snapshot is a cache: one of another `state_version` is ignored, one newer than the requested version is not used, and
losing them all costs only time.

Where a state holds personal data (`Aggregate.subject`) its snapshot is encrypted under the subject's key, like its
events: {"$personal": {"of": "form-…", "text": "<base64>"}}. So an erasure, which drops the key, also covers snapshots,
even one that another process writes at the same time: earlier ones become unreadable, and later ones are not stored.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import transaction

from events import encoding, errors, store, strict_json, types
from events.aggregate import Aggregate, all_aggregates, of_category
from events.privacy import encryption, key_witness, subject_keys
from events.types import RecordedEvent, category_of

LOAD = f"""
select version, state::text, {subject_keys.GENERATION} from events_snapshot
 where stream = %(stream)s and state_version = %(state_version)s
   and version <= coalesce(%(version)s::bigint, 9223372036854775807)
 order by version desc limit 1
"""  # noqa: S608 - GENERATION is a constant

SAVE = """
insert into events_snapshot (stream, version, state_version, state) values (%s, %s, %s, %s::jsonb)
on conflict (stream, version) do update set state_version = excluded.state_version, state = excluded.state
"""

TAIL: Final = 10  # events after an old snapshot that make another one worthwhile
PAGE: Final = 500
KEEP: Final = 3

STALE = """
select s.stream, s.version - coalesce(n.version, 0) >= %(tail)s
                 and (n.created_at is null or n.created_at < now() - %(days)s * interval '1 day')
  from events_stream s
  left join lateral (
    select version, created_at from events_snapshot n
     where n.stream = s.stream and n.state_version = %(state_version)s order by version desc limit 1) n on true
 where s.stream > %(after)s collate "C" and s.stream < %(end)s collate "C"
   and not exists (select 1 from events_subject_key k where k.subject = s.stream and k.erased_at is not null)
 order by s.stream limit %(limit)s
"""

PRUNE = """
delete from events_snapshot s using (
    select stream, version, row_number() over (partition by stream order by version desc) as age from events_snapshot
) old where s.stream = old.stream and s.version = old.version and old.age > %s returning 1
"""


def load(aggregate: Aggregate, stream: str, version: int | None = None) -> tuple[Any, int]:
    """The newest usable snapshot at or below `version` as (state, version); (None, 0) where there is none."""
    found = store.query(LOAD, {"stream": stream, "state_version": aggregate.state_version, "version": version})
    if not found:
        return None, 0
    reached, text, generation = found[0]
    state = decode(aggregate, stream, reached, text, generation)
    return (state, reached) if state is not None else (None, 0)


def decode(aggregate: Aggregate, stream: str, version: int, text: str, generation: int | None = None) -> Any:
    """A stored snapshot as a state; None when its shape is outdated or its subject was erased.

    `generation` is that of the statement that read it; None for deciders only, as in `encryption.Decryptor`.
    """
    try:
        dumped = strict_json.stored(text)
        if aggregate.subject is not None:
            dumped = _decrypted(aggregate, stream, version, dumped, generation)
        return None if dumped is None else aggregate.load(dumped)
    except (ValueError, msgspec.ValidationError):
        return None


def _decrypted(
    aggregate: Aggregate, stream: str, version: int, stored: types.JsonDict, generation: int | None
) -> types.JsonDict | None:
    """The state of an encrypted snapshot; None for a plain one, which does not name its subject (`encrypt_plain`)."""
    mark = stored.get(encryption.MARK)
    if mark is None:
        return None
    cipher = encryption.StateCipher(mark["of"], stream, generation)
    if missing := cipher.missing:
        cipher.learn(store.query(subject_keys.KEYS, (missing,)), store.once_committed)
    plain = cipher.decrypt(version, aggregate.state_version, mark["text"])
    return None if plain is None else strict_json.stored(plain)


def save(aggregate: Aggregate, stream: str, version: int, state: Any) -> None:
    """Store the state of `stream` at `version`, unless its subject was erased. Raises `MasterKeyWrong`."""
    stored = _to_store(aggregate, stream, version, state)
    if stored is not None:
        store.execute(SAVE, (stream, version, aggregate.state_version, stored))


def _to_store(aggregate: Aggregate, stream: str, version: int, state: Any) -> str | None:
    dumped = encoding.encoded(aggregate.dump(state)).encode()
    if aggregate.subject is None:
        return dumped.decode()
    subject = aggregate.subject_of(stream, state)
    if subject is None:
        return None
    cipher = encryption.StateCipher(subject, stream)
    if missing := cipher.missing:
        store.make_keys(cipher, missing)
    encrypted = cipher.encrypt(version, aggregate.state_version, dumped)
    return None if encrypted is None else encrypted.decode()


def due(aggregate: Aggregate, before: int, after: int) -> bool:
    """True when the stream crossed a multiple of `snapshot_every` between these versions."""
    every = aggregate.snapshot_every
    return every > 0 and before // every < after // every


# An erasure of the record waits for this lock, and then deletes the new snapshot with the others.
LOCK = "select version from events_stream where stream = %s for share"


def refresh() -> int:
    """Take the snapshots that are due by age; returns how many.

    They are due for records that change too rarely to get one by number of events, or whose snapshots have another
    `state_version`. Each is a transaction of its own, so an interrupted run has less left to do.
    """
    return sum(_refresh(aggregate) for aggregate in all_aggregates() if aggregate.snapshot_days > 0)


def _refresh(aggregate: Aggregate) -> int:
    made, bounds = 0, {"after": f"{aggregate.category}-", "end": f"{aggregate.category}."}  # "." follows "-"
    wanted = {"tail": TAIL, "days": aggregate.snapshot_days, "state_version": aggregate.state_version, "limit": PAGE}
    while found := store.query(STALE, wanted | bounds):
        bounds["after"] = found[-1][0]
        for stream in (name for name, stale in found if stale):
            with transaction.atomic():
                store.query(LOCK, (stream,))
                now = folded(stream)
                if not now.unreadable:
                    save(aggregate, stream, now.version, now.state)
                    made += 1
    return made


def prune(keep: int = KEEP) -> int:
    """Delete all but the newest `keep` snapshots of each stream; returns how many."""
    return len(store.query(PRUNE, (keep,)))


# -- snapshots of earlier releases ------------------------------------------------------------------------------------

# Earlier releases stored personal states unencrypted. The index `events_snapshot_subject` finds them.
PLAIN = """
select stream, version, state_version, state::text from events_snapshot
 where state #>> '{$personal,of}' is null and split_part(stream, '-', 1) = any(%s) limit %s
"""

REPLACE = """
update events_snapshot set state_version = %s, state = %s::jsonb
 where stream = %s and version = %s and state #>> '{$personal,of}' is null
"""

DROP = "delete from events_snapshot where stream = %s and version = %s and state #>> '{$personal,of}' is null"

COUNT_PLAIN = """
select count(*) from events_snapshot
 where state #>> '{$personal,of}' is null and split_part(stream, '-', 1) = any(%s)
"""


def personal_categories() -> list[str]:
    """Categories of the records whose states hold personal data."""
    return [aggregate.category for aggregate in all_aggregates() if aggregate.subject is not None]


def encrypt_plain(limit: int) -> int:
    """Encrypt up to `limit` snapshots that an earlier release stored unencrypted; returns how many it found.

    Runs in the caller's transaction. Snapshots of erased subjects, and those that no longer fit, are deleted.
    """
    found = store.query(PLAIN, (personal_categories(), limit))
    for stream, version, state_version, text in found:
        aggregate = of_category(category_of(stream))
        stored = None
        if state_version == aggregate.state_version - 1:  # the same shape, unencrypted
            # Without its master key it cannot be encrypted; the unencrypted snapshot is deleted nevertheless.
            with contextlib.suppress(ValueError, msgspec.ValidationError, errors.MasterKeyMissing):
                stored = _to_store(aggregate, stream, version, aggregate.load(strict_json.stored(text)))
        if stored is None:
            store.execute(DROP, (stream, version))
        else:
            store.execute(REPLACE, (aggregate.state_version, stored, stream, version))
    return len(found)


# -- state at any version and at any instant --------------------------------------------------------------------------


class Folded(msgspec.Struct, frozen=True):
    """The state of a record at a version, without the effect of its `unreadable` events.

    Version 0 with the initial state: the record did not exist yet.
    """

    state: Any
    version: int
    unreadable: tuple[RecordedEvent, ...] = ()


def folded(stream: str, version: int | None = None, at: datetime | None = None) -> Folded:
    """The state of a record for readers: current, at an earlier `version`, or `at` an instant."""
    aggregate = of_category(category_of(stream))
    state, reached = (None, 0) if at is not None else load(aggregate, stream, version)
    tail = store.read_stream(stream, reached, upto=version, at=at)
    reached = tail[-1].version if tail else reached
    readable = (event.event for event in tail if not event.unreadable)
    return Folded(aggregate.fold(readable, state), reached, tuple(event for event in tail if event.unreadable))


def state(stream: str, version: int | None = None, at: datetime | None = None) -> tuple[Any, int]:
    """The state of a record as (state, version), for deciders. Raises `UnreadableEvent` instead of leaving a gap."""
    found = folded(stream, version, at)
    if found.unreadable:
        first = found.unreadable[0]
        if first.unreadable == "no_key":
            key_witness.prove()  # raises a more exact error when the current key is wrong
            raise errors.MasterKeyMissing
        raise errors.UnreadableEvent(first.unreadable or "", stream, first.version, first.position)
    return found.state, found.version


def state_dict(stream: str, version: int | None = None, at: datetime | None = None) -> tuple[types.JsonDict, int]:
    """The state of a record as (JSON values, version), for readers; `folded` also returns the unreadable events."""
    found = folded(stream, version, at)
    return of_category(category_of(stream)).dump(found.state), found.version
