"""The log: append to streams, read one stream, read everything in order. The only writer of events.

Order in one paragraph (docs/event-store.md has the proof): an append locks its stream's row, publishes a *floor* (a
shared advisory lock keyed by the sequence's present value) and only then draws positions. Readers go no further than
the lowest published floor (`head.safe`), so no event can appear later at or below a position they have read. Only
writers of the same stream wait for each other.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import connection

from events import context, decoding, encoding, errors, extension, notifications, strict_json, types
from events.db import arrays, pipeline, replica
from events.privacy import encryption, key_witness, subject_keys
from events.types import Event, RecordedEvent

ANY: Final = None
NO_STREAM: Final = 0
EXISTS: Final = -1

MAX_BATCH: Final = 10_000
STREAM_WINDOW: Final = 500  # versions
query, execute, once_committed = pipeline.query, pipeline.execute, pipeline.once_committed


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an append: the stream's new version, and the position of each event in the order given."""

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


class PendingAppend:
    """An append whose statement may still be queued in the pipeline; reading its results sends it."""

    __slots__ = ("_appends", "_pending")

    def __init__(self, appends: Sequence[Append], pending: pipeline.PendingRows) -> None:
        self._appends, self._pending = appends, pending

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """(stream, version) -> position of each event."""
        return {(stream, version): position for stream, version, position in self._pending.rows}

    @property
    def results(self) -> list[Appended]:
        """One result for each append, in the order given."""
        found: dict[str, list[tuple[int, int]]] = {}
        for stream, version, position in self._pending.rows:
            found.setdefault(stream, []).append((version, position))
        return [_appended(append.stream, sorted(found[append.stream])) for append in self._appends]


def _appended(stream: str, found: Sequence[tuple[int, int]]) -> Appended:
    return Appended(stream=stream, version=found[-1][0], positions=tuple(position for _, position in found))


# -- append -----------------------------------------------------------------------------------------------------------

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
    """Append events to one stream, outside a transaction in one of its own, in one round trip.

    Raises `WrongExpectedVersion`, `DuplicateEvent`, `InvalidEvent`, `EventTooLarge`, `Erased`, `MasterKeyMissing` or
    `StoreUnavailable`; then none of them is stored.
    """
    if len(events) == 1 >= len(event_ids):
        known = types.event_type_of(type(events[0]))
        if known.subject is None and known.within is None:
            return _append_plain(stream, events[0], known, expected, *event_ids)
    return append_many([Append(stream=stream, events=events, expected=expected, event_ids=event_ids)])[0]


def _append_plain(
    stream: str, event: Event, known: types.EventType, expected: int | None, event_id: uuid.UUID | None = None
) -> Appended:
    """`append_many` for a single event without a subject: the same result without building lists."""
    acting = context.current()
    encryption.check_reason(acting.reason)
    _check_name(stream)
    _demand_fit(known, event)
    entry = (stream, expected, known.name, known.schema_version, encoding.encode(event), event_id or types.new_id())
    pending = pipeline.defer(*_append_one(*entry, acting, acting.reason))
    _notify_once_committed(pending)
    _, version, position = pending.rows[0]
    return Appended(stream=stream, version=version, positions=(position,))


def append_many(appends: Sequence[Append]) -> list[Appended]:
    """Append to several streams, all or nothing. A stream may occur once. Results are in the order given."""
    return append_pending(appends).results


def append_pending(appends: Sequence[Append]) -> PendingAppend:
    """`append_many` whose statement inside `pipeline.transaction` is sent together with the following statements.

    Errors that the database finds are raised when it is sent, at the latest at the commit.
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
            with pipeline.transaction():  # a key is stored with the event it encrypts, or not at all
                return append_pending(appends)
        make_keys(encryptor, missing)
    elif encryptor.makes_keys:
        key_witness.prove()
    encryptor.finish()
    statement = _statement(entries, len(appends), acting, encryptor.reason)
    pending = pipeline.defer(*encryptor.with_hold(*statement, one=len(entries) == 1))
    _notify_once_committed(pending)
    return PendingAppend(appends, pending)


def make_keys(keys: encryption.Encryptor | encryption.StateCipher, missing: Sequence[str]) -> None:
    """Look up the keys of these subjects and create missing ones. Raises `MasterKeyWrong`."""
    key_witness.prove()
    keys.learn(query(subject_keys.MAKE, subject_keys.offer(missing)), once_committed)


def _notify_once_committed(pending: pipeline.PendingRows) -> None:
    if pending.in_transaction:
        once_committed(_notify, pending)
    else:
        _notify(pending)


def _notify(pending: pipeline.PendingRows) -> None:
    position = max(row[2] for row in pending.rows)
    notifications.notify(position)
    replica.show(position)


def _statement(
    entries: Sequence[types.JsonDict], streams: int, acting: context.Context, reason: str | None
) -> tuple[str, Sequence[Any]]:
    """The cheapest append function for these events, and its parameters."""
    if len(entries) == 1:
        one = entries[0]
        return _append_one(one["s"], one.get("x"), one["t"], one["v"], bytes(one["d"]), one["i"], acting, reason)
    author = _author(acting, reason)
    if streams == 1:
        return APPEND_STREAM, (entries[0]["s"], entries[0].get("x"), *_columns(entries)[2:], *author)
    if len(entries) == streams:
        return APPEND_EACH, (*_columns(entries), *author)
    return APPEND_MANY, (msgspec.json.encode(entries).decode(), *author)


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
    return APPEND_ONE, event + _author(acting, reason)


def _author(acting: context.Context, reason: str | None) -> tuple[Any, ...]:
    return acting.actor, reason, acting.correlation_id, acting.causation_id, acting.encoded_metadata()


def _columns(entries: Sequence[types.JsonDict]) -> Sequence[arrays.Array]:
    return (
        arrays.Texts(entry["s"] for entry in entries),
        arrays.Numbers(entry.get("x") for entry in entries),
        arrays.Texts(entry["t"] for entry in entries),
        arrays.Numbers(entry["v"] for entry in entries),
        arrays.Jsons(bytes(entry["d"]) for entry in entries),
        arrays.Uuids(entry["i"] for entry in entries),
    )


def _entries(wanted: Append, encryptor: encryption.Encryptor) -> Iterable[types.JsonDict]:
    """The checked events of one append, as input of the append functions."""
    _check_name(wanted.stream)
    ids = wanted.event_ids or [types.new_id() for _ in wanted.events]
    for number, (event, event_id) in enumerate(zip(wanted.events, ids, strict=True)):
        known = types.event_type_of(type(event))
        _demand_fit(known, event)
        entry = {"s": wanted.stream, "t": known.name, "v": known.schema_version, "i": event_id}
        encryptor.add(entry, known, event, encoding.encode, born=wanted.expected == NO_STREAM)
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


def _stale_keys() -> errors.EventsError:
    """The cached keys are outdated: another process created a key, or an older backup was restored."""
    subject_keys.CACHE.clear()
    return errors.StaleKeys()


extension.explain_constraint("events_subject_key_pkey", _stale_keys)
extension.explain_constraint("events_subject_erased", errors.Erased)


# -- read -------------------------------------------------------------------------------------------------------------

READ_STREAM_SQL = f"""
select {decoding.COLUMNS} from events_event
 where stream = %(stream)s and version > %(after)s and version <= coalesce(%(upto)s::bigint, 9223372036854775807)
 order by version limit %(limit)s::bigint
"""  # noqa: S608 - COLUMNS is a constant

# The first event after an instant among some versions, and the stream's newest version.
LATE_SQL = """
select min(version), (select version from events_stream where stream = %(stream)s) from events_event
 where stream = %(stream)s and version > %(after)s and version <= %(upto)s and recorded_at > %(at)s
"""

# The positions of (`after`, `upto`], or an error where some are archived. The bounds are subselects, which PostgreSQL
# runs before it chooses partitions. With plain bounds it leaves out all partitions of an archived range, and with them
# the condition that raises: the range would seem to be empty.
POSITIONS: Final = (
    "position > (select %(after)s::bigint where events_here(%(after)s)) and position <= (select %(upto)s::bigint)"
)

READ_ALL_SQL = f"""
select {decoding.COLUMNS} from events_event where {POSITIONS} order by position limit %(limit)s
"""  # noqa: S608

READ_SOME_SQL = f"""
select {decoding.COLUMNS} from events_event
 where {POSITIONS}
   and (%(types)s::text[] is null or type = any(%(types)s::text[]))
   and (%(categories)s::text[] is null or split_part(stream, '-', 1) = any(%(categories)s::text[]))
 order by position limit %(limit)s
"""  # noqa: S608


class Past(msgspec.Struct, frozen=True):
    """Readers of archived events, with the parameters of `archive.reader`."""

    read_all: Callable[..., list[RecordedEvent]]
    read_streams: Callable[[Collection[str]], list[RecordedEvent]]
    read_stream: Callable[[str, int, int | None], list[RecordedEvent]]


_past: Past | None = None


def use_past(past: Past | None) -> None:
    """Set the readers of archived events; called from `AppConfig.ready()`."""
    global _past  # noqa: PLW0603 - set once per process
    _past = past


def read_stream(
    stream: str,
    after: int = 0,
    limit: int | None = None,
    *,
    upto: int | None = None,
    at: datetime | None = None,
) -> list[RecordedEvent]:
    """Events of one stream with version in (`after`, `upto`], recorded no later than `at`, in order.

    With `at`, no event up to `after` may have been recorded later.
    Archived ones are read from their file; raises `Archived` where the file is missing.
    """
    if at is not None:
        last = _last_before(stream, after, at)
        upto = last if upto is None else min(upto, last)
    found = query(READ_STREAM_SQL, {"stream": stream, "after": after, "upto": upto, "limit": limit})
    events = decoding.events_of(found)
    first = events[0].version if events else None
    if first == after + 1 or _past is None or (upto is not None and upto <= after):
        return events
    if first is None and version_of(stream) <= after:
        return events  # there is no more, here or in a file
    earlier = _past.read_stream(stream, after, first - 1 if first else upto)
    late = next((n for n, event in enumerate(earlier) if at is not None and event.recorded_at > at), None)
    return (earlier + events if late is None else earlier[:late])[:limit]


def _last_before(stream: str, after: int, at: datetime) -> int:
    """The version after `after` that comes before the first event recorded later than `at`.

    Looks at more and more versions: a statement about all of them would read them all.
    """
    width = STREAM_WINDOW
    while True:
        late, newest = query(LATE_SQL, {"stream": stream, "after": after, "upto": after + width, "at": at})[0]
        if late is not None:
            return int(late) - 1
        after, width = after + width, 2 * width
        if newest is None or after >= newest:
            return after


READ_STREAMS_SQL = f"""
select {decoding.COLUMNS} from events_event where stream = any(%s) order by stream, version
"""  # noqa: S608


def read_streams(streams: Sequence[str]) -> list[RecordedEvent]:
    """All events of several streams, stream by stream; archived ones are read from their files."""
    found = decoding.events_of(query(READ_STREAMS_SQL, (arrays.Texts(streams),)))
    first = {event.stream: event.version for event in reversed(found)}
    lacking = {stream for stream in streams if first.get(stream) != 1}
    if _past is None or not lacking:
        return found
    # `found` already has the events of these streams that were archived after the first statement had read them.
    earlier = [event for event in _past.read_streams(lacking) if event.version < first.get(event.stream, math.inf)]
    return sorted(earlier + found, key=lambda event: (event.stream, event.version)) if earlier else found


def read_all(
    after: int,
    limit: int = 1000,
    *,
    upto: int,
    types: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
) -> list[RecordedEvent]:
    """Events of the whole log with position in (`after`, `upto`], in order, at most `limit`.

    `upto` is a head read with `head.safe()` *before*. With `types` or `categories` only those. Archived events are read
    from their files.
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
    """`read_all` without archive files; raises `Archived` with the last archived position as `upto`."""
    parameters: dict[str, Any] = {"after": after, "upto": upto, "limit": limit}
    if types is None and categories is None:
        found = query(READ_ALL_SQL, parameters)
    else:
        narrowed = parameters | {
            "types": list(types) if types else None,
            "categories": list(categories) if categories else None,
        }
        found = query(READ_SOME_SQL, narrowed)
    return decoding.events_of(found)


def version_of(stream: str) -> int:
    """The stream's current version; 0 when it has no events."""
    found = query("select version from events_stream where stream = %s", (stream,))
    return found[0][0] if found else 0
