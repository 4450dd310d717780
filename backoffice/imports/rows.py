"""Bytes -> `Plan`: the whole import decided before anything is written. Pure: no Django, no database.

No cell is lost: each non-blank cell is an answer, or the time that a submission was started or created; a time that
cannot be read is kept as text in a hidden field. Cells lose surrounding white space; line breaks within become LF.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from typing import Any, TypeAlias

import msgspec

from backoffice.imports import dates, dialect, groups, headers, infer, memory, missing
from backoffice.imports.headers import Column

# What a row is known by, and which of the rows that share it, counted from 1.
Identity: TypeAlias = tuple[str, int]

_LISTED = 10
# Ids of the submission itself, best first. All other ids that `headers` finds are the respondent's, who may answer
# more than once.
_OWN_IDS = (
    "responseid", "submissionid", "entryid", "responseuuid", "uuid", "instanceid", "metainstanceid", "id",
    "idreponse", "iddelareponse", "numerodereponse", "identifiant",
)  # fmt: skip
# The order among them before ids of submissions were keyed: forms of that time are still found by it.
_OLD_ORDER = (
    "respondentid", "responseid", "submissionid", "entryid", "responseuuid", "uuid", "instanceid", "metainstanceid",
    "participantid", "caseid", "recordid", "token", "id", "identifiant", "idreponse", "iddelareponse",
    "numerodereponse",
)  # fmt: skip
MAX_ROW_BYTES = 1_000_000  # the store takes events of 1 MiB


# The property of a form's field whose column tells the rows of this form apart, in every export.
IDENTITY = "identity"


@dataclass(slots=True)
class Row:
    """One submission. `identity` is its own, wherever the row stands in whichever export (see `identities`)."""

    line: int
    identity: Identity
    answers: dict[str, Any]
    started_at: datetime | None = None
    completion_time: float | None = None
    created_at: datetime | None = None


@dataclass(slots=True)
class Times:
    """When submissions began and ended: the columns, and each row's moment where it could be read."""

    start: Column | None = None
    end: Column | None = None
    unread: list[Column] = field(default_factory=list)
    started: list[datetime | None] = field(default_factory=list)
    ended: list[datetime | None] = field(default_factory=list)
    by_day: bool = False


@dataclass(slots=True)
class Plan:
    """What an import will do: the form's fields and one row per submission, with all that is worth saying about it."""

    encoding: str
    delimiter: str
    header_rows: int
    fields: list[infer.FieldPlan]
    rows: list[Row]
    times: Times
    respondent: Column | None
    columns: list[Column]
    context: infer.Context
    missing: Counter[str]
    dropped: list[Column]
    blank_rows: int
    warnings: list[str]


@memory.uncollected()
def plan(data: bytes, encoding: str | None = None, zone: tzinfo = UTC) -> Plan:
    """Read an export. Raises `dialect.Refused` with line and column. `zone` is that of moments that name none."""
    sheet = dialect.read(data, encoding)
    table = headers.read(sheet)
    gone = missing.mark(table.columns, sheet.delimiter)
    context = infer.Context(sheet.delimiter, *_day_order(table.columns, sheet.delimiter), zone)
    warnings = _about_file(sheet, table)
    times = _times(table, context, warnings)
    respondent = _respondent(table.columns)
    fields = _fields(table.columns, times, context)
    _every_column_once(table.columns, fields, times)
    for made in fields:
        if respondent is not None and made.columns == [respondent]:
            made.field[IDENTITY] = True
    warnings += [
        f"{_named(f.columns[0])}: day and month could be either way round; read as {_words(context.order)}"
        for f in fields
        if f.doubtful_order
    ]
    rows = _rows(table, fields, times, respondent, warnings)
    return Plan(
        sheet.encoding, sheet.delimiter, table.header_rows, fields, rows, times, respondent, table.columns,
        context, gone, table.dropped, table.blank_rows, warnings,
    )  # fmt: skip


def _about_file(sheet: dialect.Sheet, table: headers.Table) -> list[str]:
    said = list(table.warnings)
    if sheet.guessed:
        said.append(f"the encoding was guessed to be {sheet.encoding}; name it with --encoding if the text looks wrong")
    if table.blank_rows:
        said.append(f"{table.blank_rows} blank row(s) skipped")
    return said


def _named(column: Column) -> str:
    return f"column {column.letter} (“{column.label[:60]}”)"


def _words(order: str) -> str:
    return "day/month" if order == dates.DAY_FIRST else "month/day"


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _day_order(columns: Sequence[Column], delimiter: str) -> tuple[str, bool]:
    """The order of day and month that some column proves; without proof, the custom that goes with the delimiter."""
    proven = {order for column in columns if (order := dates.proven_order(column.values.keys()))}
    if len(proven) == 1:
        return proven.pop(), True
    return (dates.DAY_FIRST if delimiter == ";" else dates.MONTH_FIRST), False


def _times(table: headers.Table, context: infer.Context, warnings: list[str]) -> Times:
    """Choose the columns that say when a submission began and ended; those that hold no moments are questions."""
    times = Times()
    for role in ("start", "end"):
        claimed = sorted((c for c in table.columns if c.role == role), key=lambda c: c.rank)
        for column in claimed:
            style = _style(column, context)
            if style is None:
                column.role = ""
            elif getattr(times, role) is None:
                setattr(times, role, column)
                _read_times(times, column, style, context, table.lines, warnings)
    return times


def _style(column: Column, context: infer.Context) -> dates.Style | None:
    """How the column writes moments, if nine of ten of its cells are some (days, under names that ask for no more)."""
    readable = Counter({cell: n for cell, n in column.values.items() if dates.all_dates([cell])})
    if not readable or readable.total() < 0.9 * column.values.total():
        return None
    style = dates.study(readable.keys(), context.order, column.zone or context.zone)
    if style is None:
        return dates.Style(dates.proven_order(readable.keys()) or context.order, True, False)
    day_enough = column.role == "end" and headers.plain(column.name or column.header) in headers.DAY_ENOUGH
    return style if style.timed or day_enough else None


def _read_times(
    times: Times, column: Column, style: dates.Style, context: infer.Context, lines: list[int], warnings: list[str]
) -> None:
    zone = column.zone or context.zone
    read: dict[str, datetime | None] = {}
    for cell in column.values:
        try:
            read[cell] = _moment(style.value(cell, zone), zone)
        except (ValueError, OverflowError):
            read[cell] = None
    moments = [read.get(cell) for cell in column.cells]
    unread = [line for line, cell in zip(lines, column.cells, strict=True) if cell in read and read[cell] is None]
    if unread:
        times.unread.append(column)
        warnings.append(f"{_named(column)}: no date and time in {_listed(unread)}; kept as text")
        column.values = Counter({cell: n for cell, n in column.values.items() if read[cell] is None})
    if style.ambiguous and not context.proven:
        warnings.append(f"{_named(column)}: day and month could be either way round; read as {_words(style.order)}")
    times.by_day = times.by_day or not style.timed
    if column.role == "start":
        times.started = moments
    else:
        times.ended = moments


def _moment(value: datetime | date, zone: tzinfo) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), zone)
    return moment.astimezone(UTC)


def _listed(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_LISTED]))
    more = f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"


listed = _listed  # for `existing` and `run`


# ── fields ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _respondent(columns: Sequence[Column]) -> Column | None:
    """The column that identifies rows: the submission's own id before the respondent's, one without repeats first."""
    claimed = [column for column in columns if column.role == "respondent"]
    return min(claimed, key=preference, default=None)


def preference(column: Column) -> tuple[bool, bool, int]:
    place = _place(column, _OWN_IDS)
    repeats = any(n > 1 for cell, n in column.values.items() if cell)
    return place == len(_OWN_IDS), repeats, place if place < len(_OWN_IDS) else column.rank


def _place(column: Column, order: Sequence[str]) -> int:
    name = headers.plain(column.name or column.header)
    return order.index(name) if name in order else len(order)


def _fields(columns: Sequence[Column], times: Times, context: infer.Context) -> list[infer.FieldPlan]:
    """Questions first, in the file's order; what is only about the submission last, hidden."""
    ids = infer.Ids()
    asked = [column for column in columns if not column.role]
    made = [infer.field_of(question, ids, context) for question in groups.questions(asked, context.delimiter)]
    for column in columns:
        read = column in (times.start, times.end) and column not in times.unread
        if column.role and not read:
            made.append(infer.field_of(_about(column), ids, context, hidden=True))
    return made


def _about(column: Column) -> groups.Question:
    return groups.Question("single", "Row number" if column.role == "index" else column.label, [column])


def _every_column_once(columns: Sequence[Column], fields: Sequence[infer.FieldPlan], times: Times) -> None:
    """The promise that no column is lost, checked on every import."""
    used = Counter(column.index for made in fields for column in made.columns)
    used.update(c.index for c in (times.start, times.end) if c is not None and c not in times.unread)
    wrong = [column.label for column in columns if used[column.index] != 1]
    if wrong:
        raise AssertionError(f"columns in no field or in several: {wrong}")


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(
    table: headers.Table,
    fields: Sequence[infer.FieldPlan],
    times: Times,
    respondent: Column | None,
    warnings: list[str],
) -> list[Row]:
    answers: infer.Answers = [{} for _ in table.lines]
    for made in fields:
        made.fill(answers)
    rows = [
        Row(line, identity, given)
        for line, identity, given in zip(table.lines, _identities(table, respondent, warnings), answers, strict=True)
    ]
    _refuse_huge(table, rows)
    _set_times(rows, times, warnings)
    return rows


def _refuse_huge(table: headers.Table, rows: Sequence[Row]) -> None:
    """Refuse now what the event store would refuse in the middle of the import."""
    longest = sum(max(map(len, column.values), default=0) for column in table.columns)
    if longest * 12 < MAX_ROW_BYTES:  # JSON writes 6 bytes for a character at most; as much again for field ids
        return
    for row in rows:
        size = len(msgspec.json.encode(row.answers))
        if size > MAX_ROW_BYTES:
            raise dialect.Refused(f"the row has {size:,} bytes; at most {MAX_ROW_BYTES:,} fit", line=row.line)


def _set_times(rows: Sequence[Row], times: Times, warnings: list[str]) -> None:
    backwards = []
    for i, row in enumerate(rows):
        row.started_at = times.started[i] if times.started else None
        ended = times.ended[i] if times.ended else None
        row.created_at = ended or row.started_at
        if row.started_at and ended and not times.by_day:
            seconds = (ended - row.started_at).total_seconds()
            row.completion_time = seconds if seconds >= 0 else None
            if seconds < 0:
                backwards.append(row.line)
    if backwards:
        hours = {moment.hour for moment in (*times.started, *times.ended) if moment}
        twelve = len(hours) > 6 and hours <= set(range(1, 13))
        clock = "; the clock seems to have lost its AM/PM" if twelve else ""
        warnings.append(
            f"{len(backwards)} row(s) end before they start, so their completion time is unknown{clock}: "
            f"{_listed(backwards)}"
        )


def _identities(table: headers.Table, respondent: Column | None, warnings: list[str]) -> list[Identity]:
    result = identities(table.columns, respondent)
    again = [line for line, (name, n) in zip(table.lines, result, strict=True) if n > 1 and name.startswith(BY_ID)]
    if again:
        warnings.append(
            f"{len(again)} row(s) repeat a respondent's id and are kept as submissions of their own: {_listed(again)}"
        )
    return result


BY_ID = "respondent\x1f"
BY_CONTENT = "content\x1f"


def identities(columns: Sequence[Column], by: Column | None) -> list[Identity]:
    """What each row is known by: its cell in the column `by`, or else its content.

    Content is the non-blank cells under their headers in the order of headers' names, without a mere row number: moving
    columns or rows, or adding a question nobody answered, changes nothing. Composed and decomposed letters are one.
    """
    contents = [BY_CONTENT + content for content in _contents(columns)]
    if by is not None:
        contents = [
            content if cell in by.missing else BY_ID + cell for cell, content in zip(by.cells, contents, strict=True)
        ]
    return _counted(map(nfc, contents))


def old_identities(columns: Sequence[Column]) -> list[Identity]:
    """The same as before ids were keyed: the respondent's id first. An ordinal of 1 was not written."""
    claimed = [column for column in columns if column.role == "respondent"]
    return identities(columns, min(claimed, key=lambda column: _place(column, _OLD_ORDER), default=None))


def _counted(names: Iterable[str]) -> list[Identity]:
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append((name, seen[name]))
    return result


def nfc(text: str) -> str:
    """Letters with their accents composed, as all but macOS write them."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _contents(columns: Sequence[Column]) -> list[str]:
    keyed: Counter[str] = Counter()
    named: list[tuple[str, Column]] = []
    for column in columns:
        if column.role == "index":
            continue
        key = headers.plain(f"{column.name}{column.question}{column.option}")
        keyed[key] += 1
        named.append((f"{key}\x1e{keyed[key]}\x1e", column))
    named.sort(key=lambda pair: pair[0])
    keys = [key for key, _ in named]
    every = zip(*(column.cells for _, column in named), strict=True) if named else ([] for _ in columns[0].cells)
    return ["\x1f".join([key + cell for key, cell in zip(keys, cells, strict=True) if cell]) for cells in every]
