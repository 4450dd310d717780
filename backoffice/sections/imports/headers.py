"""Turns records into columns: the header rows, the question of each column, and the columns that are no questions.

Header rows are decided by evidence, not by the tool's name. `_HEADINGS` lists the notations, each a small reader:

* one row, the usual case;
* two rows (question, then answer option; blank cells continue the question to their left) when the second row leaves
  the respondent's id and the timestamps blank, or says "Response", or is plain text over columns of numbers or dates;
* three rows (name, question, ``{"ImportId": …}``).

Ragged rows: cells beyond the header are dropped when blank and refused otherwise. A row that ends early is padded where
blanks are plausible: every column it lacks is blank in some complete row too, or the whole file never writes a blank at
the end of a row (spreadsheets drop them) and several rows are short. It is refused otherwise, and when one of its cells
does not fit a column that holds only numbers or dates elsewhere: then a cell is missing in the middle.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from backoffice.sections.imports import dialect, titles

_RESPONSE = {
    "response", "open-ended response", "open ended response", "réponse", "réponse ouverte", "antwort", "respuesta",
    "respuesta abierta", "risposta", "resposta",
}  # fmt: skip

_INVISIBLE = " \t\n\u00a0\u200b\ufeff"
_UNUSUAL = re.compile("[\r\u200b\ufeff]")


def plain(text: str) -> str:
    """Returns lower-case letters and digits without accents, for comparing names."""
    decomposed = unicodedata.normalize("NFKD", text.replace("(UTC)", "")).lower()
    return "".join(char for char in decomposed if char.isalnum())


# Header (lower case, letters and digits only) -> the role of the column. The order is the priority.
_ROLE_NAMES = {
    "respondent": (
        "respondentid", "responseid", "submissionid", "entryid", "responseuuid", "uuid", "instanceid", "metainstanceid",
        "participantid", "caseid", "recordid", "token", "id", "identifiant", "idreponse", "iddelareponse",
        "numerodereponse",
    ),
    "start": (
        "startdate", "starttime", "startedat", "datestarted", "datecreated", "start", "started", "startzeit",
        "startdatum", "heurededebut", "datededebut", "debut", "begin", "begindatum", "begintijd",
        "interviewstart", "horadeinicio", "fechadeinicio", "oradiinizio", "oradellinizio", "datadiinizio",
        "datadeinicio", "starttid", "startdato",
        "godzinarozpoczecia", "开始时间", "開始時刻", "開始日時", "開始時間", "시작시간", "времяначала",
    ),
    "end": (
        "submittedat", "datesubmitted", "submitdate", "submissiondate", "submissiontime", "dateofsubmission",
        "submitteddate", "submittedon", "submitted", "surveytimestamp", "datedesoumission", "datedenvoi", "timestamp",
        "horodateur", "horodatage", "zeitstempel", "marcatemporal", "marcadetiempo", "fechadeenvio", "datadeenvio",
        "informazionicronologiche", "datadiinvio", "carimbodedatahora", "tijdstempel", "tidsstampel", "tidsstempel",
        "sygnaturaczasowa", "zamandamgası", "отметкавремени", "タイムスタンプ", "时间戳记", "時間戳記", "타임스탬프",
        "提交时间", "送信日時",
        "completedat", "completiontime", "datecompleted", "enddate", "endtime", "endedat", "dateended", "end", "ended",
        "finishedat", "heuredefin", "datedefin", "fin", "fertigstellungszeit", "enddatum", "endzeit",
        "horadefinalizacion", "fechadefinalizacion", "oradicompletamento", "horadeconclusao", "tijdvanvoltooien",
        "slutforandetid", "完成时间", "完了時刻", "終了日時",
        "recordeddate", "datelastaction", "datestamp", "datemodified", "created", "createdat", "createdtime",
    ),
    "ip": ("ipaddress", "ip", "adresseip", "direccionip"),
    "collector": ("collectorid", "collector", "networkid", "distributionchannel", "useragent", "refererurl"),
}  # fmt: skip
ROLES = {plain(name): (role, rank) for role, names in _ROLE_NAMES.items() for rank, name in enumerate(names)}
_END_NAMES = _ROLE_NAMES["end"]
# "end" has three meanings: time of the submission, time when the respondent finished, and time of the last change.
SUBMITTED = frozenset(map(plain, _END_NAMES[: _END_NAMES.index("completedat")]))
FINISHED = frozenset(map(plain, _END_NAMES[_END_NAMES.index("completedat") : _END_NAMES.index("recordeddate")]))
# A date without a time of day is the time of the submission only under these names; "Start date" may be a question.
DAY_ENOUGH = SUBMITTED | {"completedat", "completiontime", "recordeddate", "datelastaction", "createdat"}
_TIMESTAMP = re.compile(r"\w+_timestamp")  # REDCap: one for each instrument


@dataclass(slots=True, eq=False)
class Column:
    """One column. `cells` are trimmed; `group` is shared by the columns of one question under two header rows."""

    index: int
    header: str
    question: str
    option: str = ""
    name: str = ""
    group: int | None = None
    cells: list[str] = field(default_factory=list)
    role: str = ""
    rank: int = 0
    zone: ZoneInfo | None = None
    values: Counter[str] = field(default_factory=Counter)
    missing: frozenset[str] = frozenset()

    @property
    def letter(self) -> str:
        """Returns the column's name in a spreadsheet."""
        letters, n = "", self.index + 1
        while n:
            n, rest = divmod(n - 1, 26)
            letters = chr(65 + rest) + letters
        return letters

    @property
    def label(self) -> str:
        """Returns the question with its option, or the column's letter if it has no name."""
        if self.option and self.option.lower() not in _RESPONSE:
            return f"{self.question} – {self.option}" if self.question else self.option
        return self.question or f"Column {self.letter}"


@dataclass(slots=True)
class Table:
    columns: list[Column]
    lines: list[int]
    header_rows: int
    blank_rows: int
    dropped: list[Column]
    warnings: list[str]


def read(sheet: dialect.Sheet) -> Table:
    """Makes the table rectangular and names its columns. Raises `Refused`."""
    filled = [(line, cells) for line, cells in zip(sheet.lines, map(_clean, sheet.records), strict=True) if any(cells)]
    if not filled:
        raise dialect.Refused("the file holds no text, only delimiters")
    blank_rows = len(sheet.records) - len(filled)
    filled, warnings = _without_titles(filled)
    lines, records = [line for line, _ in filled], [cells for _, cells in filled]
    if "X.1" in records[0]:  # R's names for blank headers: X, X.1, X.2
        records[0] = ["" if cell == "X" else cell for cell in records[0]]
    heading = next(each for each in _HEADINGS if len(records) >= each.rows and each.fits(records))
    count = heading.rows
    if len(records) == count:
        raise dialect.Refused("there is a header but no row of answers below it", line=lines[-1])
    heads, rows, lines = records[:count], records[count:], lines[count:]
    columns = _columns(heading, _with_row_names(heads, rows), rows, lines)
    kept = [column for column in columns if column.header or column.option or any(column.cells)]
    for column in kept:
        column.values = Counter(column.cells)
        _give_role(column, first=column.index == 0)
    named = {column.index for column in kept}
    dropped = [column for column in columns if column.index not in named]
    return Table(kept, lines, count, blank_rows, dropped, warnings)


def _without_titles(filled: list[tuple[int, list[str]]]) -> tuple[list[tuple[int, list[str]]], list[str]]:
    records = [cells for _, cells in filled]
    above = titles.count(records)
    if above and _options_below(records):
        above = 0
    notice = "line {} is above the header and was skipped: “{}”"
    return filled[above:], [notice.format(line, " ".join(cells).strip()) for line, cells in filled[:above]]


def _columns(heading: Heading, heads: list[list[str]], rows: list[list[str]], lines: list[int]) -> list[Column]:
    width = max(len(head) for head in heads)
    heads = [head + [""] * (width - len(head)) for head in heads]
    columns = heading.columns(*([_title(cell) for cell in head] for head in heads))
    for column, cells in zip(columns, zip(*_square(rows, lines, heads), strict=True), strict=True):
        column.cells = list(cells)
    return columns


def _clean(record: list[str]) -> list[str]:
    """Trims white space around cells (no-break spaces and stray byte-order marks too) and ends lines by LF."""
    if _UNUSUAL.search("".join(record)):
        record = [cell.replace("\r\n", "\n").replace("\r", "\n").strip(_INVISIBLE) for cell in record]
    return [cell.strip() for cell in record]


def _title(cell: str) -> str:
    """Returns a header on one line: line breaks, no-break and double spaces become one space."""
    cell = " ".join(cell.split())
    return "" if re.fullmatch(r"Unnamed: \d+(_level_\d+)?|\.\.\.\d+|X\.\d+", cell) else cell


# ── header rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Heading:
    """One notation of headers: its number of rows, a test for it, and the naming of the columns."""

    name: str
    rows: int
    fits: Callable[[list[list[str]]], bool]
    columns: Callable[..., list[Column]]


@dataclass(frozen=True, slots=True)
class _Second:
    """The second record, compared with the first as evidence that it is a second header row of answer options."""

    heads: list[str]
    cells: list[str]
    body: list[list[str]]
    responses: int  # cells that say "Response"
    continued: list[int]  # columns whose header is blank, with an option below
    answers_about: bool  # whether it has an id or a time, as a respondent's row has


def _second(records: list[list[str]]) -> _Second:
    first, second = records[0], records[1]
    width = max(len(first), len(second))
    heads = [_title(cell) for cell in first] + [""] * (width - len(first))
    cells = second + [""] * (width - len(second))
    responses = sum(1 for cell in cells if cell.lower() in _RESPONSE)
    continued = [i for i in range(1, width) if not heads[i] and cells[i]]
    return _Second(heads, cells, records[2:1002], responses, continued, any(cells[i] for i in _roles(heads)))


def _roles(heads: Sequence[str]) -> list[int]:
    return [i for i, head in enumerate(heads) if plain(head) in ROLES or head == "#"]


def _import_ids(record: list[str]) -> bool:
    return all(cell.startswith('{"ImportId"') or not cell for cell in record) and any(record)


def _options_below(records: list[list[str]]) -> bool:
    """Detects questions above their answer options, as SurveyMonkey writes them."""
    second = _second(records)
    if second.answers_about:
        return False
    if not second.continued:
        filled = sum(1 for cell in second.cells if cell)
        return second.responses > 0 and (bool(_roles(second.heads)) or 2 * second.responses >= filled)
    return bool(_roles(second.heads) or second.responses) or _options_in_body(second)


def _options_in_body(second: _Second) -> bool:
    """Detects option texts under several blank headers that recur in the cells below; only without an id column."""
    below = [i for i in second.continued if any(second.cells[i] == row[i] for row in second.body if i < len(row))]
    many = len(second.continued) >= 2
    return many and (len(below) == len(second.continued) or _words_over_types(second))


def _texts_below(records: list[list[str]]) -> bool:
    """Detects variable names above question texts, as statistics programs write them."""
    second = _second(records)
    named = second.answers_about or all(second.heads)
    return not second.continued and named and _words_over_types(second)


def _words_over_types(second: _Second) -> bool:
    """Returns whether the row has text above at least two columns of numbers or dates, and fits none of them."""
    unlike = 0
    for index, cell in enumerate(second.cells):
        below = [row[index] for row in second.body if index < len(row) and row[index]]
        kind = titles.typed(below) if cell and len(below) >= 2 else None
        if kind is None:
            continue
        if titles.typed([cell]) == kind:
            return False
        unlike += 1
    return unlike >= 2


def _one_row(names: list[str]) -> list[Column]:
    return [Column(i, name, name) for i, name in enumerate(names)]


def _names_over_ids(names: list[str], ids: list[str]) -> list[Column]:
    return _names_over_texts(names, names, ids)


def _names_over_texts(names: list[str], texts: list[str], ids: list[str]) -> list[Column]:
    """Returns the columns of Qualtrics: a name, the question, and JSON that names the time zone."""
    return [
        Column(i, name, text or name, name=name, zone=_zone(cell))
        for i, (name, text, cell) in enumerate(zip(names, texts, ids, strict=True))
    ]


def _two_rows(names: list[str], below: list[str]) -> list[Column]:
    if not all(names):
        return _continued(names, below)
    pairs = list(enumerate(zip(names, below, strict=True)))
    if any(text.lower() in _RESPONSE or not text for text in below):  # every question has one column
        return [Column(i, name, name, text, group=i) for i, (name, text) in pairs]
    return [Column(i, name, text, name=name) for i, (name, text) in pairs]


def _continued(names: list[str], below: list[str]) -> list[Column]:
    """Returns the columns; a blank header with an option below continues the question to its left."""
    columns: list[Column] = []
    group = -1
    for index, (name, option) in enumerate(zip(names, below, strict=True)):
        continues = bool(not name and option and columns and columns[-1].question)
        group = group if continues else index
        question = columns[-1].question if continues else name
        columns.append(Column(index, name or option, question or option, option if question else "", group=group))
    return columns


def _zone(cell: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(json.loads(cell)["timeZone"])
    except (ValueError, KeyError, OSError, TypeError, RecursionError):
        return None


_HEADINGS = (
    Heading("Qualtrics: name, question, import id", 3, lambda rows: _import_ids(rows[2]), _names_over_texts),
    Heading("Qualtrics: name, import id", 2, lambda rows: _import_ids(rows[1]), _names_over_ids),
    Heading("SurveyMonkey: question, answer option", 2, _options_below, _two_rows),
    Heading("statistics programs: name, question", 2, _texts_below, _two_rows),
    Heading("most tools: one row", 1, lambda _: True, _one_row),
)


def _with_row_names(heads: list[list[str]], rows: list[list[str]]) -> list[list[str]]:
    """Adds the header that R omits above its row names.

    It is missing if every row is one cell longer than the header and begins with a unique name.
    """
    width = len(heads[0])
    one_more = len(heads) == 1 and all(len(row) == width + 1 for row in rows) and any(row[-1] for row in rows)
    if one_more and len(rows) > 1 and len({row[0] for row in rows}) == len(rows):
        return [["", *heads[0]]]
    return heads


def _give_role(column: Column, *, first: bool) -> None:
    """Marks columns with data about the submission: its id, times, source and row number."""
    key = plain(column.name or column.header)
    answers = [cell for cell in column.cells if cell]
    if (key in ROLES or column.header == "#") and not (column.group is not None and column.option):
        role, rank = ROLES.get(key, ("respondent", 99))
        # A few respondents may be repeated (joined exports); a column of few ids is a question or a batch number.
        if role != "respondent" or (answers and len(set(answers)) >= 0.9 * len(column.cells)):
            column.role, column.rank = role, rank
            if "UTC" in column.header:
                column.zone = ZoneInfo("UTC")
    elif _TIMESTAMP.fullmatch((column.name or column.header).lower()):
        column.role, column.rank = "end", _END_NAMES.index("timestamp")
    elif first and not column.header and len(set(answers)) == len(column.cells) and all(map(str.isdigit, answers)):
        column.role = "index"


# ── ragged rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _square(rows: list[list[str]], lines: list[int], heads: list[list[str]]) -> list[list[str]]:
    width = len(heads[0])
    if all(len(row) == width for row in rows):
        return rows
    short: list[int] = []
    for i, row in enumerate(rows):
        if len(row) < width:
            short.append(i)
        for extra in range(width, len(row)):
            if row[extra]:
                message = f"the row has {len(row)} cells, the header {width}; “{row[extra][:40]}” belongs to no column"
                raise dialect.Refused(message, line=lines[i], column=extra + 1)
    if short:
        _check_short(rows, lines, heads, short)
    return [(row + [""] * (width - len(row)))[:width] for row in rows]


def _check_short(rows: list[list[str]], lines: list[int], heads: list[list[str]], short: list[int]) -> None:
    width = len(heads[0])
    full = [row for row in rows if len(row) >= width]
    blank_somewhere = [any(not row[i] for row in full) or not heads[0][i] for i in range(width)]
    never_at_end = len(short) > 1 and not any(not row[-1] for row in rows)
    rigid: dict[int, str | None] = {}
    for i in short:
        row = rows[i]
        for at in range(len(row), width):
            if full and not (blank_somewhere[at] or never_at_end):
                message = f"the row ends after {len(row)} of {width} cells, but this column is blank nowhere else"
                raise dialect.Refused(message, line=lines[i], column=at + 1, header=_title(heads[0][at]))
        for at, cell in enumerate(row):
            if at not in rigid:
                cells = [other[at] for other in full if other[at]]
                rigid[at] = titles.typed(cells) if len(cells) >= 2 else None
            if cell and rigid[at] and titles.typed([cell]) != rigid[at]:
                message = f"the row is too short and “{cell[:40]}” is no {rigid[at]}: a cell is missing in the middle"
                raise dialect.Refused(message, line=lines[i], column=at + 1, header=_title(heads[0][at]))
