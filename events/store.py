"""The log: append to streams, read one stream, read everything in order. The only writer of events.

Order, in one paragraph (docs/event-store.md proves it): an append locks its stream's row, publishes a *floor* (a shared
advisory lock keyed by the sequence's present value) and only then draws positions. Readers go no further than the
lowest published floor (`head.safe`), so what they have read past is complete for ever, and nobody waits for anybody.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
from django.db import connection

from events import aggregate, context, errors, notifications, strict_json, types
from events.db import arrays, pipeline
from events.privacy import encryption, key_witness, subject_keys
from events.types import Event, RecordedEvent

ANY: Final = None
NO_STREAM: Final = 0
EXISTS: Final = -1

MAX_EVENT_BYTES: Final = 1 << 20
MAX_BATCH: Final = 10_000
# Below it no event exceeds `MAX_EVENT_BYTES` as `jsonb` text, whatever its numbers.
SURELY_SMALL: Final = MAX_EVENT_BYTES // strict_json.MAX_GROWTH

query, execute, explain, once_committed = pipeline.query, pipeline.execute, pipeline.explain, pipeline.once_committed


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """Where an append ended up: the stream's new version, and the position of each event in the order given."""

    stream: str
    version: int
    positions: tuple[int, ...]

    @property
    def position(self) -> int:
        """The position of the last event."""
        return self.positions[-1]


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """Events for one stream: `expected` is ANY, NO_STREAM, EXISTS or the exact version the stream must be at."""

    stream: str
    events: Sequence[Event]
    expected: int | None = ANY
    event_ids: Sequence[uuid.UUID] = ()


# -- append ---------------------------------------------------------------------------------------------------------

APPEND_ONE = """
select %s, o_version, o_position
  from events_append_one(%s, %s::bigint, %s, %s::smallint, %s::jsonb, %s, %s, %s, %s, %s, %s::jsonb)
"""
APPEND_EACH = """
select o_stream, o_version, o_position
  from events_append_each(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)
"""
APPEND_STREAM = """
select o_stream, o_version, o_position
  from events_append_stream(%s, %s::bigint, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)
"""
APPEND_MANY = "select o_stream, o_version, o_position from events_append_many(%s::jsonb, %s, %s, %s, %s, %s::jsonb)"


def append(
    stream: str, events: Sequence[Event], expected: int | None = ANY, *, event_ids: Sequence[uuid.UUID] = ()
) -> Appended:
    """Append events to one stream. Outside a transaction it is one of its own, in one round trip.

    Raises `WrongExpectedVersion`, `DuplicateEvent`, `InvalidEvent`, `EventTooLarge` or `StoreUnavailable`; then nothing
    of it is stored.
    """
    if len(events) == 1 >= len(event_ids):
        known = types.event_type_of(type(events[0]))
        if known.subject is None and known.within is None:
            return _append_plain(stream, events[0], known, expected, *event_ids)
    return append_many([Append(stream=stream, events=events, expected=expected, event_ids=event_ids)])[0]


def _append_plain(
    stream: str, event: Event, known: types.EventType, expected: int | None, event_id: uuid.UUID | None = None
) -> Appended:
    """`append_many` of one event that is nobody's: the same, without the lists."""
    acting = context.current()
    encryption.check_reason(acting.reason)
    _check_name(stream)
    _demand_fit(known, event)
    entry = (stream, expected, known.name, known.schema_version, encode(event), event_id or types.new_id())
    asked = pipeline.later(*_append_one(*entry, acting, acting.reason))
    _ring_once_committed(asked)
    _, version, position = asked.rows[0]
    return Appended(stream=stream, version=version, positions=(position,))


def append_many(appends: Sequence[Append]) -> list[Appended]:
    """Append to several streams, all or nothing. A stream may occur once. Results are in the order given."""
    return append_later(appends)()


def append_later(appends: Sequence[Append]) -> Callable[[], list[Appended]]:
    """`append_many` for who has no use yet for what comes of it: inside `wire.transaction` it travels with the rest of
    the transaction, and the results are there to be called for afterwards. Refusals come with it.
    """
    acting = context.current()
    encryptor = encryption.Encryptor(acting.reason)
    entries = [entry for wanted in appends for entry in _entries(wanted, encryptor)]
    if not entries:
        raise errors.InvalidEvent("Nothing to append.")
    if len(entries) > MAX_BATCH:
        raise errors.InvalidEvent(f"At most {MAX_BATCH} events in one append, not {len(entries)}.")
    if len(appends) > 1 and len({wanted.stream for wanted in appends}) != len(appends):
        raise errors.InvalidEvent("A stream may occur only once in one append.")
    if missing := encryptor.missing:
        if not connection.in_atomic_block:
            with pipeline.transaction():  # a key is made with what is written under it, or not at all
                return append_later(appends)
        make_keys(encryptor, missing)
    elif encryptor.makes_keys:
        key_witness.prove()
    encryptor.finish()
    statement = _statement(entries, len(appends), acting, encryptor.reason)
    asked = pipeline.later(*encryptor.with_hold(*statement, one=len(entries) == 1))
    _ring_once_committed(asked)
    return partial(_appended, appends, asked)


def make_keys(keys: encryption.Encryptor | encryption.StateCipher, missing: Sequence[str]) -> None:
    """Look up the keys of these subjects; those that have none get one. Raises `MasterKeyWrong`."""
    key_witness.prove()
    keys.learn(query(subject_keys.MAKE, subject_keys.offer(missing)), once_committed)


def _ring_once_committed(asked: pipeline.Later) -> None:
    if asked.inside:
        once_committed(_ring, asked)
    else:
        _ring(asked)


def _ring(asked: pipeline.Later) -> None:
    notifications.ring(max(row[2] for row in asked.rows))


def _appended(appends: Sequence[Append], asked: pipeline.Later) -> list[Appended]:
    if len(appends) == 1:
        return [_placed(appends[0].stream, sorted([(version, position) for _, version, position in asked.rows]))]
    placed: dict[str, list[tuple[int, int]]] = {}
    for stream, version, position in asked.rows:
        placed.setdefault(stream, []).append((version, position))
    return [_placed(wanted.stream, sorted(placed[wanted.stream])) for wanted in appends]


def _placed(stream: str, placed: Sequence[tuple[int, int]]) -> Appended:
    return Appended(stream=stream, version=placed[-1][0], positions=tuple(position for _, position in placed))


def _statement(
    entries: Sequence[types.JsonDict], streams: int, acting: context.Context, reason: str | None
) -> tuple[str, Sequence[Any]]:
    """The cheapest of the append functions that does it, and its parameters."""
    if len(entries) == 1:
        one = entries[0]
        return _append_one(one["s"], one.get("x"), one["t"], one["v"], bytes(one["d"]), one["i"], acting, reason)
    who = _who(acting, reason)
    if streams == 1:
        return APPEND_STREAM, (entries[0]["s"], entries[0].get("x"), *_side_by_side(entries)[2:], *who)
    if len(entries) == streams:
        return APPEND_EACH, (*_side_by_side(entries), *who)
    return APPEND_MANY, (msgspec.json.encode(entries).decode(), *who)


def _append_one(
    stream: str,
    expected: int | None,
    name: str,
    schema_version: int,
    data: bytes,
    event_id: uuid.UUID,
    acting: context.Context,
    reason: str | None,
) -> tuple[str, Sequence[Any]]:
    event = (stream, stream, expected, name, schema_version, data.decode(), event_id)
    return APPEND_ONE, event + _who(acting, reason)


def _who(acting: context.Context, reason: str | None) -> tuple[Any, ...]:
    return acting.actor, reason, acting.correlation_id, acting.causation_id, acting.encoded_metadata()


def _side_by_side(entries: Sequence[types.JsonDict]) -> Sequence[arrays.Array]:
    return (
        arrays.Texts(entry["s"] for entry in entries),
        arrays.Numbers(entry.get("x") for entry in entries),
        arrays.Texts(entry["t"] for entry in entries),
        arrays.Numbers(entry["v"] for entry in entries),
        arrays.Jsons(bytes(entry["d"]) for entry in entries),
        arrays.Uuids(entry["i"] for entry in entries),
    )


def _entries(wanted: Append, encryptor: encryption.Encryptor) -> Iterable[types.JsonDict]:
    """The events of one append as the append functions want them, each checked."""
    _check_name(wanted.stream)
    ids = wanted.event_ids or [types.new_id() for _ in wanted.events]
    for number, (event, event_id) in enumerate(zip(wanted.events, ids, strict=True)):
        known = types.event_type_of(type(event))
        _demand_fit(known, event)
        entry = {"s": wanted.stream, "t": known.name, "v": known.schema_version, "i": event_id}
        encryptor.add(entry, known, event, encode, born=wanted.expected == NO_STREAM)
        if number == 0 and wanted.expected is not None:
            entry["x"] = wanted.expected
        yield entry


def _demand_fit(known: types.EventType, event: Event) -> None:
    try:
        types.demand_fit(known, event)
    except ValueError as error:
        raise errors.InvalidEvent(f"{known.name}: {error}") from None


def _check_name(stream: str) -> None:
    if not stream or "-" not in stream or len(stream) > 300 or "\0" in stream:
        raise errors.InvalidEvent(f"{stream!r} is not a stream name such as user-<id>.")
    if not stream.isascii():
        strict_json.check(stream)


def encode(event: Event | types.JsonDict) -> bytes:
    """Event data, or its personal part, as JSON that every reader reads back, not larger than the store will carry.

    Raises `InvalidEvent`, `InvalidJson` or `EventTooLarge`.
    """
    data = _strict(event)
    size = len(data)
    if SURELY_SMALL < size <= MAX_EVENT_BYTES:
        size = strict_json.stored_size(data, partial(msgspec.to_builtins, event))
    if size > MAX_EVENT_BYTES:
        raise errors.EventTooLarge(f"{type(event).__name__} has {size:,} bytes; at most {MAX_EVENT_BYTES:,}.")
    return data


def encoded(value: Any) -> str:
    """Values stored beside the events (snapshots, remembered answers) as JSON text, by the same rules."""
    return _strict(value).decode()


def _strict(value: Any) -> bytes:
    try:
        data = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise errors.InvalidEvent(f"{type(value).__name__} is not JSON: {error}") from error
    strict_json.check_encoded(data, partial(msgspec.to_builtins, value))
    return data


def _stale_keys() -> errors.EventsError:
    """A key was there that should not be, or not there: a twin was first, or an older backup was restored."""
    subject_keys.CACHE.clear()
    return errors.StaleKeys()


pipeline.explain("events_subject_key_pkey", _stale_keys)
pipeline.explain("events_subject_erased", errors.Erased)


# -- read -----------------------------------------------------------------------------------------------------------

# Null where Python has no such time in every time zone: `infinity`, or a year beyond the calendar, inserted by hand.
# Drivers raise for those, and then no row of the statement would be read.
INSTANT: Final = "case when recorded_at between '0002-01-01 00:00Z' and '9998-12-31 00:00Z' then recorded_at end"

COLUMNS = f"""position, stream, version, type, schema_version, data::text, event_id, {INSTANT}, actor, reason,
       correlation_id, causation_id, metadata::text, {subject_keys.GENERATION}"""

READ_STREAM_SQL = f"""
select {COLUMNS} from events_event
 where stream = %(stream)s and version > %(after)s and version <= coalesce(%(upto)s::bigint, 9223372036854775807)
   and (%(at)s::timestamptz is null or version < coalesce((
        select min(late.version) from events_event late
         where late.stream = %(stream)s and late.recorded_at > %(at)s::timestamptz), 9223372036854775807))
 order by version limit %(limit)s::bigint
"""  # noqa: S608 - COLUMNS is the constant above

READ_ALL_SQL = f"""
select {COLUMNS} from events_event
 where position > %(after)s and position <= %(upto)s and events_here(%(after)s) order by position limit %(limit)s
"""  # noqa: S608

READ_SOME_SQL = f"""
select {COLUMNS} from events_event
 where position > %(after)s and position <= %(upto)s and events_here(%(after)s)
   and (%(types)s::text[] is null or type = any(%(types)s::text[]))
   and (%(categories)s::text[] is null or split_part(stream, '-', 1) = any(%(categories)s::text[]))
 order by position limit %(limit)s
"""  # noqa: S608


class Past(msgspec.Struct, frozen=True):
    """Where archived events are read: `read_all(after, limit, …)` and `read_stream(stream, after, upto)`."""

    read_all: Callable[..., list[RecordedEvent]]
    read_stream: Callable[[str, int, int | None], list[RecordedEvent]]


_past: Past | None = None


def use_past(past: Past | None) -> None:
    """Say where archived events are read; called from `AppConfig.ready()`."""
    global _past  # noqa: PLW0603 - one table with one place
    _past = past


class Rows:
    """Rows of `COLUMNS` on their way to events. Keys that are missing are given to `decryptor` in between, all at once.

    No row stops the others: one that cannot be read is an event with `unreadable` set, decided here for all readers.
    """

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self._rows = [(row, data_of(row[5])) for row in rows]
        self.decryptor = encryption.Decryptor(rows[0][13] if rows else None)
        for row, data in self._rows:
            if data is not None:
                self.decryptor.add(row[1], data)

    def events(self) -> list[RecordedEvent]:
        return [_event(row, data, self.decryptor) for row, data in self._rows]


def data_of(text: str) -> types.JsonDict | None:
    """Stored event data; None where it is no JSON object, or holds a number that nobody can read."""
    try:
        data = strict_json.stored(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def generation() -> int:
    """How many erasures there have been, as a number that changes with each."""
    found: int = query(f"select {subject_keys.GENERATION}")[0][0]
    return found


def rows_to_events(rows: Sequence[Sequence[Any]]) -> list[RecordedEvent]:
    """Rows of `COLUMNS` as events, decrypted, their data upcast to the newest shape."""
    reading = Rows(rows)
    if missing := reading.decryptor.missing:
        reading.decryptor.learn(query(subject_keys.KEYS, (missing,)), once_committed)
    return reading.events()


def decoded(stream: str, tail: Sequence[Sequence[Any]]) -> list[Event]:
    """Events of one stream as `events_begin` brings them, (type, schema version, data, event id): typed and legible."""
    decryptor = encryption.Decryptor()
    for _, _, data, _ in tail:
        if not isinstance(data, dict):
            raise errors.UnreadableEvent("not_json", stream)
        decryptor.add(stream, data)
    if missing := decryptor.missing:
        decryptor.learn(query(subject_keys.KEYS, (missing,)), once_committed)
    for name, _, data, event_id in tail:
        decryptor.decrypt(stream, uuid.UUID(event_id), name, data)
    return [decode(stream, name, version, data) for name, version, data, _ in tail]


def decode(stream: str, name: str, schema_version: int, data: types.JsonDict) -> Event:
    """Stored data, legible, as its typed event. Raises `UnreadableEvent`."""
    try:
        return types.decode_event(name, schema_version, data)
    except errors.UnknownEventType:
        raise errors.UnreadableEvent("unknown_type", stream) from None
    except Exception as error:  # an upcaster is old code about old data
        raise errors.UnreadableEvent(_why(name, schema_version), stream) from error


def _why(name: str, schema_version: int) -> str:
    """Which of the two it is: no road from that version, or data that does not fit at its end."""
    known = types.event_type_of(name)
    road = range(schema_version, known.schema_version)
    reachable = schema_version <= known.schema_version and all(step in known.upcasters for step in road)
    return "does_not_fit" if reachable else "unknown_version"


def parsed(tail: str, stream: str) -> list[Any]:
    """The events of one stream as `events_begin` brings them. Raises `UnreadableEvent`."""
    try:
        found: list[Any] = strict_json.stored(tail)
    except ValueError:
        raise errors.UnreadableEvent("not_json", stream) from None
    return found


def _event(row: Sequence[Any], data: types.JsonDict | None, decryptor: encryption.Decryptor) -> RecordedEvent:
    """A type that nobody registers any more is shown as it is stored: reading history must not need all the past's
    code. In the stream of a record it counts as unreadable, because the record's state needs it.
    """
    name, schema_version = row[3], row[4]
    reason, why = None, None if data is not None else "not_json"
    try:
        if data is not None:
            reason = decryptor.decrypt(row[1], row[6], name, data)
            known = types.event_type_of(name)
            if known.schema_version != schema_version:
                data, schema_version = types.upcast(name, schema_version, data), known.schema_version
            types.demand_fit(known, msgspec.convert(data, known.cls))
    except errors.UnknownEventType:
        why = "unknown_type" if aggregate.is_known(types.category_of(row[1])) else None
    except (errors.UnreadableEvent, errors.Undecryptable) as error:
        why, data = error.why, None
    except Exception:  # whatever an upcaster raises: no event stops a reader
        why, data = _why(name, row[4]), None
    try:
        metadata = strict_json.stored(row[12])
    except ValueError:
        why, data, metadata = why or "not_json", None, {}
    if row[7] is None:
        why, data = why or "no_instant", None
    return RecordedEvent(
        position=row[0],
        stream=row[1],
        version=row[2],
        type=name,
        schema_version=schema_version if data is not None else row[4],
        data=data if data is not None else {},
        event_id=row[6],
        recorded_at=row[7] or types.EPOCH_START,
        actor=row[8],
        reason=row[9] if reason is None else reason,
        correlation_id=row[10],
        causation_id=row[11],
        metadata=metadata,
        unreadable=why,
    )


def read_stream(
    stream: str,
    after: int = 0,
    limit: int | None = None,
    *,
    upto: int | None = None,
    at: datetime | None = None,
) -> list[RecordedEvent]:
    """Events of one stream with version in (`after`, `upto`], recorded no later than `at`, in order.

    Those that are archived are read from their file; raises `Archived` where that is not here.
    """
    found = query(READ_STREAM_SQL, {"stream": stream, "after": after, "upto": upto, "at": at, "limit": limit})
    events = rows_to_events(found)
    first = events[0].version if events else None
    if first == after + 1 or _past is None or (upto is not None and upto <= after):
        return events
    if first is None and version_of(stream) <= after:
        return events  # there is no more, here or in a file
    earlier = _past.read_stream(stream, after, first - 1 if first else upto)
    late = next((n for n, event in enumerate(earlier) if at is not None and event.recorded_at > at), None)
    return (earlier + events if late is None else earlier[:late])[:limit]


READ_STREAMS_SQL = f"""
select {COLUMNS} from events_event where stream = any(%s) order by stream, version
"""  # noqa: S608


def read_streams(streams: Sequence[str]) -> list[RecordedEvent]:
    """All events of several streams, stream by stream."""
    return rows_to_events(query(READ_STREAMS_SQL, (list(streams),)))


def read_all(
    after: int,
    limit: int = 1000,
    *,
    upto: int,
    types: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
) -> list[RecordedEvent]:
    """Events of the whole log with position in (`after`, `upto`], in order; `upto` is a head read with `head.safe()`
    *before*. With `types` or `categories` only those. Archived ones are read from their files.
    """
    narrowed = {"types": types, "categories": categories}
    try:
        return read_here(after, limit, upto=upto, **narrowed)
    except errors.Archived as gone:
        if _past is None or connection.in_atomic_block:
            raise
        found = _past.read_all(after, limit, upto=min(upto, gone.upto), **narrowed)
        left = limit - len(found)
        return found + read_here(gone.upto, left, upto=upto, **narrowed) if left else found


def read_here(
    after: int,
    limit: int,
    *,
    upto: int,
    types: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
) -> list[RecordedEvent]:
    """`read_all` of what is in the log; raises `Archived` where part of it is not, with `upto` as the last such."""
    parameters: dict[str, Any] = {"after": after, "upto": upto, "limit": limit}
    if types is None and categories is None:
        found = query(READ_ALL_SQL, parameters)
    else:
        narrowed = parameters | {
            "types": list(types) if types else None,
            "categories": list(categories) if categories else None,
        }
        found = query(READ_SOME_SQL, narrowed)
    return rows_to_events(found)


def version_of(stream: str) -> int:
    """The stream's version now; 0 when it has no events."""
    found = query("select version from events_stream where stream = %s", (stream,))
    return found[0][0] if found else 0
