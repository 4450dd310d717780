"""The checks of a verification: chains of streams, seals of ranges, the order of seals, heads of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Final

from events import head, removal, store
from events.integrity import seals, stored_rows
from events.integrity.report import END, Finding, VerificationReport
from events.integrity.seals import Seal
from events.integrity.sources import Link, Source
from events.integrity.stored_rows import StoredRow

STREAMS_KEPT: Final = 100_000  # last links in memory, when they can be looked up again

# -- rows against their chains ----------------------------------------------------------------------------------------


class Chains:
    """Follows every stream's chain through the rows, which are fed in the order of positions."""

    def __init__(self, report: VerificationReport, source: Source) -> None:
        self._report, self._source = report, source
        self._last: dict[str, Link] = {}
        self._headless: set[str] = set()
        self._position = 0

    def last(self, stream: str) -> Link | None:
        """The last version fed, if it is still in memory."""
        return self._last.get(stream)

    def feed(self, rows: Sequence[StoredRow]) -> None:
        self._recall(rows)
        for row in rows:
            self._check(row)
        self._report.events += len(rows)
        if self._source.can_look_up and len(self._last) > STREAMS_KEPT:
            for stream in list(self._last)[: len(self._last) - STREAMS_KEPT]:
                del self._last[stream]

    def _recall(self, rows: Sequence[StoredRow]) -> None:
        """Load the last links of streams that are not in memory; report streams without a head row."""
        unseen: dict[str, StoredRow] = {}
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
            self._add(row, "head", "its stream has no head row: the head was removed, or this row inserted")

    def _check(self, row: StoredRow) -> None:
        before = self._last.pop(row.stream, None)  # and added again at the end: the oldest are dropped first
        version = before.version if before else 0
        if row.position <= self._position:
            self._add(row, "version", f"comes after position {self._position}")
        self._position = max(self._position, row.position)
        if before is not None and row.version <= version:
            self._add(row, "version", f"comes after version {version}: moved, or inserted")
            self._last[row.stream] = before
            return
        if row.version > version + 1:
            self._missing(row, before)
        elif row.type == removal.REMOVED:
            self._check_removed(row, before)
        elif row.hash != row.link(before.hash if before else None):
            earlier = f" or the hash of version {version}" if before else ""
            self._add(row, "chain", f"altered: its contents, its hash{earlier} is not what was written")
        self._last[row.stream] = Link(row.version, row.hash, row.position)

    def _check_removed(self, row: StoredRow, before: Link | None) -> None:
        """A removed event is linked by the digest that was recorded before it was emptied."""
        digest = self._removals.get(row.position)
        if digest is None or not removal.is_empty(row):
            self._add(row, "chain", "emptied, but its removal is not recorded")
        elif row.hash != stored_rows.link(before.hash if before else None, digest):
            self._add(row, "chain", "removed, but the recorded digest does not fit its hash")
        self._report.removed += 1

    @cached_property
    def _removals(self) -> dict[int, bytes]:
        return self._source.removals()

    def _missing(self, row: StoredRow, before: Link | None) -> None:
        if before is None and self._source.starts_late(row.position):
            self._report.unlinked += 1
            return
        first = before.version + 1 if before else 1
        after = before.position if before else 0
        self._report.add(missing(row.stream, first, row.version - 1, after, row.position))

    def _add(self, row: StoredRow, check: str, message: str) -> None:
        self._report.add(of_row(row, check, message))


def of_row(row: StoredRow, check: str, message: str) -> Finding:
    return Finding(check=check, message=message, position=row.position, stream=row.stream, version=row.version)


def missing(stream: str, first: int, last: int, after: int, before: int = END) -> Finding:
    """The finding that versions `first` to `last` of a stream are gone, from between these positions."""
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


# -- rows against their seal ------------------------------------------------------------------------------------------


class SealCheck:
    """Compares the rows of one range with their seal; a sealed position may only be missing if `outside` says so."""

    def __init__(self, seal: Seal, report: VerificationReport, outside: Callable[[int], bool]) -> None:
        self._seal, self._report, self._outside = seal, report, outside
        self._built = seals.SealBuilder()
        self._expected = enumerate(seal.every_position())
        self._next = next(self._expected, None)
        self._partial, self._sound = False, True

    def feed(self, rows: Sequence[StoredRow]) -> None:
        for row in rows:
            leaf = row.leaf()
            self._built.add(row.position, leaf)
            self._skip_to(row.position)
            if self._next is None or self._next[1] != row.position:
                self._add(of_row(row, "seal", f"inserted: seal {self._seal.number} has no event here"))
            else:
                if self._seal.print_at(self._next[0]) != leaf[: seals.PRINT]:
                    self._add(of_row(row, "seal", f"altered since seal {self._seal.number} was made"))
                self._next = next(self._expected, None)

    def finish(self) -> bool:
        """Compute and compare the root; returns False when a row that it needs is not available."""
        self._skip_to(END)
        fits = (self._built.tree.size, self._built.tree.root()) == (self._seal.count, self._seal.root)
        if not fits and not self._partial and self._sound:
            message = f"the {self._built.tree.size} events do not have the root of seal {self._seal.number}"
            self._report.add(Finding(check="seals", message=message, position=self._seal.after + 1))
        return not self._partial

    def _skip_to(self, position: int) -> None:
        """Report the sealed positions below this one as missing."""
        while self._next is not None and self._next[1] < position:
            if self._outside(self._next[1]):
                self._partial = True
            else:
                number = self._seal.number
                self._add(
                    Finding(check="seal", message=f"missing: seal {number} holds an event", position=self._next[1])
                )
            self._next = next(self._expected, None)

    def _add(self, finding: Finding) -> None:
        self._sound = False
        self._report.add(finding)


# -- seals against each other -----------------------------------------------------------------------------------------


def chained(found: Iterable[Seal], report: VerificationReport, where: str, whole: bool) -> Iterator[Seal]:
    """Yield the seals, each checked to follow from the one before; a `whole` chain begins with number 1."""
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


def preferring_kept(stored: Iterator[Seal], kept: Iterable[Seal], report: VerificationReport) -> Iterator[Seal]:
    """Yield the seals kept elsewhere, compared with the database's, then the database's newer ones."""
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


# -- heads ------------------------------------------------------------------------------------------------------------

HEADS = """
select s.stream, s.version, s.hash, e.version, e.hash, e.position
  from (select * from events_stream where stream > %s collate "C" and (%s::text is null or stream = %s)
         order by stream limit 2000) s
  left join lateral (
    select e.version, e.hash, e.position from events_event e
     where e.stream = s.stream order by e.version desc limit 1) e on true
 order by s.stream
"""


def check_heads(report: VerificationReport, chains: Chains, absent: bool, stream: str | None = None) -> None:
    """Check that every stream ends at the version and hash that its head row names.

    Each page is one statement, so writers may continue. `chains` knows the ends of archived streams; `absent` is true
    when parts of the log cannot be read.
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
    message = None
    if last > version:
        message = f"beyond its stream's head, which is version {version}: inserted, or the head was set back"
    elif stored != link:
        message = "its hash is not that of its stream's head: one of the two was altered"
    if message is None:
        return None
    return Finding(check="head", message=message, position=position, stream=stream, version=last)


BEYOND = "select position, stream, version from events_event order by position desc limit 1"


def check_end(report: VerificationReport) -> None:
    """Check that no row lies beyond the last position drawn. Reads the row first: both only grow."""
    for position, stream, version in store.query(BEYOND):
        if position > (drawn := head.last()):
            message = f"inserted: the last position ever drawn is {drawn}"
            report.add(Finding(check="head", message=message, position=position, stream=stream, version=version))
