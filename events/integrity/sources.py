"""Sources of the rows to verify: the database with its archives, one archive, or an exported file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from events import errors, removal, store
from events.archive import reader as archives
from events.archive.reader import Archive
from events.integrity import export, stored_rows
from events.integrity.report import Finding, VerificationReport
from events.integrity.stored_rows import StoredRow


class Link(msgspec.Struct, frozen=True):
    """The last version seen of a stream: the end of its chain so far."""

    version: int
    hash: bytes
    position: int


class Source(Protocol):
    """A source of rows to verify."""

    can_look_up: bool  # `before` answers, so the checks need not keep the last link of every stream

    def rows(self, after: int, upto: int) -> Iterable[Sequence[StoredRow]]: ...
    def before(self, wanted: Mapping[str, int], position: int) -> dict[str, Link]: ...
    def headless(self, streams: Sequence[str]) -> set[str]: ...
    def outside(self, position: int) -> bool: ...
    def starts_late(self, position: int) -> bool: ...
    def removals(self) -> dict[int, bytes]: ...
    def decode(self, rows: Sequence[StoredRow]) -> None: ...


BEFORE = """
select w.stream, e.version, e.hash, e.position from unnest(%s::text[], %s::bigint[]) as w(stream, version)
 cross join lateral (
    select e.version, e.hash, e.position from events_event e
     where e.stream = w.stream collate "C" and e.version <= w.version and e.position < %s
     order by e.version desc limit 1) e
"""

HEADLESS = """
select w.stream from unnest(%s::text[]) as w(stream)
 where not exists (select 1 from events_stream s where s.stream = w.stream collate "C")
"""

PARTITIONS = """
select (b.bound)[1]::bigint, (b.bound)[2]::bigint from pg_inherits i join pg_class c on c.oid = i.inhrelid,
       regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''(\\d+)''\\) TO \\(''(\\d+)''\\)') as b(bound)
 where i.inhparent = 'events_event'::regclass order by 1
"""


class Database:
    """The rows of this database and its archives with positions in (after, upto]."""

    def __init__(self, after: int, upto: int, report: VerificationReport) -> None:
        self._after, self._upto, self._report = after, upto, report
        self._archives = [found for found in archives.gone() if found.high - 1 > after and found.low <= upto]
        readable = [(found.low, found.high) for found in self._archives if self._readable(found)]
        partitions = sorted([*readable, *((low, high) for low, high in store.query(PARTITIONS))])
        self.absent = list(_uncovered(partitions, upto))
        self._begins_archived = bool(archives.gone()) and after > 0
        self.can_look_up = not readable  # `before` queries the database only

    def _readable(self, archive: Archive) -> bool:
        try:
            wrong = archives.Reader(archive).check()
        except (errors.Archived, OSError):
            return False
        if wrong:
            self._report.add(Finding(check="archive", message=wrong, position=archive.low))
        return True

    def rows(self, after: int, upto: int) -> Iterable[Sequence[StoredRow]]:
        for archive in self._archives:
            if archive.high - 1 > after and archive.low <= upto:
                yield from self._archived(archive, after, upto)
        yield from stored_rows.read(after, upto)

    def _archived(self, archive: Archive, after: int, upto: int) -> Iterable[Sequence[StoredRow]]:
        """The rows of an archive up to the first unreadable block; the rest counts as absent."""
        reached = max(after, archive.low - 1)
        try:
            for rows in archives.Reader(archive).rows(after, upto):
                yield rows
                reached = rows[-1].position
        except errors.Archived as error:
            lost = (reached + 1, archive.high - 1)
            if not any(low <= lost[0] <= high for low, high in self.absent):
                self._report.add(Finding(check="archive", message=error.message, position=lost[0]))
                self.absent.append(lost)

    def before(self, wanted: Mapping[str, int], position: int) -> dict[str, Link]:
        found = store.query(BEFORE, (list(wanted), list(wanted.values()), position))
        return {stream: Link(*values) for stream, *values in found}

    def headless(self, streams: Sequence[str]) -> set[str]:
        return {stream for (stream,) in store.query(HEADLESS, (list(streams),))}

    def outside(self, position: int) -> bool:
        absent = any(low <= position <= high for low, high in self.absent)
        return absent or not self._after < position <= self._upto

    def starts_late(self, position: int) -> bool:
        return self._begins_archived or any(low < position for low, _ in self.absent)

    def removals(self) -> dict[int, bytes]:
        return removal.recorded_digests()

    def decode(self, rows: Sequence[StoredRow]) -> None:
        self._report.decode(rows)


class OneArchive(Database):
    """The rows of one archive, also while they are still in the log."""

    def __init__(self, archive: Archive, report: VerificationReport) -> None:
        super().__init__(archive.low - 1, archive.high - 1, report)
        self._archives = [archive]
        self.absent, self.can_look_up, self._begins_archived = [], False, archive.low > 1

    def rows(self, after: int, upto: int) -> Iterable[Sequence[StoredRow]]:
        return self._archived(self._archives[0], after, upto)


def _uncovered(partitions: Sequence[tuple[int, ...]], upto: int) -> Iterator[tuple[int, int]]:
    """Ranges of positions, both ends included, that no partition and no archive holds."""
    position = 1
    for low, high in partitions:
        if position < low and position <= upto:
            yield position, min(low - 1, upto)
        position = max(position, high)
    if position <= upto:
        yield position, upto


class File:
    """The rows of an exported file, which must hold all positions in (after, upto]."""

    can_look_up = False

    def __init__(self, path: Path, after: int, upto: int) -> None:
        self._path = path
        self._lines: Iterator[StoredRow] = export.read_lines(path, StoredRow)
        self._next: StoredRow | None = None
        self._after, self._upto = after, upto
        while (row := self._take()) is not None and row.position <= after:
            pass
        self._next = row

    def _take(self) -> StoredRow | None:
        row, self._next = self._next, None
        return row if row is not None else next(self._lines, None)

    def rows(self, after: int, upto: int) -> Iterable[Sequence[StoredRow]]:
        chunk: list[StoredRow] = []
        while (row := self._take()) is not None and row.position <= upto:
            chunk.append(row)
            if len(chunk) == stored_rows.CHUNK:
                yield chunk
                chunk = []
        self._next = row
        if chunk:
            yield chunk

    def before(self, wanted: Mapping[str, int], position: int) -> dict[str, Link]:
        return {}

    def headless(self, streams: Sequence[str]) -> set[str]:
        return set()

    def outside(self, position: int) -> bool:
        return not self._after < position <= self._upto

    def starts_late(self, position: int) -> bool:
        return self._after > 0

    def removals(self) -> dict[int, bytes]:
        """The digests of removed events. Reads the file a second time: a removal is recorded after its event."""
        return removal.digests(export.read_lines(self._path, StoredRow))

    def decode(self, rows: Sequence[StoredRow]) -> None:
        """Does nothing: decoding needs the keys of personal data, which a file does not have."""
