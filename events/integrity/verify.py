"""Verify that the log is unchanged: read every row, follow every chain, rebuild every sealed tree.

    rows, in the order of positions, in chunks (`sources`)
      -> Chains      each version follows from the one before it (hash, version, position)
      -> SealCheck   each sealed range holds the rows that its seal covers, row by row
    seals            each follows from the one before; seals kept elsewhere take precedence over those of the database
    heads            each stream ends where its head row says

The same code checks a database and files (`checks`, `report`). Memory is bounded except for files and archives, where
one link is kept per stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from events import errors, head, store
from events.archive import reader as archives
from events.archive.reader import Archive
from events.integrity import export, seals, stored_rows
from events.integrity.checks import Chains, SealCheck, chained, check_end, check_heads, of_row, preferring_kept
from events.integrity.report import END, Finding, VerificationReport
from events.integrity.seals import Seal
from events.integrity.sources import Database, File, OneArchive, Source
from events.integrity.stored_rows import StoredRow

Progress = Callable[[int], None]

FIRST_SEAL = "select coalesce(max(number), 0) from events_seal where upto <= %s"


def ignore_progress(_: int) -> None:
    """Do nothing: the default of `progress`."""


def verify(
    after: int = 0,
    upto: int | None = None,
    *,
    kept: Path | None = None,
    archived: bool = False,
    progress: Progress = ignore_progress,
) -> VerificationReport:
    """Verify the database: positions in (after, upto]; also all heads when that is the whole log.

    `kept` is a file of seals kept elsewhere, which take precedence over those in the database. `archived` says that
    positions which no partition holds were archived on purpose.
    """
    report, whole = VerificationReport(), after == 0 and upto is None
    report.head = head.safe()
    upto = report.head if upto is None else min(upto, report.head)
    source = Database(after, upto, report)
    stored = seals.every_seal(store.query(FIRST_SEAL, (after,))[0][0])
    sealed = chained(stored, report, "in the database", whole=after == 0)
    if kept is not None:
        elsewhere = (seal for seal in export.read_lines(kept, Seal) if seal.upto > after)
        sealed = preferring_kept(sealed, chained(elsewhere, report, f"in {kept.name}", whole=False), report)
    chains = check(report, source, sealed, after, upto, progress)
    report.absent = sorted(found for found in source.absent if found[1] > after)
    if whole:
        check_heads(report, chains, absent=bool(source.absent))
        check_end(report)
    for low, high in report.absent if not archived else []:
        message = f"no partition holds the positions {low} to {high}, and no archive that can be read"
        report.add(Finding(check="absent", message=message, position=low))
    report.merge_missing()
    return report


def verify_archive(archive: Archive, *, progress: Progress = ignore_progress) -> VerificationReport:
    """Verify one archive file against the chains and the seals of this database."""
    report = VerificationReport()
    report.head = head.safe()
    source, after, upto = OneArchive(archive, report), archive.low - 1, archive.high - 1
    stored = seals.every_seal(store.query(FIRST_SEAL, (after,))[0][0])
    check(report, source, chained(stored, report, "in the database", whole=after == 0), after, upto, progress)
    report.merge_missing()
    return report


def verify_files(
    events: Path, kept: Path, after: int = 0, upto: int | None = None, *, progress: Progress = ignore_progress
) -> VerificationReport:
    """Verify an export of events against an export of seals, without a database.

    The file must hold every position in (after, upto]; without `upto`, every sealed position.
    """
    report = VerificationReport()
    source = File(events, after, END if upto is None else upto)
    sealed = chained(export.read_lines(kept, Seal), report, f"in {kept.name}", whole=False)
    check(report, source, sealed, after, END if upto is None else upto, progress)
    report.merge_missing()
    return report


# -- one stream -------------------------------------------------------------------------------------------------------

STREAM_ROWS = f"""
select {stored_rows.COLUMNS} from events_event where stream = %s and version > %s order by version limit %s
"""  # noqa: S608


def verify_stream(stream: str) -> VerificationReport:
    """Verify one stream: its chain, its head, and each sealed row's print. Raises `StreamNotFound`."""
    report = VerificationReport()
    report.head = head.safe()
    source = Database(0, report.head, report)
    chains, seal = Chains(report, source), None
    for rows in _stream_rows(stream):
        chains.feed(rows)
        source.decode(rows)
        for row in rows:
            if seal is None or not seal.after < row.position <= seal.upto:
                seal = seals.seal_of(row.position)
            _check_print(report, row, seal)
    check_heads(report, chains, absent=bool(source.absent), stream=stream)
    if not report.events and not report.streams:
        raise errors.StreamNotFound(f"There is no stream {stream}.")
    report.merge_missing()
    return report


def _stream_rows(stream: str) -> Iterator[list[StoredRow]]:
    """All rows of a stream, archived ones first, in chunks."""
    after = 0
    for archive in archives.gone():
        if rows := list(archives.reader(archive).stream(stream, after)):
            yield rows
            after = rows[-1].version
    while rows := [StoredRow(*values) for values in store.query(STREAM_ROWS, (stream, after, stored_rows.CHUNK))]:
        yield rows
        after = rows[-1].version


def _check_print(report: VerificationReport, row: StoredRow, seal: Seal | None) -> None:
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


# -- one pass over all rows -------------------------------------------------------------------------------------------


def check(
    report: VerificationReport, source: Source, sealed: Iterable[Seal], after: int, upto: int, progress: Progress
) -> Chains:
    """Check the rows in (after, upto] against their chains and these seals, seal by seal."""
    chains, reached = Chains(report, source), after
    for seal in sealed:
        if seal.upto <= reached or seal.after >= upto:
            continue
        reached = _unsealed(report, source, chains, reached, seal.after, progress)
        start = reached
        seal_check = SealCheck(seal, report, partial(_is_outside, source, start))
        reached = min(seal.upto, upto)
        for rows in source.rows(start, reached):
            chains.feed(rows)
            source.decode(rows)
            seal_check.feed(rows)
            progress(rows[-1].position)
        if seal_check.finish():
            report.seals += 1
        else:
            report.partial += 1
        report.sealed_upto = reached
    _unsealed(report, source, chains, reached, upto, progress)
    return chains


def _is_outside(source: Source, start: int, position: int) -> bool:
    return position <= start or source.outside(position)


def _unsealed(
    report: VerificationReport, source: Source, chains: Chains, after: int, upto: int, progress: Progress
) -> int:
    """Check rows that no seal covers against their chains alone; returns the last position checked."""
    if after >= upto:
        return after
    for rows in source.rows(after, upto):
        chains.feed(rows)
        source.decode(rows)
        report.unsealed += len(rows)
        progress(rows[-1].position)
    return upto
