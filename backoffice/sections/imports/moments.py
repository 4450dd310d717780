"""Finds the columns with the times at which submissions were started, finished and submitted. Pure.

1. By name, in any of the languages of `headers.ROLES`; cells that are no time (1980-01-01, "[not completed]") are
   ignored with a note.
2. By content: a column near the edge of the table whose every cell is a full date and time, in ascending or descending
   order or with seconds that no person would type. A column headed by a question stays a question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from itertools import pairwise

from backoffice.sections.imports import dates, headers, infer, zones
from backoffice.sections.imports.headers import Column

_LISTED = 10
_EDGE = 4  # columns beside questions that a recognised time may be away from the edge
_NO_TIME = {"[not completed]"}  # REDCap
_QUESTION = re.compile(
    r"[?؟？]|birth|born|naissance|n[ée]e? le|geburt|geboren|nacimiento|nascita|appoint|rendez|termin\b|\bcita\b|"
    r"booking|\bslot|\bwhen\b|quand|\bwann\b|meeting|event|visit|arriv|depart|pick.?up|deliver|deadline|\bdue\b|incident|"
    r"accident|admission|discharge|reserv|schedul|prefer|souhait|wunsch",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Times:
    """The columns of the start and end of submissions, and each row's times where they could be read.

    `end` is the submission's date; `finished` is set if another column holds the time at which the respondent finished.
    """

    start: Column | None = None
    end: Column | None = None
    finished: Column | None = None
    unread: list[Column] = field(default_factory=list)
    started: list[datetime | None] = field(default_factory=list)
    ended: list[datetime | None] = field(default_factory=list)
    finishes: list[datetime | None] = field(default_factory=list)
    by_day: bool = False


@dataclass(slots=True)
class _Timed:
    """A column whose cells are times."""

    column: Column
    style: dates.Style
    moments: list[datetime | None]

    @property
    def known(self) -> list[datetime]:
        return [moment for moment in self.moments if moment]


# ── the order of day and month ───────────────────────────────────────────────────────────────────────────────────────


def day_order(columns: Sequence[Column], delimiter: str, zone: tzinfo) -> tuple[str, bool]:
    """Returns the order of day and month that some column proves, or the usual one for the delimiter.

    A column proves it by a day above 12, or by times that ascend in one order only.
    """
    proven = {order for column in columns if (order := dates.proven_order(column.values.keys()))}
    if not proven:
        proven = {order for column in columns if (order := _ascending_order(column, zone))}
    if len(proven) == 1:
        return proven.pop(), True
    return (dates.DAY_FIRST if delimiter == ";" else dates.MONTH_FIRST), False


def _ascending_order(column: Column, zone: tzinfo) -> str | None:
    orders = []
    for order in (dates.DAY_FIRST, dates.MONTH_FIRST):
        style = dates.study(column.values.keys(), order, zone)
        if style is None or not style.timed or not style.ambiguous:
            return None
        moments = _read(column, dates.Style(order, True, True), zone)
        if len(moments) > _LISTED and _in_order([moment for moment in moments if moment]):
            orders.append(order)
    return orders[0] if len(orders) == 1 else None


# ── choice ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def choose(table: headers.Table, context: infer.Context, warnings: list[str]) -> Times:
    """Chooses the columns of times; columns without times and questions about times stay questions."""
    claimed = [column for column in table.columns if column.role in ("start", "end")]
    for column in claimed:
        _ignore_fillers(column, warnings)
    claimed.sort(key=lambda column: (not _is_submission_time(column), column.rank))
    named = [timed for column in claimed if (timed := _claim(column, context, warnings))]
    times, chosen = Times(), _Choice(table.columns)
    for timed in named:
        chosen.take_named(timed)
    for timed in _by_content(table, context):
        chosen.take(timed)
    for name, found in (("start", chosen.start), ("end", chosen.end), ("finished", chosen.finished)):
        if found is not None:
            _fill_times(times, name, found, context, table.lines, warnings)
    if times.end is None and times.start is None:
        warnings.append("no column says when the submissions were made; they get the time of the import")
    return times


class _Choice:
    """The chosen columns so far, the best name first."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._before = dict(zip(map(id, columns[1:]), columns, strict=False))
        self.start: _Timed | None = None
        self.submitted: _Timed | None = None
        self.finished_by_name: _Timed | None = None
        self.changed: _Timed | None = None

    @property
    def end(self) -> _Timed | None:
        return self.submitted or self.finished_by_name or self.changed

    @property
    def finished(self) -> _Timed | None:
        return self.finished_by_name if self.submitted else None

    def take_named(self, timed: _Timed) -> None:
        """Takes columns by name, those of the submission first, because the others are compared with them."""
        if _is_submission_time(timed.column):
            self.submitted = self.submitted or timed
        elif timed.column.role == "start":
            self._take_if_it_fits("start", timed)
        elif headers.plain(timed.column.name or timed.column.header) in headers.FINISHED:
            self._take_if_it_fits("finished_by_name", timed)
        else:
            self.changed = self.changed or timed

    def _take_if_it_fits(self, slot: str, timed: _Timed) -> None:
        """Takes the column unless it may be a question: later than the submission, or round times after a question."""
        before = self._before.get(id(timed.column))
        behind_question = before is not None and not before.role
        apart = self.submitted and not _same_day(timed, self.submitted)
        typed = behind_question and apart and self.submitted and _round(timed) and not _round(self.submitted)
        if typed or (self.submitted and not _precedes(timed, self.submitted)):
            timed.column.role = ""
        elif getattr(self, slot) is None:
            setattr(self, slot, timed)

    def take(self, timed: _Timed) -> None:
        """Takes a column by its content: the time of the submission, or the start before it."""
        if self.end is None and (self.start is None or _precedes(self.start, timed)):
            self.submitted = timed
            timed.column.role = "end"
        elif self.start is None and self.end is not None and _pair(timed, self.end):
            self.start = timed
            timed.column.role = "start"
        elif self.start is None and self.end is self.submitted and self.end is not None and _pair(self.end, timed):
            self.start, self.submitted = self.end, timed
            self.start.column.role, timed.column.role = "start", "end"


def _is_submission_time(column: Column) -> bool:
    header = column.name or column.header
    return headers.plain(header) in headers.SUBMITTED or header.lower().endswith("_timestamp")


def _ignore_fillers(column: Column, warnings: list[str]) -> None:
    gone = {cell for cell in column.values if cell.lower() in _NO_TIME or dates.is_filler(cell)}
    if not gone:
        return
    count = sum(column.values[cell] for cell in gone)
    shown = ", ".join(f"“{cell[:40]}”" for cell in sorted(gone)[:3])
    warnings.append(f"{named(column)}: {shown} in {count} row(s) is no time and was ignored")
    column.missing |= gone
    column.values = Counter({cell: n for cell, n in column.values.items() if cell not in gone})


def _claim(column: Column, context: infer.Context, warnings: list[str]) -> _Timed | None:
    """Returns the times of a column whose name announces times; None without any, then it is a question."""
    style = _style(column, context)
    if style is not None:
        return _Timed(column, style, _read(column, style, column.zone or context.zone))
    if column.values:
        column.role = ""
        _report_unread(column, warnings)
    return None


def _report_unread(column: Column, warnings: list[str]) -> None:
    unknown = {zone for cell in column.values if (zone := dates.zone_of(cell)) and zones.find(zone) is None}
    if unknown:
        shown = ", ".join(f"“{zone[:40]}”" for zone in sorted(unknown)[:3])
        warnings.append(f"{named(column)}: the time zone {shown} is not known; the times are kept as text")
    elif headers.plain(column.name or column.header) in headers.SUBMITTED:
        example = next(iter(column.values))[:40]
        warnings.append(f"{named(column)}: “{example}” is not read as a time; the column is kept as a question")


def _style(column: Column, context: infer.Context) -> dates.Style | None:
    """Returns the format of the times, if nine of ten cells are times (or dates, where the name allows them)."""
    readable = Counter({cell: n for cell, n in column.values.items() if dates.all_dates([cell])})
    if not readable or readable.total() < 0.9 * column.values.total():
        return None
    style = dates.study(readable.keys(), context.order, column.zone or context.zone)
    if style is None:
        return dates.Style(dates.proven_order(readable.keys()) or context.order, True, False)
    day_enough = column.role == "end" and headers.plain(column.name or column.header) in headers.DAY_ENOUGH
    return style if style.timed or day_enough else None


# ── by content ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _by_content(table: headers.Table, context: infer.Context) -> list[_Timed]:
    """Returns columns without a role that contain automatic timestamps, in file order."""
    plain = [column for column in table.columns if not column.role]
    at_edge = {id(column) for column in (*plain[:_EDGE], *plain[-_EDGE:])}
    first = {id(column) for column in plain[:1]}
    found = []
    for column in plain:
        asked = (column.group is not None and column.option) or _QUESTION.search(column.label)
        timed = _timed(column, context) if id(column) in at_edge and not asked else None
        if timed and _automatic(timed, first=id(column) in first):
            found.append(timed)
    return found


def _timed(column: Column, context: infer.Context) -> _Timed | None:
    if column.values.total() < 0.9 * len(column.cells):
        return None
    style = dates.study(column.values.keys(), context.order, column.zone or context.zone)
    if style is None or not style.timed:
        return None
    return _Timed(column, style, _read(column, style, column.zone or context.zone))


def _automatic(timed: _Timed, *, first: bool) -> bool:
    """Returns whether a clock wrote these times: ordered, or with seconds; round ones only at first."""
    known = timed.known
    seconds = {(moment.second, moment.microsecond) for moment in known}
    if len(known) < 3:
        return first and not _round(timed)
    if _in_order(known) and len(set(known)) > 2:
        return first or not _round(timed)
    return len(seconds) >= 3 and 2 * sum(1 for m in known if m.second or m.microsecond) >= len(known)


def _in_order(known: Sequence[datetime]) -> bool:
    """Returns whether nine of ten neighbours ascend, or nine of ten descend."""
    pairs = list(pairwise(known))
    up = sum(1 for before, after in pairs if before <= after)
    down = sum(1 for before, after in pairs if before >= after)
    return max(up, down) >= 0.9 * len(pairs) and len(pairs) > 0


def _round(timed: _Timed) -> bool:
    """Returns whether every time is a multiple of five minutes, as people write them."""
    return all(m.minute % 5 == 0 and m.second == 0 and m.microsecond == 0 for m in timed.known)


def _precedes(first: _Timed, then: _Timed) -> bool:
    """Returns whether in nineteen of twenty rows `first` is at most a day after `then` (zones may be missing)."""
    pairs = [(a, b) for a, b in zip(first.moments, then.moments, strict=True) if a and b]
    return 20 * sum(1 for a, b in pairs if (a - b).total_seconds() <= 86_400) >= 19 * len(pairs)


def _pair(first: _Timed, then: _Timed) -> bool:
    """Returns whether the columns are near each other and every row starts before it ends, mostly within a day."""
    return abs(first.column.index - then.column.index) <= _EDGE and _same_day(first, then)


def _same_day(first: _Timed, then: _Timed) -> bool:
    pairs = [(a, b) for a, b in zip(first.moments, then.moments, strict=True) if a and b]
    gaps = [(b - a).total_seconds() for a, b in pairs]
    return bool(gaps) and min(gaps) >= 0 and 2 * sum(1 for gap in gaps if gap <= 86_400) >= len(gaps)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(column: Column, style: dates.Style, zone: tzinfo) -> list[datetime | None]:
    known: dict[str, datetime | None] = {}
    for cell in column.values:
        try:
            known[cell] = _moment(style.value(cell, zone), zone)
        except (ValueError, OverflowError):
            known[cell] = None
    return [known.get(cell) for cell in column.cells]


def _moment(value: datetime | date, zone: tzinfo) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), zone)
    return moment.astimezone(UTC)


def _fill_times(
    times: Times, name: str, timed: _Timed, context: infer.Context, lines: list[int], warnings: list[str]
) -> None:
    column, style = timed.column, timed.style
    setattr(times, name, column)
    setattr(times, {"start": "started", "end": "ended", "finished": "finishes"}[name], timed.moments)
    times.by_day = times.by_day or not style.timed
    if name != "finished":  # the column stays a field of its own, so that nothing is lost
        _keep_unread(times, timed, lines, warnings)
    if style.ambiguous and not context.proven:
        warnings.append(f"{named(column)}: day and month could be either way round; read as {order_words(style.order)}")
    _report_ambiguous_zones(column, warnings)


def _keep_unread(times: Times, timed: _Timed, lines: list[int], warnings: list[str]) -> None:
    column = timed.column
    each = list(zip(lines, column.cells, timed.moments, strict=True))
    unread = [line for line, cell, moment in each if cell in column.values and moment is None]
    if unread:
        times.unread.append(column)
        warnings.append(f"{named(column)}: no date and time in {listed(unread)}; kept as text")
        kept = {cell for _, cell, moment in each if moment is None}
        column.values = Counter({cell: n for cell, n in column.values.items() if cell in kept})


def _report_ambiguous_zones(column: Column, warnings: list[str]) -> None:
    written = {dates.zone_of(cell).upper().strip("()") for cell in column.values}
    warnings += [
        f"{named(column)}: {zone} is used in several places; read as that of {zones.AMBIGUOUS[zone]}"
        for zone in sorted(written & zones.AMBIGUOUS.keys())
    ]


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def named(column: Column) -> str:
    return f"column {column.letter} (“{column.label[:60]}”)"


def order_words(order: str) -> str:
    return "day/month" if order == dates.DAY_FIRST else "month/day"


def listed(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_LISTED]))
    more = f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"
