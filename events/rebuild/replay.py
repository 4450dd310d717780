"""Reads the events of one category for a rebuild, in the order of positions, typed and upcast."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from django.db import connection

from events import decoding, errors, store, strict_json, types
from events.archive import reader as archives
from events.integrity.stored_rows import StoredRow
from events.privacy import encryption, subject_keys
from events.subscriptions import parked
from events.types import NewEvent

log = logging.getLogger(__name__)

# The condition on the category deliberately matches no index: with a range of names PostgreSQL, which plans this once
# for all positions, would fetch and sort every event of the category for each page.
READ = f"""
select position, stream, version, type, schema_version, data::text, event_id, {decoding.INSTANT},
       {subject_keys.GENERATION}
  from events_event
 where {store.POSITIONS} and split_part(stream, '-', 1) = %(category)s
 order by position limit %(limit)s
"""  # noqa: S608 - constants


def read(category: str, after: int, upto: int, limit: int) -> list[tuple[int, NewEvent | None]]:
    """Events of one category in (`after`, `upto`], typed (None: unreadable), each with its position.

    Raises the driver's error where they are archived; the caller translates it and reads the files.
    """
    connection.ensure_connection()
    wanted = {"after": after, "upto": upto, "category": category, "limit": limit}
    cursor: psycopg.Cursor[Any] = psycopg.Cursor(connection.connection)
    return _typed(cursor.execute(READ, wanted, binary=True).fetchall())


def _typed(rows: Sequence[Sequence[Any]]) -> list[tuple[int, NewEvent | None]]:
    """Rows of `READ` as projections receive new events, upcast, each with its position.

    An event that cannot be read is replaced by None and logged.
    """
    generation = rows[0][8] if rows else None
    decryptor = encryption.Decryptor(decoding.generation() if generation is None else generation)
    encrypted = {row[0]: decoding.stored_data(row[5]) for row in rows if encryption.MARK in row[5]}
    for row in rows:
        if data := encrypted.get(row[0]):
            decryptor.add(row[1], data)
    if missing := decryptor.missing:
        decryptor.learn(store.query(subject_keys.KEYS, (missing,)), store.once_committed)
    return [(row[0], _new(row, encrypted, decryptor)) for row in rows]


def _new(
    row: Sequence[Any], encrypted: Mapping[int, types.JsonDict | None], decryptor: encryption.Decryptor
) -> NewEvent | None:
    """One row as a new event; None, and a log entry, when it cannot be read.

    The fast path decodes an event of the current schema version directly into its class; text with a long number takes
    `strict_json.stored`, as everywhere else.
    """
    try:
        known = types.event_type_of(row[3])
        if row[7] is None:
            raise errors.UnreadableEvent("no_instant", row[1], row[2], row[0])
        if row[0] in encrypted:
            stored = encrypted[row[0]]
            if stored is None:
                raise errors.UnreadableEvent("not_json", row[1], row[2], row[0])
            decryptor.decrypt(row[1], row[6], row[3], stored)
            data = types.decode_event(row[3], row[4], stored)
        elif row[4] == known.schema_version and not strict_json.has_long_number(row[5]):
            data = msgspec.json.decode(row[5], type=known.cls)
            types.demand_fit(known, data)
        else:
            data = types.decode_event(row[3], row[4], strict_json.stored(row[5]))
    except Exception as error:
        where = {"stream": row[1], "position": row[0]}
        text = "event %(position)d of %(stream)s is skipped, it cannot be read: %(error)s"
        log.warning(text, where | {"error": parked.describe(error)}, extra=where)
        return None
    return NewEvent(stream=row[1], version=row[2], data=data, event_id=row[6], recorded_at=row[7])


def _as_read_row(row: StoredRow) -> tuple[Any, ...]:
    """An archived event as a row of `READ`."""
    known = (row.position, row.stream, row.version, row.type, row.schema_version, row.data)
    return (*known, uuid.UUID(row.event_id), archives.instant(row), None)


def from_archive(rows: Sequence[StoredRow]) -> list[tuple[int, NewEvent | None]]:
    """Archived rows, typed like those of `read`."""
    return _typed([_as_read_row(row) for row in rows])
