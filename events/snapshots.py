"""Snapshots: stored states, so that a long stream need not be folded from its beginning.

A snapshot is a cache: one of another `state_version` is ignored, one newer than the requested version is not used, and
losing them all costs only time. `snapshot_upkeep` decides which ones stay.

Where a state holds personal data (`Aggregate.subject`) its snapshot is encrypted under the subject's key, like its
events: {"$personal": {"of": "form-…", "text": "<base64>"}}. So an erasure, which drops the key, also covers snapshots,
even one that another process writes at the same time: earlier ones become unreadable, and later ones are not stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from events import decoding, encoding, errors, search, store, strict_json, types
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
insert into events_snapshot (stream, version, state_version, state)
select * from unnest(%s, %s, %s, %s)
on conflict (stream, version) do update set state_version = excluded.state_version, state = excluded.state
"""

TAIL: Final = 10  # events after an old snapshot that make another one worthwhile


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


class Found(NamedTuple):
    """A stored snapshot."""

    aggregate: Aggregate
    stream: str
    version: int
    text: str


def decode(aggregate: Aggregate, stream: str, version: int, text: str, generation: int | None = None) -> Any:
    """A stored snapshot as a state; None when its shape is outdated or its subject was erased.

    `generation` is that of the statement that read it; None for deciders only, as in `encryption.Decryptor`.
    """
    return decode_all([Found(aggregate, stream, version, text)], generation)[0]


def decode_all(found: Sequence[Found], generation: int | None = None) -> list[Any]:
    """`decode` of many snapshots, whose keys are read with one statement."""
    stored = [_stored(one.text) for one in found]
    ciphers = [
        encryption.StateCipher(text[encryption.MARK]["of"], one.stream, generation)
        if one.aggregate.subject is not None and isinstance(text, dict) and encryption.MARK in text
        else None
        for one, text in zip(found, stored, strict=True)
    ]
    _learn_keys([cipher for cipher in ciphers if cipher is not None], make=False)
    return [_state_of(*one) for one in zip(found, stored, ciphers, strict=True)]


def _stored(text: str) -> Any:
    try:
        return strict_json.stored(text)
    except ValueError:
        return None


def _state_of(found: Found, stored: Any, cipher: encryption.StateCipher | None) -> Any:
    """The state in a snapshot; a plain one of a personal record does not count, because it names no subject."""
    try:
        if found.aggregate.subject is not None:
            if cipher is None:
                return None
            plain = cipher.decrypt(found.version, found.aggregate.state_version, stored[encryption.MARK]["text"])
            stored = None if plain is None else strict_json.stored(plain)
        return None if stored is None else found.aggregate.load(stored)
    except (ValueError, msgspec.ValidationError):
        return None


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
    _learn_keys([cipher for cipher in ciphers if cipher is not None], make=True)
    return [_encrypted(one, cipher) for one, cipher in zip(snapshots, ciphers, strict=True)]


def _cipher_of(one: Taken) -> encryption.StateCipher | None:
    subject = one.aggregate.subject_of(one.stream, one.state) if one.aggregate.subject is not None else None
    return None if subject is None else encryption.StateCipher(subject, one.stream)


def _learn_keys(ciphers: Sequence[encryption.StateCipher], *, make: bool) -> None:
    """Look up all keys that are missing with one statement; `make` those that do not exist."""
    missing: dict[str, list[Any]] = {cipher.subject: [] for cipher in ciphers if cipher.missing}
    if not missing:
        return
    if make:
        key_witness.prove()
    names = sorted(missing)
    found = (
        store.query(subject_keys.MAKE, subject_keys.offer(names)) if make else store.query(subject_keys.KEYS, (names,))
    )
    for row in found:
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


LOAD_MANY = f"""
select w.stream, n.version, n.state::text, {subject_keys.GENERATION} from unnest(%s, %s) w(stream, state_version)
 cross join lateral (
    select version, state from events_snapshot n
     where n.stream = w.stream collate "C" and n.state_version = w.state_version order by version desc limit 1) n
"""  # noqa: S608 - GENERATION is a constant

TAILS = f"""
select {decoding.COLUMNS} from unnest(%s, %s) w(name, covered)
 cross join lateral (select * from events_event e where e.stream = w.name collate "C" and e.version > w.covered) e
 order by stream, version
"""  # noqa: S608 - COLUMNS is a constant


def folded_many(streams: Sequence[str]) -> dict[str, Folded]:
    """`folded` of many existing streams, with a few statements, except for those with archived events."""
    if not streams:
        return {}
    known = {stream: of_category(category_of(stream)) for stream in streams}
    shapes = arrays.Numbers(aggregate.state_version for aggregate in known.values())
    rows = store.query(LOAD_MANY, (arrays.Texts(known), shapes))
    found = [Found(known[row[0]], *row[:3]) for row in rows]
    states = decode_all(found, rows[0][3]) if rows else []
    loaded = {one.stream: (state, one.version) for one, state in zip(found, states, strict=True) if state is not None}
    covered = arrays.Numbers(loaded.get(stream, (None, 0))[1] for stream in known)
    tails: dict[str, list[RecordedEvent]] = {stream: [] for stream in known}
    for event in decoding.events_of(store.query(TAILS, (arrays.Texts(known), covered))):
        tails[event.stream].append(event)
    return {stream: _folded(stream, tails[stream], *loaded.get(stream, (None, 0))) for stream in known}


def _folded(stream: str, tail: Sequence[RecordedEvent], state: Any, covered: int) -> Folded:
    if (tail[0].version != covered + 1) if tail else covered == 0:
        return folded(stream)  # earlier events are archived
    readable = (event.event for event in tail if not event.unreadable)
    unreadable = tuple(event for event in tail if event.unreadable)
    reached = tail[-1].version if tail else covered
    return Folded(of_category(category_of(stream)).fold(readable, state), reached, unreadable)


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
