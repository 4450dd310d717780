"""Snapshots: stored states, so that a long stream need not be folded from its beginning.

A snapshot is a cache: one of another `state_version` is ignored, one newer than the requested version is not used, and
losing them all costs only time. Of each stream the newest are kept and, for old versions, one for every `SPACING`
versions: so the state at any version folds about `SPACING` events at most.

Where a state holds personal data (`Aggregate.subject`) its snapshot is encrypted under the subject's key, like its
events: {"$personal": {"of": "form-…", "text": "<base64>"}}. So an erasure, which drops the key, also covers snapshots,
even one that another process writes at the same time: earlier ones become unreadable, and later ones are not stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import transaction

from events import encoding, errors, search, store, strict_json, types
from events.aggregate import Aggregate, all_aggregates, of_category
from events.db import arrays
from events.privacy import encryption, key_witness, subject_keys
from events.types import RecordedEvent, category_of

LOAD = f"""
select version, state::text, {subject_keys.GENERATION} from events_snapshot
 where stream = %(stream)s and state_version = %(state_version)s
   and version <= coalesce(%(version)s::bigint, 9223372036854775807)
 order by version desc limit 1
"""  # noqa: S608 - GENERATION is a constant

# The newest snapshot without events later than an instant. Events ascend in time but for the duration of a transaction
# (`search.SLACK`), so the time of the snapshot's last event decides; of an archived event, when the snapshot was taken.
LOAD_AT = f"""
select version, state::text, {subject_keys.GENERATION} from events_snapshot n
 where stream = %(stream)s and state_version = %(state_version)s
   and coalesce((select e.recorded_at from events_event e where e.stream = n.stream and e.version = n.version),
                n.created_at) <= %(at)s::timestamptz - %(slack)s::interval
 order by version desc limit 1
"""  # noqa: S608 - GENERATION is a constant

SAVE = """
insert into events_snapshot (stream, version, state_version, state) values (%s, %s, %s, %s::jsonb)
on conflict (stream, version) do update set state_version = excluded.state_version, state = excluded.state
"""

SAVE_ALL = """
insert into events_snapshot (stream, version, state_version, state) select * from unnest(%s, %s, %s, %s)
on conflict (stream, version) do update set state_version = excluded.state_version, state = excluded.state
"""

TAIL: Final = 10  # events after an old snapshot that make another one worthwhile
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


def load(aggregate: Aggregate, stream: str, version: int | None = None, at: datetime | None = None) -> tuple[Any, int]:
    """The newest usable snapshot at or below `version`, or without events after `at`, as (state, version).

    (None, 0) where there is none.
    """
    wanted = {"stream": stream, "state_version": aggregate.state_version}
    if at is None:
        found = store.query(LOAD, wanted | {"version": version})
    else:
        found = store.query(LOAD_AT, wanted | {"at": at, "slack": search.SLACK})
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


class Taken(msgspec.Struct, frozen=True):
    """A snapshot to store: the state of a stream at a version."""

    aggregate: Aggregate
    stream: str
    version: int
    state: Any


def save(aggregate: Aggregate, stream: str, version: int, state: Any) -> None:
    """Store the state of `stream` at `version`, unless its subject was erased. Raises `MasterKeyWrong`."""
    save_all([Taken(aggregate, stream, version, state)])


def save_all(snapshots: Sequence[Taken]) -> None:
    """Store many snapshots with one statement, leaving out those of erased subjects. Raises `MasterKeyWrong`."""
    rows = [
        (one.stream, one.version, one.aggregate.state_version, stored)
        for one, stored in zip(snapshots, _to_store(snapshots), strict=True)
        if stored is not None
    ]
    if len(rows) == 1:
        store.execute(SAVE, rows[0])
    elif rows:
        streams, versions, state_versions, states = zip(*rows, strict=True)
        columns = arrays.Texts(streams), arrays.Numbers(versions), arrays.Numbers(state_versions)
        store.execute(SAVE_ALL, (*columns, arrays.Jsons(state.encode() for state in states)))


def _to_store(snapshots: Sequence[Taken]) -> list[str | None]:
    """The states as JSON, encrypted where they hold personal data; None where the subject was erased."""
    ciphers = [_cipher_of(one) for one in snapshots]
    _learn_keys([cipher for cipher in ciphers if cipher is not None])
    return [_encrypted(one, cipher) for one, cipher in zip(snapshots, ciphers, strict=True)]


def _cipher_of(one: Taken) -> encryption.StateCipher | None:
    subject = one.aggregate.subject_of(one.stream, one.state) if one.aggregate.subject is not None else None
    return None if subject is None else encryption.StateCipher(subject, one.stream)


def _learn_keys(ciphers: Sequence[encryption.StateCipher]) -> None:
    """Look up all keys that are missing with one statement."""
    missing: dict[str, list[Any]] = {cipher.subject: [] for cipher in ciphers if cipher.missing}
    if not missing:
        return
    key_witness.prove()
    for row in store.query(subject_keys.MAKE, subject_keys.offer(sorted(missing))):
        missing.setdefault(row[1], []).append(row)
    for cipher in ciphers:
        if rows := missing.get(cipher.subject):
            cipher.learn(rows, store.once_committed)


def _encrypted(one: Taken, cipher: encryption.StateCipher | None) -> str | None:
    dumped = encoding.encoded(one.aggregate.dump(one.state))
    if one.aggregate.subject is None:
        return dumped
    if cipher is None:
        return None
    encrypted = cipher.encrypt(one.version, one.aggregate.state_version, dumped.encode())
    return None if encrypted is None else encrypted.decode()


def due(aggregate: Aggregate, covered: int, version: int, *, from_archive: bool = False) -> bool:
    """True when `snapshot_every` events follow the snapshot at version `covered` (0: none).

    Also when the state was read from an archive file: reading the file again costs more than a snapshot.
    """
    every = aggregate.snapshot_every
    return every > 0 and (from_archive or version - covered >= every)


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
        "tail": TAIL,
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
        found = folded(stream, version)
        if not found.unreadable:
            save(aggregate, stream, found.version, found.state)
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
                (stored,) = _to_store([Taken(aggregate, stream, version, aggregate.load(strict_json.stored(text)))])
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
    state, reached = load(aggregate, stream, version, at)
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
