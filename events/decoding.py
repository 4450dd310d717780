"""Stored rows as events: decrypted, upcast, typed. An unreadable row becomes an event with `unreadable` set.

Statements select `COLUMNS` from `events_event` and pass their rows to `events_of`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from events import aggregate, errors, strict_json, types
from events.db import pipeline
from events.privacy import encryption, subject_keys
from events.types import Event, RecordedEvent

# Null for times outside Python's calendar (`infinity`, extreme years), which only direct SQL can insert.
# Drivers raise for those, and then no row of the statement could be read.
INSTANT: Final = "case when recorded_at between '0002-01-01 00:00Z' and '9998-12-31 00:00Z' then recorded_at end"

COLUMNS = f"""position, stream, version, type, schema_version, data::text, event_id, {INSTANT}, actor, reason,
       correlation_id, causation_id, metadata::text, {subject_keys.GENERATION}"""


class EventRows:
    """Converts rows of `COLUMNS` to events; before `events`, the caller gives missing keys to `decryptor`.

    One unreadable row does not stop the others: it becomes an event with `unreadable` set, for all readers.
    """

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self._rows = [(row, stored_data(row[5])) for row in rows]
        self.decryptor = encryption.Decryptor(rows[0][13] if rows else None)
        for row, data in self._rows:
            if data is not None:
                self.decryptor.add(row[1], data)

    def events(self) -> list[RecordedEvent]:
        return [_event(row, data, self.decryptor) for row, data in self._rows]


def stored_data(text: str) -> types.JsonDict | None:
    """Stored event data; None where it is no JSON object, or has a number that no reader can represent."""
    try:
        data = strict_json.stored(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def generation() -> int:
    """The number of erasures so far; it changes with each."""
    found: int = pipeline.query(f"select {subject_keys.GENERATION}")[0][0]
    return found


def events_of(rows: Sequence[Sequence[Any]]) -> list[RecordedEvent]:
    """Rows of `COLUMNS` as events, decrypted, their data upcast to the newest shape."""
    reading = EventRows(rows)
    if missing := reading.decryptor.missing:
        reading.decryptor.learn(pipeline.query(subject_keys.KEYS, (missing,)), pipeline.once_committed)
    return reading.events()


def tail_events(stream: str, tail: Sequence[Sequence[Any]]) -> list[Event]:
    """Typed, decrypted events of one stream from the rows of `events_begin`: (type, schema version, data, id)."""
    decryptor = encryption.Decryptor()
    for _, _, data, _ in tail:
        if not isinstance(data, dict):
            raise errors.UnreadableEvent("not_json", stream)
        decryptor.add(stream, data)
    if missing := decryptor.missing:
        decryptor.learn(pipeline.query(subject_keys.KEYS, (missing,)), pipeline.once_committed)
    for name, _, data, event_id in tail:
        decryptor.decrypt(stream, uuid.UUID(event_id), name, data)
    return [decode(stream, name, version, data) for name, version, data, _ in tail]


def decode(stream: str, name: str, schema_version: int, data: types.JsonDict) -> Event:
    """Decrypted data as its typed event. Raises `UnreadableEvent`."""
    try:
        return types.decode_event(name, schema_version, data)
    except errors.UnknownEventType:
        raise errors.UnreadableEvent("unknown_type", stream) from None
    except Exception as error:  # an upcaster is old code about old data
        raise errors.UnreadableEvent(_why(name, schema_version), stream) from error


def _why(name: str, schema_version: int) -> str:
    """The code of `types.UNREADABLE`: an upcaster is missing, or the data does not fit after upcasting."""
    known = types.event_type_of(name)
    steps = range(schema_version, known.schema_version)
    reachable = schema_version <= known.schema_version and all(step in known.upcasters for step in steps)
    return "does_not_fit" if reachable else "unknown_version"


def parse_tail(tail: str, stream: str) -> list[Any]:
    """The tail that `events_begin` returns, as rows for `tail_events`. Raises `UnreadableEvent`."""
    try:
        found: list[Any] = strict_json.stored(tail)
    except ValueError:
        raise errors.UnreadableEvent("not_json", stream) from None
    return found


def _event(row: Sequence[Any], data: types.JsonDict | None, decryptor: encryption.Decryptor) -> RecordedEvent:
    """One row as an event.

    An event of an unregistered type is returned as stored, because reading history must not need all old code. In the
    stream of a known kind of record it counts as unreadable, because the record's state needs it.
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
    except Exception:  # upcasters may raise anything, and no event may stop a reader
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
