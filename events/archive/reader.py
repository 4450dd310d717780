"""Reads archived partitions of the log: files of JSON lines, read as if their events were still in the log.

A file holds the positions of one partition, `low` <= p < `high`, in blocks of BLOCK positions. Each is a gzip member:
`zcat` reads the whole file, and one block can be read alone. An index file says which streams are in which blocks.

    log-000000000001-000010000000.jsonl.gz   one event per line, as `seal_events --events` writes it (docs/integrity.md)
    log-000000000001-000010000000.index      "FEARCH1\\n", blocks: u32, offset of each and of the end: u64 …,
                                             then sorted pairs: first 8 bytes of the MD5 of a stream's name, block: u32

Archives are a prefix of the log: archived events are older than all others. `archive.writer` writes them,
`archive.restore` restores them.
"""

from __future__ import annotations

import gzip
import hashlib
import mmap
import struct
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import MAXYEAR, datetime, timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from django.conf import settings

from events import decoding, errors, store
from events.integrity import proofs, stored_rows
from events.integrity.stored_rows import StoredRow
from events.types import EPOCH_START, RecordedEvent, category_of

BLOCK: Final = 10_000  # positions
MAGIC: Final = b"FEARCH1\n"
PAIR: Final = struct.Struct(">8sI")


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `events_archive`: positions low <= p < high are in `file`, and only there once `gone` is true."""

    low: int
    high: int
    file: str
    sha256: bytes
    index_sha256: bytes
    bytes: int
    events: int
    gone: bool

    @property
    def path(self) -> Path:
        return folder() / self.file

    @property
    def index(self) -> Path:
        return index_of(self.path)


def folder() -> Path:
    return Path(settings.ARCHIVE_DIR)


def index_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".index")


LIST = """
select low, high, file, sha256, index_sha256, bytes, events, gone_at is not null from events_archive order by low
"""


def every() -> list[Archive]:
    """All archives, in the order of positions."""
    names = Archive.__struct_fields__
    return [Archive(**dict(zip(names, row, strict=True))) for row in store.query(LIST)]


def gone() -> list[Archive]:
    """The archives whose positions are no longer in the log."""
    return [archive for archive in every() if archive.gone]


def is_present(archive: Archive) -> bool:
    """True when both files of an archive exist and the larger one has its size."""
    return archive.index.is_file() and archive.path.is_file() and archive.path.stat().st_size == archive.bytes


# -- one file ---------------------------------------------------------------------------------------------------------


class Reader:
    """Reads one archive. Raises `Archived` when a file is missing or invalid."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        try:
            self._index = self._map(archive.index)
            archive.path.stat()
        except (OSError, ValueError) as error:
            raise errors.Archived(
                f"Positions {archive.low} to {archive.high - 1} are archived in {archive.file}, which cannot be read "
                f"({error}): bring it to {settings.ARCHIVE_DIR}."
            ) from error
        if self._index[: len(MAGIC)] != MAGIC:
            raise errors.Archived(f"{archive.index} is not the index of an archive.")
        (count,) = struct.unpack_from(">I", self._index, len(MAGIC))
        self._offsets: tuple[int, ...] = struct.unpack_from(f">{count + 1}Q", self._index, len(MAGIC) + 4)
        self._pairs = len(MAGIC) + 4 + 8 * (count + 1)
        self._count = (len(self._index) - self._pairs) // PAIR.size

    @staticmethod
    def _map(path: Path) -> mmap.mmap:
        with path.open("rb") as opened:
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)

    def block(self, number: int, containing: bytes = b"") -> list[StoredRow]:
        """The events of one block, in the order of positions: those whose lines contain these bytes."""
        begin, end = self._offsets[number : number + 2]
        try:
            with self.archive.path.open("rb") as data:
                data.seek(begin)
                lines = gzip.decompress(data.read(end - begin)).splitlines()
            return [_decode(line) for line in lines if containing in line]
        except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
            raise errors.Archived(
                f"{self.archive.file} was altered: block {number} cannot be read ({error})."
            ) from error

    def rows(self, after: int, upto: int) -> Iterator[list[StoredRow]]:
        """Events with positions in (after, upto], a block at a time."""
        low = self.archive.low
        first, last = max(after + 1, low) - low, min(upto, self.archive.high - 1) - low
        for number in range(first // BLOCK, last // BLOCK + 1 if last >= 0 else 0):
            found = [row for row in self.block(number) if after < row.position <= upto]
            if found:
                yield found

    def stream(self, stream: str, after: int, upto: int | None = None) -> Iterator[StoredRow]:
        """Events of one stream with versions in (after, upto], in order."""
        name = msgspec.json.encode(stream)  # most lines of a block are of other streams: they need no decoding
        for number in self._blocks_of(stream):
            for row in self.block(number, containing=name):
                if row.stream == stream and row.version > after and (upto is None or row.version <= upto):
                    yield row

    def streams(self, wanted: Collection[str]) -> Iterator[StoredRow]:
        """All events of several streams, in the order of positions; each block is read once."""
        for number in sorted({number for stream in wanted for number in self._blocks_of(stream)}):
            yield from (row for row in self.block(number) if row.stream in wanted)

    def _blocks_of(self, stream: str) -> list[int]:
        wanted, low, high = name_hash(stream), 0, self._count
        while low < high:  # binary search for the first pair that is not smaller
            middle = (low + high) // 2
            if self._pair(middle)[0] < wanted:
                low = middle + 1
            else:
                high = middle
        blocks = []
        while low < self._count and (pair := self._pair(low))[0] == wanted:
            blocks.append(pair[1])
            low += 1
        return blocks

    def _pair(self, number: int) -> tuple[bytes, int]:
        return PAIR.unpack_from(self._index, self._pairs + number * PAIR.size)

    def check(self) -> str | None:
        """Describes how the files differ from what was written; None when they do not differ."""
        for path, expected in (
            (self.archive.path, self.archive.sha256),
            (self.archive.index, self.archive.index_sha256),
        ):
            with path.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").digest() != expected:
                    return f"{path.name} is not what was written"
        return None


_decode: Callable[[bytes], StoredRow] = msgspec.json.Decoder(StoredRow).decode


def name_hash(stream: str) -> bytes:
    """The hash of a stream's name in the index."""
    return hashlib.md5(stream.encode(), usedforsecurity=False).digest()[:8]


@lru_cache(maxsize=16)
def reader(archive: Archive) -> Reader:
    """A cached reader with its index mapped into memory; a file never changes under its name and hash."""
    return Reader(archive)


# -- the whole log, archives included ---------------------------------------------------------------------------------


def rows(after: int, upto: int) -> Iterator[list[StoredRow]]:
    """Like `stored_rows.read`, for the whole log: from files first, then from the database."""
    for archive in gone():
        if archive.high - 1 > after and archive.low <= upto:
            yield from reader(archive).rows(after, upto)
            after = max(after, archive.high - 1)
    yield from stored_rows.read(after, upto)


def proof(position: int) -> proofs.Proof:
    """`proofs.prove` of any event, archived or not."""
    found = proofs.prove(position, rows)
    event = found.event
    if found.before is not None or event.version == 1:
        return found
    version = event.version - 1
    before = (row for archive in gone() for row in reader(archive).stream(event.stream, version - 1, version))
    return msgspec.structs.replace(found, before=next((row.hash for row in before), None))


def in_order(after: int, upto: int, wanted: Callable[[StoredRow], bool], limit: int) -> list[StoredRow]:
    """At most `limit` archived events in (after, upto] for which `wanted` is true."""
    found = (
        row
        for archive in gone()
        if archive.high - 1 > after and archive.low <= upto
        for block in reader(archive).rows(after, upto)
        for row in block
    )
    return list(islice(filter(wanted, found), limit))


def read_all(
    after: int,
    limit: int,
    *,
    upto: int,
    types: Sequence[str] | None = None,
    categories: Sequence[str] | None = None,
) -> list[RecordedEvent]:
    """Like `store.read_all`, for archived events only."""

    def wanted(row: StoredRow) -> bool:
        return (not types or row.type in types) and (not categories or category_of(row.stream) in categories)

    return events_of(in_order(after, upto, wanted, limit))


def read_stream(stream: str, after: int, upto: int | None) -> list[RecordedEvent]:
    """Archived events of a stream with version in (after, upto], in order."""
    return events_of([row for archive in gone() for row in reader(archive).stream(stream, after, upto)])


def read_streams(streams: Collection[str]) -> list[RecordedEvent]:
    """All archived events of several streams, in the order of positions."""
    wanted = frozenset(streams)
    return events_of([row for archive in gone() for row in reader(archive).streams(wanted)])


def instant(row: StoredRow) -> datetime | None:
    """The time when the event was recorded; None for a time outside Python's calendar, as in `decoding.INSTANT`."""
    try:
        moment = EPOCH_START + timedelta(microseconds=row.recorded_at)
    except OverflowError:
        return None
    return moment if 1 < moment.year < MAXYEAR else None


def events_of(rows: Sequence[StoredRow]) -> list[RecordedEvent]:
    """Archived rows as events. Data erased since is unreadable here too, because its key is deleted."""
    generation = decoding.generation() if rows else 0
    return decoding.events_of([_as_stored(row, generation) for row in rows])


def _as_stored(row: StoredRow, generation: int) -> tuple[Any, ...]:
    """An archived event as a row of `decoding.COLUMNS`."""
    return (
        row.position,
        row.stream,
        row.version,
        row.type,
        row.schema_version,
        row.data,
        uuid.UUID(row.event_id),
        instant(row),
        row.actor,
        row.reason,
        uuid.UUID(row.correlation_id) if row.correlation_id else None,
        uuid.UUID(row.causation_id) if row.causation_id else None,
        row.metadata,
        generation,
    )


def as_past() -> store.Past:
    """The functions that `store` calls to read archived events."""
    return store.Past(read_all=read_all, read_stream=read_stream, read_streams=read_streams)
