"""Is the log what was written? Reads every row again, follows every chain, builds every sealed tree again.

    rows, in the order of positions, in chunks
      -> Chains      each version follows from the one before it (hash, version, position)
      -> SealCheck   each sealed range holds what its seal says, row by row
    seals            each follows from the one before; those kept elsewhere outrank those of the database
    heads            each stream ends where its head row says

The same code checks a database and files. Memory is bounded but for files, where one link a stream is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from events import errors, head, partitions, removal, store, types
from events.archive import reader as archives
from events.archive.reader import Archive
from events.integrity import seals
from events.integrity.seals import Row, Seal

KEPT: Final = 1_000  # findings in memory; the others are counted
STREAMS_KEPT: Final = 100_000  # last links in memory, when they can be looked up again
READ_TOGETHER: Final = 500  # events in memory as their readers see them
END: Final = (1 << 63) - 1

Progress = Callable[[int], None]


# -- what was found -------------------------------------------------------------------------------------------------


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is not as it was written. `check` says who noticed:

    chain    the row's contents, its hash or the hash before it is another
    version  a version is missing, or stands where it cannot
    seal     the row is not the one that was sealed here: altered, missing or inserted
    head     the stream does not end where its head says, or the log not where its sequence does
    seals    a seal was altered, removed or replaced
    archive  the file of an archived part is not what was written
    absent   no partition holds these positions, and no archive that can be read
    """

    check: str
    message: str
    position: int | None = None
    stream: str | None = None
    version: int | None = None
    after: int = 0
    before: int = END
    versions: int = 1

    @property
    def order(self) -> tuple[int, bool]:
        """By position; what is missing comes where that is noticed, and rows come before seals."""
        noticed = self.before if self.before < END else self.after + 1
        return (noticed if self.position is None else self.position), self.stream is None or self.position is None

    def __str__(self) -> str:
        where = f"position {self.position}" if self.position is not None else f"after position {self.after}"
        record = f", {self.stream} version {self.version}" if self.stream else ""
        return f"{where}{record}, {self.check}: {self.message}"


class Unread(msgspec.Struct, frozen=True):
    """An event that this release cannot read: where it is, and why (a code of `types.UNREADABLE`)."""

    position: int
    stream: str
    version: int
    why: str

    def __str__(self) -> str:
        return f"position {self.position}, {self.stream} version {self.version}: {types.UNREADABLE.get(self.why)}"


class Report:
    """What was looked at, and the findings with the lowest positions."""

    def __init__(self) -> None:
        self.events = self.streams = self.seals = self.total = 0
        self.head = self.sealed_upto = self.unsealed = 0
        self.unlinked = self.partial = self.removed = 0
        self.absent: list[tuple[int, int]] = []
        self.unreadable = 0
        self.unread: list[Unread] = []
        self._found: dict[tuple[Any, ...], Finding] = {}

    @property
    def ok(self) -> bool:
        """Is the log what was written? Events that cannot be read may be just that."""
        return not self.total

    def read(self, rows: Sequence[Row]) -> None:
        """Note the events that this release cannot read."""
        for start in range(0, len(rows), READ_TOGETHER):
            for event in archives.events_of(rows[start : start + READ_TOGETHER]):
                if event.unreadable:
                    self.unreadable += 1
                    if len(self.unread) < KEPT:
                        self.unread.append(Unread(event.position, event.stream, event.version, event.unreadable))

    def add(self, finding: Finding) -> None:
        """Note a finding; what an earlier check said of the same row stands."""
        row = (finding.position, finding.stream is None and finding.check, finding.stream, finding.version)
        if row in self._found:
            return
        self._found[row] = finding
        self.total += 1
        if len(self._found) > 2 * KEPT:
            kept = sorted(self._found.items(), key=lambda item: item[1].order)[:KEPT]
            self._found = dict(kept)

    def findings(self) -> list[Finding]:
        """In the order of positions, the first first."""
        return sorted(self._found.values(), key=lambda finding: finding.order)

    def settle(self) -> None:
        """Put names to rows that are gone: a seal knows the position, the chain the version, of the same row."""
        lost = [key for key, found in self._found.items() if found.check == "seal" and found.stream is None]
        for key, gap in list(self._found.items()):
            if gap.stream is None or gap.position is not None:
                continue
            within = [
                at for at in lost if at in self._found and gap.after < (self._found[at].position or 0) < gap.before
            ]
            if len(within) != gap.versions:
                continue
            self._found[key] = msgspec.structs.replace(gap, position=self._found[within[0]].position)
            for at in within:
                del self._found[at]
            self.total -= len(within)

    def to_dict(self) -> dict[str, Any]:
        found = self.findings()
        return {
            "ok": self.ok,
            "events": self.events,
            "head": self.head,
            "seals": self.seals,
            "sealed_upto": self.sealed_upto,
            "unsealed": self.unsealed,
            "unlinked": self.unlinked,
            "removed": self.removed,
            "seals_in_part": self.partial,
            "absent": self.absent,
            "unreadable": self.unreadable,
            "unreadable_events": [msgspec.to_builtins(event) for event in self.unread[:100]],
            "total": self.total,
            "first": str(found[0]) if found else None,
            "findings": [msgspec.to_builtins(finding) for finding in found[:100]],
        }


# -- where rows come from -------------------------------------------------------------------------------------------


class Link(msgspec.Struct, frozen=True):
    """The last version seen of a stream."""

    version: int
    hash: bytes
    position: int


class Source(Protocol):
    """The database, or a file."""

    forgets: bool  # can `before` be asked, so that not every stream need be remembered?

    def rows(self, after: int, upto: int) -> Iterable[Sequence[Row]]: ...
    def before(self, wanted: Mapping[str, int], position: int) -> dict[str, Link]: ...
    def headless(self, streams: Sequence[str]) -> set[str]: ...
    def outside(self, position: int) -> bool: ...
    def starts_late(self, position: int) -> bool: ...
    def removals(self) -> dict[int, bytes]: ...
    def read(self, rows: Sequence[Row]) -> None: ...


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

PARTITIONS = f"select low, high from ({partitions.BOUNDS}) p order by low"  # noqa: S608 - a constant


class Database:
    """The rows of this database and of its archives, positions in (after, upto]."""

    def __init__(self, after: int, upto: int, report: Report) -> None:
        self._after, self._upto, self._report = after, upto, report
        self._archives = [found for found in archives.gone() if found.high - 1 > after and found.low <= upto]
        held = [(found.low, found.high) for found in self._archives if self._readable(found)]
        bounds = sorted([*held, *((low, high) for low, high in store.query(PARTITIONS))])
        self.absent = list(_uncovered(bounds, upto))
        self._begins_archived = bool(archives.gone()) and after > 0
        self.forgets = not held  # `before` asks the database only

    def _readable(self, archive: Archive) -> bool:
        try:
            wrong = archives.Reader(archive).check()
        except (errors.Archived, OSError):
            return False
        if wrong:
            self._report.add(Finding(check="archive", message=wrong, position=archive.low))
        return True

    def rows(self, after: int, upto: int) -> Iterable[Sequence[Row]]:
        for archive in self._archives:
            if archive.high - 1 > after and archive.low <= upto:
                yield from self._archived(archive, after, upto)
        yield from seals.rows(after, upto)

    def _archived(self, archive: Archive, after: int, upto: int) -> Iterable[Sequence[Row]]:
        """What can be read of it; the rest counts as absent."""
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

    def read(self, rows: Sequence[Row]) -> None:
        """Each row as its readers read it."""
        self._report.read(rows)


class OneArchive(Database):
    """The rows of one archive, whether they are still in the log or not."""

    def __init__(self, archive: Archive, report: Report) -> None:
        super().__init__(archive.low - 1, archive.high - 1, report)
        self._archives = [archive]
        self.absent, self.forgets, self._begins_archived = [], False, archive.low > 1

    def rows(self, after: int, upto: int) -> Iterable[Sequence[Row]]:
        return self._archived(self._archives[0], after, upto)


def _uncovered(bounds: Sequence[tuple[int, ...]], upto: int) -> Iterator[tuple[int, int]]:
    """Ranges of positions, both ends included, that no partition holds."""
    position = 1
    for low, high in bounds:
        if position < low and position <= upto:
            yield position, min(low - 1, upto)
        position = max(position, high)
    if position <= upto:
        yield position, upto


class File:
    """The rows of an export, which holds all positions in (after, upto]."""

    forgets = False

    def __init__(self, path: Path, after: int, upto: int) -> None:
        self._path = path
        self._lines: Iterator[Row] = seals.read_lines(path, Row)
        self._next: Row | None = None
        self._after, self._upto = after, upto
        while (row := self._take()) is not None and row.position <= after:
            pass
        self._next = row

    def _take(self) -> Row | None:
        row, self._next = self._next, None
        return row if row is not None else next(self._lines, None)

    def rows(self, after: int, upto: int) -> Iterable[Sequence[Row]]:
        chunk: list[Row] = []
        while (row := self._take()) is not None and row.position <= upto:
            chunk.append(row)
            if len(chunk) == seals.CHUNK:
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
        """Written down later than what was removed, so the file is read once more."""
        return removal.digests(seals.read_lines(self._path, Row))

    def read(self, rows: Sequence[Row]) -> None:
        """Not without the keys of personal data, which a file does not have."""


# -- the checks -----------------------------------------------------------------------------------------------------


class Chains:
    """Follows every stream's chain as its rows come by in the order of positions."""

    def __init__(self, report: Report, source: Source) -> None:
        self._report, self._source = report, source
        self._last: dict[str, Link] = {}
        self._headless: set[str] = set()
        self._position = 0

    def last(self, stream: str) -> Link | None:
        """The last version that came by, of those still in memory."""
        return self._last.get(stream)

    def feed(self, rows: Sequence[Row]) -> None:
        self._recall(rows)
        for row in rows:
            self._check(row)
        self._report.events += len(rows)
        if self._source.forgets and len(self._last) > STREAMS_KEPT:
            for stream in list(self._last)[: len(self._last) - STREAMS_KEPT]:
                del self._last[stream]

    def _recall(self, rows: Sequence[Row]) -> None:
        """The last links of streams not in memory, and whether these streams have a head at all."""
        unseen: dict[str, Row] = {}
        for row in rows:
            if row.stream not in self._last:
                unseen.setdefault(row.stream, row)
        if not unseen:
            return
        wanted = {stream: row.version for stream, row in unseen.items()}
        self._last |= self._source.before(wanted, rows[0].position)
        for stream in self._source.headless(list(unseen)) - self._headless:
            self._headless.add(stream)
            row = unseen[stream]
            self._say(row, "head", "its stream has no head row: that was removed, or this was inserted")

    def _check(self, row: Row) -> None:
        before = self._last.pop(row.stream, None)  # and put back at the end: the oldest are forgotten first
        version = before.version if before else 0
        if row.position <= self._position:
            self._say(row, "version", f"stands after position {self._position}")
        self._position = max(self._position, row.position)
        if before is not None and row.version <= version:
            self._say(row, "version", f"stands after version {version}: moved, or inserted")
            self._last[row.stream] = before
            return
        if row.version > version + 1:
            self._missing(row, before)
        elif row.type == removal.REMOVED:
            self._check_removed(row, before)
        elif row.hash != row.link(before.hash if before else None):
            earlier = f" or the hash of version {version}" if before else ""
            self._say(row, "chain", f"altered: its contents, its hash{earlier} is not what was written")
        self._last[row.stream] = Link(row.version, row.hash, row.position)

    def _check_removed(self, row: Row, before: Link | None) -> None:
        """An emptied event is linked by the digest that was written down before it was emptied."""
        digest = self._removals.get(row.position)
        if digest is None or not removal.is_empty(row):
            self._say(row, "chain", "emptied, but its removal was not written down")
        elif row.hash != seals.link(before.hash if before else None, digest):
            self._say(row, "chain", "removed, but what was written down of it does not fit its hash")
        self._report.removed += 1

    @cached_property
    def _removals(self) -> dict[int, bytes]:
        return self._source.removals()

    def _missing(self, row: Row, before: Link | None) -> None:
        if before is None and self._source.starts_late(row.position):
            self._report.unlinked += 1
            return
        first = before.version + 1 if before else 1
        after = before.position if before else 0
        self._report.add(missing(row.stream, first, row.version - 1, after, row.position))

    def _say(self, row: Row, check: str, message: str) -> None:
        self._report.add(of_row(row, check, message))


def of_row(row: Row, check: str, message: str) -> Finding:
    return Finding(check=check, message=message, position=row.position, stream=row.stream, version=row.version)


def missing(stream: str, first: int, last: int, after: int, before: int = END) -> Finding:
    """Versions `first` to `last` of a stream are gone, from between these positions."""
    count = last - first + 1
    what = "missing: removed" if count == 1 else f"missing with the versions up to {last}: removed"
    until = f"before position {before}" if before < END else "at the end of the stream"
    return Finding(
        check="version",
        message=f"{what} {until}",
        stream=stream,
        version=first,
        after=after,
        before=before,
        versions=count,
    )


class SealCheck:
    """Holds the rows of one sealed range against their seal. What is not in it must be explained by `outside`."""

    def __init__(self, seal: Seal, report: Report, outside: Callable[[int], bool]) -> None:
        self._seal, self._report, self._outside = seal, report, outside
        self._built = seals.Builder()
        self._expected = enumerate(seal.every_position())
        self._next = next(self._expected, None)
        self._partial, self._sound = False, True

    def feed(self, rows: Sequence[Row]) -> None:
        for row in rows:
            leaf = row.leaf()
            self._built.add(row.position, leaf)
            self._skip_to(row.position)
            if self._next is None or self._next[1] != row.position:
                self._say(of_row(row, "seal", f"inserted: seal {self._seal.number} has no event here"))
            else:
                if self._seal.print_at(self._next[0]) != leaf[: seals.PRINT]:
                    self._say(of_row(row, "seal", f"altered since seal {self._seal.number} was made"))
                self._next = next(self._expected, None)

    def finish(self) -> bool:
        """The root, at last; False when it could not be built because not all rows are here."""
        self._skip_to(END)
        fits = (self._built.tree.size, self._built.tree.root()) == (self._seal.count, self._seal.root)
        if not fits and not self._partial and self._sound:
            message = f"the {self._built.tree.size} events do not have the root of seal {self._seal.number}"
            self._report.add(Finding(check="seals", message=message, position=self._seal.after + 1))
        return not self._partial

    def _skip_to(self, position: int) -> None:
        """Sealed positions below this one are gone."""
        while self._next is not None and self._next[1] < position:
            if self._outside(self._next[1]):
                self._partial = True
            else:
                number = self._seal.number
                self._say(
                    Finding(check="seal", message=f"missing: seal {number} holds an event", position=self._next[1])
                )
            self._next = next(self._expected, None)

    def _say(self, finding: Finding) -> None:
        self._sound = False
        self._report.add(finding)


def chained(found: Iterable[Seal], report: Report, where: str, whole: bool) -> Iterator[Seal]:
    """Pass seals on, each checked to follow from the one before; a `whole` chain begins with number 1."""
    before = Seal(0, "", 0, 0, 0, 0, b"", b"", "", b"", seals.NOTHING_BEFORE) if whole else None
    for seal in found:
        wrong = None
        if seal.hash != seal.computed_hash():
            wrong = f"seal {seal.number} {where} was altered: its hash does not fit"
        elif before is not None and seal.number != before.number + 1:
            wrong = f"seal {before.number + 1} {where} is missing"
        elif before is not None and (seal.previous, seal.after) != (before.hash, before.upto):
            wrong = f"seal {seal.number} {where} does not follow from the one before"
        if wrong:
            report.add(Finding(check="seals", message=wrong, position=seal.after + 1))
        before = seal
        yield seal


def outranked(stored: Iterator[Seal], kept: Iterable[Seal], report: Report) -> Iterator[Seal]:
    """Seals kept elsewhere instead of the database's, which must be the same; then the newer ones of the latter."""
    own = next(stored, None)
    for seal in kept:
        while own is not None and own.number < seal.number:
            yield own
            own = next(stored, None)
        wrong = None
        if own is None or own.number > seal.number:
            wrong = f"seal {seal.number} is not in the database any more"
        else:
            wrong = (
                None if own.hash == seal.hash else f"seal {seal.number} in the database is not the one kept elsewhere"
            )
            own = next(stored, None)
        if wrong:
            report.add(Finding(check="seals", message=wrong, position=seal.after + 1))
        yield seal
    yield from chain([own] if own is not None else [], stored)


# -- the pass over everything ---------------------------------------------------------------------------------------


def check(report: Report, source: Source, sealed: Iterable[Seal], after: int, upto: int, progress: Progress) -> Chains:
    """Rows in (after, upto] against their chains and these seals, seal by seal."""
    chains, reached = Chains(report, source), after
    for seal in sealed:
        if seal.upto <= reached or seal.after >= upto:
            continue
        reached = _unsealed(report, source, chains, reached, seal.after, progress)
        start = reached
        held = SealCheck(seal, report, partial(_not_here, source, start))
        reached = min(seal.upto, upto)
        for rows in source.rows(start, reached):
            chains.feed(rows)
            source.read(rows)
            held.feed(rows)
            progress(rows[-1].position)
        if held.finish():
            report.seals += 1
        else:
            report.partial += 1
        report.sealed_upto = reached
    _unsealed(report, source, chains, reached, upto, progress)
    return chains


def _not_here(source: Source, start: int, position: int) -> bool:
    return position <= start or source.outside(position)


def _unsealed(report: Report, source: Source, chains: Chains, after: int, upto: int, progress: Progress) -> int:
    """Rows that no seal covers, by their chains alone; returns how far that went."""
    if after >= upto:
        return after
    for rows in source.rows(after, upto):
        chains.feed(rows)
        source.read(rows)
        report.unsealed += len(rows)
        progress(rows[-1].position)
    return upto


HEADS = """
select s.stream, s.version, s.hash, e.version, e.hash, e.position
  from (select * from events_stream where stream > %s collate "C" and (%s::text is null or stream = %s)
         order by stream limit 2000) s
  left join lateral (
    select e.version, e.hash, e.position from events_event e
     where e.stream = s.stream order by e.version desc limit 1) e on true
 order by s.stream
"""


def check_heads(report: Report, chains: Chains, absent: bool, stream: str | None = None) -> None:
    """Every stream ends at the version and the link that its head row names. One snapshot a page: writers may go on.

    `chains` knows the ends of streams that are archived; `absent` says that some parts of the log are not to be had.
    """
    after = ""
    while found := store.query(HEADS, (after, stream, stream)):
        after = found[-1][0]
        report.streams += len(found)
        for row in found:
            end = chains.last(row[0]) if row[3] is None else None
            known = row if end is None else (*row[:3], end.version, end.hash, end.position)
            finding = _head(known, absent)
            if finding is not None:
                report.add(finding)


def _head(row: Sequence[Any], absent: bool) -> Finding | None:
    stream, version, link, last, stored, position = row
    if last is None:
        return None if absent else missing(stream, 1, version, 0)
    if last < version:
        return missing(stream, last + 1, version, position)
    said = None
    if last > version:
        said = f"beyond its stream's head, which is version {version}: inserted, or the head was set back"
    elif stored != link:
        said = "its hash is not that of its stream's head: one of the two was altered"
    if said is None:
        return None
    return Finding(check="head", message=said, position=position, stream=stream, version=last)


BEYOND = "select position, stream, version from events_event order by position desc limit 1"


def check_end(report: Report) -> None:
    """Nothing lies beyond the last position drawn. The row first, then the sequence: both only grow."""
    for position, stream, version in store.query(BEYOND):
        if position > (drawn := head.last()):
            message = f"inserted: the last position ever drawn is {drawn}"
            report.add(Finding(check="head", message=message, position=position, stream=stream, version=version))


# -- front doors ----------------------------------------------------------------------------------------------------

FIRST_SEAL = "select coalesce(max(number), 0) from events_seal where upto <= %s"


def nothing(_: int) -> None:
    """No progress to show."""


def verify(
    after: int = 0,
    upto: int | None = None,
    *,
    kept: Path | None = None,
    archived: bool = False,
    progress: Progress = nothing,
) -> Report:
    """Check the database: positions in (after, upto], and all heads when that is everything.

    `kept` is a file of seals from elsewhere, which outrank those in the database. `archived` says that ranges which no
    partition holds are away on purpose.
    """
    report, whole = Report(), after == 0 and upto is None
    report.head = head.safe()
    upto = report.head if upto is None else min(upto, report.head)
    source = Database(after, upto, report)
    stored = seals.every_seal(store.query(FIRST_SEAL, (after,))[0][0])
    sealed = chained(stored, report, "in the database", whole=after == 0)
    if kept is not None:
        elsewhere = (seal for seal in seals.read_lines(kept, Seal) if seal.upto > after)
        sealed = outranked(sealed, chained(elsewhere, report, f"in {kept.name}", whole=False), report)
    chains = check(report, source, sealed, after, upto, progress)
    report.absent = sorted(found for found in source.absent if found[1] > after)
    if whole:
        check_heads(report, chains, absent=bool(source.absent))
        check_end(report)
    for low, high in report.absent if not archived else []:
        message = f"no partition holds the positions {low} to {high}, and no archive that can be read"
        report.add(Finding(check="absent", message=message, position=low))
    report.settle()
    return report


def verify_archive(archive: Archive, *, progress: Progress = nothing) -> Report:
    """Check one archive as it is read: its rows against chains and the seals of this database."""
    report = Report()
    report.head = head.safe()
    source, after, upto = OneArchive(archive, report), archive.low - 1, archive.high - 1
    stored = seals.every_seal(store.query(FIRST_SEAL, (after,))[0][0])
    check(report, source, chained(stored, report, "in the database", whole=after == 0), after, upto, progress)
    report.settle()
    return report


def verify_files(
    events: Path, kept: Path, after: int = 0, upto: int | None = None, *, progress: Progress = nothing
) -> Report:
    """Check an export of events against an export of seals; no database is asked. The file must hold every position
    in (after, upto], without `upto` everything that is sealed."""
    report = Report()
    source = File(events, after, END if upto is None else upto)
    sealed = chained(seals.read_lines(kept, Seal), report, f"in {kept.name}", whole=False)
    check(report, source, sealed, after, END if upto is None else upto, progress)
    report.settle()
    return report


STREAM_ROWS = f"""
select {seals.COLUMNS} from events_event where stream = %s and version > %s order by version limit %s
"""  # noqa: S608


def verify_stream(stream: str) -> Report:
    """Check one stream: its chain, its head, and each sealed row's print. Raises `StreamNotFound`."""
    report = Report()
    report.head = head.safe()
    source = Database(0, report.head, report)
    chains, seal = Chains(report, source), None
    for rows in _stream_rows(stream):
        chains.feed(rows)
        source.read(rows)
        for row in rows:
            if seal is None or not seal.after < row.position <= seal.upto:
                seal = seals.seal_of(row.position)
            _check_print(report, row, seal)
    check_heads(report, chains, absent=bool(source.absent), stream=stream)
    if not report.events and not report.streams:
        raise errors.StreamNotFound(f"There is no stream {stream}.")
    report.settle()
    return report


def _stream_rows(stream: str) -> Iterator[list[Row]]:
    """All of a stream, archived parts first, in chunks."""
    after = 0
    for archive in archives.gone():
        if rows := list(archives.reader(archive).stream(stream, after)):
            yield rows
            after = rows[-1].version
    while rows := [Row(*values) for values in store.query(STREAM_ROWS, (stream, after, seals.CHUNK))]:
        yield rows
        after = rows[-1].version


def _check_print(report: Report, row: Row, seal: Seal | None) -> None:
    if seal is None:
        report.unsealed += 1
        return
    report.sealed_upto = max(report.sealed_upto, row.position)
    rank = seal.rank(row.position)
    if seal.hash != seal.computed_hash():
        report.add(Finding(check="seals", message=f"seal {seal.number} was altered", position=seal.after + 1))
    elif rank is None:
        report.add(of_row(row, "seal", f"inserted: seal {seal.number} has no event here"))
    elif seal.print_at(rank) != row.leaf()[: seals.PRINT]:
        report.add(of_row(row, "seal", f"altered since seal {seal.number} was made"))
