"""Restores an archived partition of the log from its file."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import msgspec
from django.db import connection, transaction

from events import errors, store, types
from events.archive import reader as archives
from events.archive import writer
from events.archive.reader import Archive
from events.archive.writer import ReportProgress
from events.integrity import stored_rows
from events.integrity.stored_rows import StoredRow
from events.rebuild import shadow_table


@types.event_type("log.restored")
class LogRestored(types.Event, frozen=True):
    """A partition of the log was restored from its file."""

    low: int
    high: int
    file: str


BACK = "update events_archive set gone_at = null where low = %s and gone_at is not null returning low"

COLUMNS: Final = tuple(name for name in StoredRow.__struct_fields__)


def restore(
    low: int, report_progress: ReportProgress = writer.ignore_progress, patience: float = writer.PATIENCE
) -> Archive:
    """Restore the newest archived partition: `low` is its first position. The file stays.

    Raises `ArchiveRefused` when it is not the newest, or its file differs from what was written.
    """
    gone = archives.gone()
    found = next((archive for archive in gone if archive.low == low), None)
    if found is None or found is not gone[-1]:
        newest = f"the newest is the one that begins at {gone[-1].low}" if gone else "nothing is archived"
        raise errors.ArchiveRefused(f"Archives are restored newest first; {newest}.")
    writer.verify_file(found, report_progress)
    table = f"events_event_p{low:012}"
    with transaction.atomic():
        store.execute("select events_partition_table(%s)", (table,))
        _fill(table, found, report_progress)
        # With this constraint PostgreSQL need not scan the rows under the lock.
        bounds = f"check (position >= {found.low} and position < {found.high})"
        shadow_table.run(f"alter table {table} add constraint events_bounds {bounds}")
        store.execute(f"set local lock_timeout = '{int(patience * 1000)}ms'")
        store.execute("select events_partition_attach(%s, %s, %s)", (table, found.low, found.high))
        shadow_table.run(f"alter table {table} drop constraint events_bounds")
        store.query(BACK, (low,))
        store.append(f"log-{low:012}", [LogRestored(low=low, high=found.high, file=found.file)])
    return msgspec.structs.replace(found, gone=False)


def _fill(table: str, archive: Archive, report_progress: ReportProgress) -> None:
    raw: Any = connection.connection
    statement = f"copy {table} ({', '.join(COLUMNS)}) from stdin"
    with raw.cursor().copy(statement) as copy:
        for rows in archives.Reader(archive).rows(0, archive.high):
            for row in rows:
                copy.write_row(_to_columns(row))
            report_progress("restore", rows[-1].position - archive.low + 1, archive.high - archive.low)


def _to_columns(row: StoredRow) -> tuple[Any, ...]:
    columns = list(msgspec.structs.astuple(row))
    columns[COLUMNS.index("recorded_at")] = archives.instant(row) or _in_postgres(row.recorded_at)
    return tuple(columns)


def _in_postgres(microseconds: int) -> str:
    """A time outside Python's calendar in PostgreSQL's Julian day notation; day 2440588 is 1970-01-01."""
    if microseconds in (stored_rows.NEVER, stored_rows.FOREVER):
        return "infinity" if microseconds > 0 else "-infinity"
    days, rest = divmod(microseconds, 86_400_000_000)
    return f"J{2_440_588 + days} {timedelta(microseconds=rest)}+00"
