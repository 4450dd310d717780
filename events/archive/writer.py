"""Archives a closed partition of the log as a file. `archive.reader` reads archives, `archive.restore` restores them.

    1  choose    the oldest partition still in the log, if it is closed and not needed there
    2  write     its events and the index of its streams to temporary files, synced; then rename
    3  snapshot  the records with many events in it, so that their states need no file; others are read from it
    4  verify    the file, read again, against the chains and the seals
    5  drop      in one short transaction: check again that it is not needed, detach, drop, append `log.archived`

When the process is killed, the next run repeats the step: the file is a function of the events, so writing it twice
writes the same bytes, and the events stay in the log until step 5, which is one transaction.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import psycopg
from django.conf import settings
from django.db import connection, transaction

from events import aggregate, errors, head, partitions, snapshots, store, types
from events.archive import reader as archives
from events.archive.reader import BLOCK, MAGIC, PAIR, Archive
from events.db import arrays
from events.integrity import export, stored_rows, verify
from events.rebuild import shadow_table

KEEP_DAYS: Final = 365
LOCK_TIMEOUT: Final = "500ms"  # readers and writers of the log wait no longer than this
LOCK_PAUSE: Final = 0.5
PATIENCE: Final = 60.0
STREAMS: Final = 500  # snapshots in one transaction, read and written with a few statements ...
EVENTS: Final = 20_000  # ... and the events in memory for them

ReportProgress = Callable[[str, int, int], None]


@types.event_type("log.archived")
class LogArchived(types.Event, frozen=True):
    """A partition of the log was moved to a file: positions low <= p < high."""

    low: int
    high: int
    file: str
    sha256: str
    events: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A partition: its table (quoted if necessary), and its positions low <= p < high."""

    table: str
    low: int
    high: int


# -- 1 choose ---------------------------------------------------------------------------------------------------------

PARTS = f"select quote_ident(name), low, high from ({partitions.BOUNDS}) p order by low"  # noqa: S608 - a constant

NEEDED = """
select 'checkpoint ' || name || ' is at ' || position from events_checkpoint where position < %(high)s - 1
union all
select 'an event of ' || stream || ' is parked for ' || subscription from events_parked where position < %(high)s
union all
select name || ' is being rebuilt, at position ' || position from events_rebuild
 where phase not in ('done', 'new') and position < %(high)s - 1
union all
select 'it is sealed up to ' || coalesce(max(upto), 0) || ' only' from events_seal
having coalesce(max(upto), 0) < %(high)s - 1
"""

YOUNG = """
select 'its last event is of ' || recorded_at::date from (
    select recorded_at from events_event where position < %s order by position desc limit 1) last
 where recorded_at > now() - %s * interval '1 day'
"""


def parts() -> list[Part]:
    """The partitions in the log, oldest first."""
    return [Part(table=table, low=low, high=high) for table, low, high in store.query(PARTS)]


def due(keep_days: int = KEEP_DAYS) -> list[Part]:
    """The partitions that can be archived, oldest first."""
    found = []
    for part in parts():
        if needed(part, keep_days):
            break
        found.append(part)
    return found


def needed(part: Part, keep_days: int = KEEP_DAYS) -> str | None:
    """The reason why a partition must stay in the log; None when it can be archived."""
    if head.safe() < part.high:
        return "it is not closed yet"
    reasons = store.query(NEEDED, {"high": part.high}) or store.query(YOUNG, (part.high, keep_days))
    return reasons[0][0] if reasons else None


# -- all steps --------------------------------------------------------------------------------------------------------


def ignore_progress(phase: str, done: int, total: int) -> None:
    """Do nothing: the default of `report_progress`."""


def archive_next(
    keep_days: int = KEEP_DAYS, report_progress: ReportProgress = ignore_progress, patience: float = PATIENCE
) -> Archive | None:
    """Archive the oldest partition and return its archive; None when the partition must stay in the log.

    report_progress  called with the phase, the amount done and the total, in positions or streams

    Raises `ArchiveRefused` when the file does not match the seals, or the log cannot be locked within `patience`
    seconds.
    """
    part = next(iter(parts()))  # 1
    if needed(part, keep_days):
        return None
    written = _recorded(part) or _record(part, _write(part, report_progress))  # 2
    _snapshot(part, report_progress)  # 3
    verify_file(written, report_progress)  # 4
    _drop(part, written, keep_days, patience)  # 5
    return msgspec.structs.replace(written, gone=True)


# -- 2 write ----------------------------------------------------------------------------------------------------------

INDEX = """
copy (select distinct left(md5(stream), 16) collate "C", (position - {low}) / {block} from {table} order by 1, 2)
  to stdout
"""

RECORD = """
insert into events_archive (low, high, file, sha256, index_sha256, bytes, events) values (%s, %s, %s, %s, %s, %s, %s)
on conflict (low) do update
   set sha256 = excluded.sha256, index_sha256 = excluded.index_sha256, bytes = excluded.bytes, events = excluded.events
returning low
"""


def _recorded(part: Part) -> Archive | None:
    """The archive that an earlier run wrote, if its files are intact."""
    found = next((archive for archive in archives.every() if archive.low == part.low), None)
    try:
        return found if found is not None and archives.Reader(found).check() is None else None
    except (errors.Archived, OSError):
        return None


def _write(part: Part, report_progress: ReportProgress) -> Archive:
    folder = Path(settings.ARCHIVE_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"log-{part.low:012}-{part.high - 1:012}"
    with _complete_file(folder / f"{name}.jsonl.gz") as data:
        offsets, events = _write_blocks(part, data, report_progress)
        size = data.tell()
    with _complete_file(folder / f"{name}.index") as index:
        index.write(MAGIC + struct.pack(f">I{len(offsets)}Q", len(offsets) - 1, *offsets))
        for digest, block in _pairs(part):
            index.write(PAIR.pack(digest, block))
    _sync_folder(folder)
    return Archive(
        low=part.low,
        high=part.high,
        file=f"{name}.jsonl.gz",
        sha256=_sha256(folder / f"{name}.jsonl.gz"),
        index_sha256=_sha256(folder / f"{name}.index"),
        bytes=size,
        events=events,
        gone=False,
    )


def _write_blocks(part: Part, data: IO[bytes], report_progress: ReportProgress) -> tuple[list[int], int]:
    """Write the events, a gzip member per block; returns the offsets of the blocks and the end, and the count."""
    offsets, events = [0], 0
    for low in range(part.low, part.high, BLOCK):
        lines = [
            export.line(row) for rows in stored_rows.read(low - 1, min(low + BLOCK, part.high) - 1) for row in rows
        ]
        if lines:  # without a time in the header the same events give the same bytes
            data.write(gzip.compress(b"".join(lines), compresslevel=6, mtime=0))
        offsets.append(data.tell())
        events += len(lines)
        report_progress("write", min(low + BLOCK, part.high) - part.low, part.high - part.low)
    return offsets, events


def _pairs(part: Part) -> Iterator[tuple[bytes, int]]:
    connection.ensure_connection()
    raw: Any = connection.connection
    statement = INDEX.format(low=part.low, block=BLOCK, table=part.table)
    with raw.cursor().copy(statement) as copy:
        for digest, block in copy.rows():
            yield bytes.fromhex(digest), int(block)


@contextmanager
def _complete_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name only once it is complete and synced to disk."""
    partial = path.with_name(f"part-{os.getpid()}-{path.name}")
    try:
        with partial.open("wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Sync the folder, which makes the renames durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _record(part: Part, written: Archive) -> Archive:
    values = (part.low, part.high, written.file, written.sha256, written.index_sha256, written.bytes, written.events)
    store.query(RECORD, values)
    return written


# -- 3 snapshot -------------------------------------------------------------------------------------------------------

# The next streams with so many events in the partition that a snapshot is smaller than they are.
LONG_STREAMS = """
select stream, max(version) from {table} where stream > %s collate "C"
 group by stream having count(*) >= {least} order by stream limit {limit}
"""

# How far the snapshots of streams reach, and how many events follow them.
COVERED = """
select w.stream, coalesce(n.version, 0), s.version - coalesce(n.version, 0)
  from unnest(%s, %s) w(stream, state_version) join events_stream s on s.stream = w.stream collate "C"
  left join lateral (
    select max(version) as version from events_snapshot n
     where n.stream = w.stream collate "C" and n.state_version = w.state_version) n on true
"""


def _snapshot(part: Part, report_progress: ReportProgress) -> None:
    """Give the long streams of this partition a snapshot that covers them, unless they have one.

    The other streams are read from the file, and get a snapshot when they change again (`states.due`).
    """
    done, after = 0, ""
    statement = LONG_STREAMS.format(table=part.table, least=snapshots.TAIL, limit=STREAMS)
    report_progress("snapshot", done, done)
    while found := store.query(statement, (after,)):
        after = found[-1][0]
        _cover(dict(found))
        done += len(found)
        report_progress("snapshot", done, done)


def _cover(versions: Mapping[str, int]) -> None:
    """Snapshots of the streams of which `TAIL` events or more up to these versions have none."""
    shapes = {stream: record for stream in versions if (record := _record_of(stream)) is not None}
    numbers = arrays.Numbers(record.state_version for record in shapes.values())
    covered = store.query(COVERED, (arrays.Texts(shapes), numbers)) if shapes else []
    lacking = [(stream, tail) for stream, upto, tail in covered if versions[stream] - upto >= snapshots.TAIL]
    for streams in _with_few_events(lacking):
        taken = [
            snapshots.Taken(shapes[stream], stream, now.version, now.state)
            for stream, now in snapshots.folded_many(streams).items()
            if not now.unreadable  # a snapshot would hide them; without it the state is folded from the file
        ]
        with transaction.atomic():
            snapshots.save_all(taken)


def _with_few_events(tails: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Divide streams into lists of at most `EVENTS` events together, or of one stream."""
    streams: list[str] = []
    events = 0
    for stream, tail in tails:
        if streams and events + tail > EVENTS:
            yield streams
            streams, events = [], 0
        streams.append(stream)
        events += tail
    if streams:
        yield streams


def _record_of(stream: str) -> aggregate.Aggregate | None:
    """The kind of record of a stream; None for others, for example operator actions on a subscription."""
    try:
        return aggregate.of_category(types.category_of(stream))
    except errors.StreamNotFound:
        return None


# -- 4 verify ---------------------------------------------------------------------------------------------------------


def verify_file(written: Archive, report_progress: ReportProgress) -> None:
    """Verify the file against chains and seals, through the reader that will serve it, without rows of the log."""

    def progress(position: int) -> None:
        report_progress("verify", position - written.low + 1, written.high - written.low)

    wrong = archives.Reader(written).check()
    report = verify.verify_archive(written, progress=progress)
    if wrong or not report.ok or report.events != written.events:
        reason = wrong or (str(report.findings()[0]) if report.total else f"{report.events} of {written.events} events")
        raise errors.ArchiveRefused(f"{written.file} is not what the log holds: {reason}. Nothing was removed.")


# -- 5 drop -----------------------------------------------------------------------------------------------------------

GONE = "update events_archive set gone_at = now() where low = %s and sha256 = %s and gone_at is null returning low"


def _drop(part: Part, written: Archive, keep_days: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while not _dropped(part, written, keep_days):
        if time.monotonic() > deadline:
            raise errors.ArchiveRefused(
                f"The log could not be locked within {patience:g} s: a long transaction is using it. Try again."
            )
        time.sleep(LOCK_PAUSE)  # lets sessions queued behind this one go first


def _dropped(part: Part, written: Archive, keep_days: int) -> bool:
    """Run the transaction of step 5; False when the lock is not available."""
    try:
        with transaction.atomic():
            store.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
            store.execute("lock table events_event in access exclusive mode")
            if why := needed(part, keep_days):
                raise errors.ArchiveRefused(f"Positions {part.low} to {part.high - 1} must stay: {why}.")
            if not store.query(GONE, (written.low, written.sha256)):
                raise errors.ArchiveRefused(f"{written.file} was archived by another process.")
            shadow_table.run(f"alter table events_event detach partition {part.table}")
            shadow_table.run(f"drop table {part.table}")
            _append_archived(written)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def _append_archived(written: Archive) -> None:
    event = LogArchived(
        low=written.low,
        high=written.high,
        file=written.file,
        sha256=written.sha256.hex(),
        events=written.events,
    )
    store.append(f"log-{written.low:012}", [event])
