"""Turns bytes into a `Plan`: the whole import, decided before any write. Pure: no Django, no database.

No cell is lost: each non-blank cell is an answer, or the time that a submission was started or created; a time that
cannot be read is kept as text in a hidden field. Cells lose surrounding white space; line breaks within become LF.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeAlias

import msgspec

from backoffice.sections.imports import dialect, groups, headers, infer, memory, missing, moments
from backoffice.sections.imports.headers import Column
from backoffice.sections.imports.moments import listed as _listed
from backoffice.sections.imports.moments import named as _named
from backoffice.sections.imports.moments import order_words as _words

# The name that identifies a row, and the number of the row among those with the same name, from 1.
Identity: TypeAlias = tuple[str, int]

_XFORM = {"_uuid", "_submission_time", "__version__", "instanceID", "meta-instanceID", "KEY", "formhub/uuid"}
# Ids of the submission itself, best first. All other ids that `headers` finds are the respondent's, who may answer
# more than once.
_OWN_IDS = (
    "responseid", "submissionid", "entryid", "responseuuid", "uuid", "instanceid", "metainstanceid", "id",
    "idreponse", "iddelareponse", "numerodereponse", "identifiant",
)  # fmt: skip
# The order of these ids before ids of submissions were keyed: older forms are still found by it.
_OLD_ORDER = (
    "respondentid", "responseid", "submissionid", "entryid", "responseuuid", "uuid", "instanceid", "metainstanceid",
    "participantid", "caseid", "recordid", "token", "id", "identifiant", "idreponse", "iddelareponse",
    "numerodereponse",
)  # fmt: skip
MAX_ROW_BYTES = 1_000_000  # the store takes events of 1 MiB


# The property of the form's field whose column identifies the rows of this form in every export.
IDENTITY = "identity"


@dataclass(slots=True)
class Row:
    """One submission; `identity` does not depend on the position of the row in an export (see `identities`)."""

    line: int
    identity: Identity
    answers: dict[str, Any]
    started_at: datetime | None = None
    completion_time: float | None = None
    created_at: datetime | None = None


@dataclass(slots=True)
class Plan:
    """The plan of an import: the form's fields, one row per submission, and the notes about them."""

    encoding: str
    delimiter: str
    header_rows: int
    fields: list[infer.FieldPlan]
    rows: list[Row]
    times: moments.Times
    respondent: Column | None
    columns: list[Column]
    context: infer.Context
    missing: Counter[str]
    dropped: list[Column]
    blank_rows: int
    warnings: list[str]


@memory.uncollected()
def plan(data: bytes, encoding: str | None = None, zone: tzinfo = UTC) -> Plan:
    """Reads an export. Raises `dialect.Refused` with line and column. `zone` applies to times without one."""
    sheet = dialect.read(data, encoding)
    table = headers.read(sheet)
    gone = missing.mark(table.columns, sheet.delimiter)
    order, proven = moments.day_order(table.columns, sheet.delimiter, zone)
    context = infer.Context(sheet.delimiter, order, proven, zone, spaced=_is_xform(table.columns))
    warnings = _about_file(sheet, table)
    times = moments.choose(table, context, warnings)
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


def _is_xform(columns: Sequence[Column]) -> bool:
    """Returns whether KoBoToolbox or ODK wrote the file: they join the chosen options of a question with spaces."""
    return any(column.header.rpartition("/")[2] in _XFORM for column in columns)


def _about_file(sheet: dialect.Sheet, table: headers.Table) -> list[str]:
    notices = list(table.warnings)
    if sheet.guessed:
        notices.append(
            f"the encoding was guessed to be {sheet.encoding}; name it with --encoding if the text looks wrong"
        )
    if table.blank_rows:
        notices.append(f"{table.blank_rows} blank row(s) skipped")
    return notices


listed = _listed  # for `existing` and `run`


# ── fields ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _respondent(columns: Sequence[Column]) -> Column | None:
    """Returns the column that identifies rows.

    The submission's own id comes before the respondent's, and columns without repeats before others.
    """
    claimed = [column for column in columns if column.role == "respondent"]
    return min(claimed, key=preference, default=None)


def preference(column: Column) -> tuple[bool, bool, int]:
    place = _place(column, _OWN_IDS)
    repeats = any(n > 1 for cell, n in column.values.items() if cell)
    return place == len(_OWN_IDS), repeats, place if place < len(_OWN_IDS) else column.rank


def _place(column: Column, order: Sequence[str]) -> int:
    name = headers.plain(column.name or column.header)
    return order.index(name) if name in order else len(order)


def _fields(columns: Sequence[Column], times: moments.Times, context: infer.Context) -> list[infer.FieldPlan]:
    """Returns the questions in the file's order, then hidden fields with data about the submission."""
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


def _every_column_once(columns: Sequence[Column], fields: Sequence[infer.FieldPlan], times: moments.Times) -> None:
    """Checks on every import that no column is lost."""
    used = Counter(column.index for made in fields for column in made.columns)
    used.update(c.index for c in (times.start, times.end) if c is not None and c not in times.unread)
    wrong = [column.label for column in columns if used[column.index] != 1]
    if wrong:
        raise AssertionError(f"columns in no field or in several: {wrong}")


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(
    table: headers.Table,
    fields: Sequence[infer.FieldPlan],
    times: moments.Times,
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
    """Raises `Refused` for rows that the event store would refuse in the middle of the import."""
    longest = sum(max(map(len, column.values), default=0) for column in table.columns)
    if longest * 12 < MAX_ROW_BYTES:  # JSON writes 6 bytes for a character at most; as much again for field ids
        return
    for row in rows:
        size = len(msgspec.json.encode(row.answers))
        if size > MAX_ROW_BYTES:
            raise dialect.Refused(f"the row has {size:,} bytes; at most {MAX_ROW_BYTES:,} fit", line=row.line)


def _set_times(rows: Sequence[Row], times: moments.Times, warnings: list[str]) -> None:
    backwards = []
    for i, row in enumerate(rows):
        row.started_at = times.started[i] if times.started else None
        ended = times.ended[i] if times.ended else None
        finished = times.finishes[i] if times.finishes else ended
        row.created_at = ended or finished or row.started_at
        if row.started_at and finished and not times.by_day:
            seconds = (finished - row.started_at).total_seconds()
            row.completion_time = seconds if seconds >= 0 else None
            if seconds < 0:
                backwards.append(row.line)
    if backwards:
        hours = {moment.hour for moment in (*times.started, *times.ended, *times.finishes) if moment}
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
    """Returns the identity of each row. Its name is the row's cell in the column `by`, or else its content.

    Content is the non-blank cells under their headers in the order of headers' names, without a mere row number: moving
    columns or rows, or adding a question nobody answered, changes nothing. Composed and decomposed letters are equal.
    """
    contents = [BY_CONTENT + content for content in _contents(columns)]
    if by is not None:
        contents = [
            content if cell in by.missing else BY_ID + cell for cell, content in zip(by.cells, contents, strict=True)
        ]
    return _counted(map(nfc, contents))


def old_identities(columns: Sequence[Column]) -> list[Identity]:
    """Returns the identities of releases before keyed ids: the respondent's id first, and no ordinal of 1."""
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
    """Returns the text in composed form (NFC), which all systems except macOS write."""
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
