"""Removal of the content of one event, for a court order or a secret that was stored by mistake.

Erasing a person is another operation: it drops a key and changes no event.

A removal deletes the event's type, data, reason and metadata; its position and its hash stay. Before that its digest is
recorded in a stream of its own, with actor and reason; the database refuses every other change
(`events/sql/refuse_change.function.sql`). So chains and seals still hold, and `verify_events` reports the removal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from django.db import transaction

from events import context, errors, store, types
from events.archive import reader as archives
from events.integrity import stored_rows
from events.integrity.stored_rows import StoredRow

REMOVED: Final = "event.removed"
RECORDED: Final = "log.removed"


@types.event_type(REMOVED)
class EventRemoved(types.Event, frozen=True):
    """The placeholder of a removed event; states and read tables ignore it."""


@types.event_type(RECORDED)
class LogRemoved(types.Event, frozen=True):
    """An event was removed. `digest` is its contribution to its stream's hash chain."""

    position: int
    stream: str
    version: int
    type: str
    digest: str


LOCK = "select version from events_stream where stream = %s for update"

EMPTY = """
update events_event
   set type = 'event.removed', schema_version = 1, data = '{}', metadata = '{}', reason = null
 where position = %s
"""

FORGET = """
with snapshots as (delete from events_snapshot where stream = %(stream)s and version >= %(version)s),
     parked as (update events_parked set error = 'removed', traceback = null
                 where position = %(position)s and error is not null)
delete from events_archive where low <= %(position)s and high > %(position)s and gone_at is null
returning file
"""


def remove(position: int, reason: str) -> LogRemoved:
    """Empty one event for ever.

    1 lock its stream  2 read it  3 record the removal  4 empty it  5 delete its derivatives: snapshots, and the file of
    an archive it was restored from.

    The caller rebuilds the read tables that show it. Raises `StreamNotFound` when there is no such event in the log,
    `InvalidCommand` without a reason, `AppendOnly` when it is itself a removal.
    """
    if not reason.strip():
        raise errors.InvalidCommand(fields={"reason": "Enter a reason: required to remove an event."})
    with context.acting(reason=reason.strip()), transaction.atomic():
        store.query(LOCK, (_found(position).stream,))  # 1
        row = _found(position)  # 2
        if row.type in {REMOVED, RECORDED}:
            raise errors.AppendOnly(f"Event {position} is {row.type}: removals and their records cannot be removed.")
        removal = LogRemoved(
            position=position, stream=row.stream, version=row.version, type=row.type, digest=row.digest().hex()
        )
        store.append(f"removal-{position}", [removal], store.NO_STREAM)  # 3
        store.execute(EMPTY, (position,))  # 4
        forgotten = store.query(FORGET, {"position": position, "stream": row.stream, "version": row.version})  # 5
    for (file,) in forgotten:
        _unlink(file)
    return removal


def _found(position: int) -> StoredRow:
    row = next((found for chunk in stored_rows.read(position - 1, position) for found in chunk), None)
    if row is None:
        raise errors.StreamNotFound(f"Event {position} is not in the log; restore its archive first.")
    return row


def _unlink(file: str) -> None:
    """Delete an archive file and its index; the next archiving writes them again."""
    path = archives.folder() / file
    for left in (path, archives.index_of(path)):
        with contextlib.suppress(FileNotFoundError):
            left.unlink()


# -- for checks -------------------------------------------------------------------------------------------------------

DIGESTS = """
select (data->>'position')::bigint, data->>'digest' from events_event
 where stream >= 'removal-' and stream < 'removal.' and type = 'log.removed'
"""


def recorded_digests() -> dict[int, bytes]:
    """The digests of removed events, by position."""
    found: Mapping[int, str] = dict(store.query(DIGESTS))
    past = (archives.reader(archive).rows(0, archive.high) for archive in archives.gone())
    archived = digests(row for blocks in past for block in blocks for row in block)
    return {at: bytes.fromhex(digest) for at, digest in found.items()} | archived


def digests(rows: Iterable[StoredRow]) -> dict[int, bytes]:
    """The digests in those rows that record a removal, by position."""
    found = [msgspec.json.decode(row.data, type=LogRemoved) for row in rows if row.type == RECORDED]
    return {one.position: bytes.fromhex(one.digest) for one in found}


def is_empty(row: StoredRow) -> bool:
    """True when a removed event has no content left."""
    return (row.data, row.metadata, row.reason, row.schema_version) == ("{}", "{}", None, 1)
