"""Turns questions into form fields: type, options, stable id, and the conversion of cells to answers. Pure.

A column gets a type only if every answer fits it; one answer that does not makes it text, so that nothing is lost.
Field types: text, long_text, integer, number, boolean, date, datetime, email, url, phone, rating, single_choice,
multiple_choice (a list of options), matrix (`{row id: value}`) and ranking (`{row id: rank}`).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

from backoffice.sections.imports import dates, groups, numbers
from backoffice.sections.imports.headers import Column

Answers = list[dict[str, Any]]

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_URL = re.compile(r"(?:https?://|www\.)[^\s.]+\.\S+", re.IGNORECASE)
_PHONE = re.compile(r"(?=(?:\D*\d){7,15}\D*$)\+?[\d\s().\-/]{7,25}")
_PHONE_HEADER = re.compile(r"phone|mobile|\bt[eé]l\b|t[eé]l[eé]phone|telefon|portable|\bcell\b", re.IGNORECASE)
_COUNT_HEADER = re.compile(
    r"how (?:many|much|often|old|long)|number of|combien|nombre|"
    r"\b[aâ]ge\b|count|quantit|children|enfants|hours|heures|years",
    re.IGNORECASE,
)
_BOOLEAN = {"true": True, "false": False, "vrai": True, "faux": False}
_YES_NO = {"yes", "no", "oui", "non", "ja", "nein", "sí", "si", "y", "n", "maybe", "peut-être"}
# Separators of several options in one cell: Microsoft Forms, Nextcloud, Google Forms, Qualtrics (its comma has no space
# behind it, so that options may contain commas), Airtable, Jotform.
_NO_SPACE = r"(?<!\d),(?=\S)|,(?=[^\s\d])"
_SEPARATORS = tuple(re.compile(mark) for mark in (";", "; ", ", ", _NO_SPACE, r"\|", r" \| ", r"\n", "、"))
_SPACED = re.compile(" ")  # KoBoToolbox, ODK: names without spaces
_CODES = re.compile(r"\d{1,3}(?:,\d{1,3})*")  # Qualtrics with numeric values
_XML_NAME = re.compile(r"[A-Za-z_][\w.\-]*|\d+")
_VERSION_HEADER = re.compile(r"\bversion|\brelease\b|\bbuild\b|\bchapter\b|\bsection\b", re.IGNORECASE)
_SCALES = {3, 4, 5, 6, 7, 10}


@dataclass(slots=True)
class Context:
    """Properties of the whole file.

    The delimiter, the order of day and month (and whether a column proves it), the zone of times without one, and
    whether the options in one cell may be joined with spaces.
    """

    delimiter: str
    order: str
    proven: bool
    zone: tzinfo
    spaced: bool = False


@dataclass(slots=True)
class Reading:
    """A single column's type and how one cell becomes its value."""

    type: str
    value: Callable[[str], Any]
    options: list[Any] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    doubtful_order: bool = False


@dataclass(slots=True)
class FieldPlan:
    """A form field, the columns it came from, and `fill`, which writes its answers into the rows."""

    field: dict[str, Any]
    columns: list[Column]
    fill: Callable[[Answers], None]
    doubtful_order: bool = False


# ── one column ───────────────────────────────────────────────────────────────────────────────────────────────────────


def reading(column: Column, context: Context) -> Reading:
    """Returns the narrowest type that every answer of the column fits."""
    texts = list(column.values)
    if not texts:
        return Reading("text", str)
    for attempt in (_addresses, _boolean, _phone, _number, _moments, _joined, _choice):
        if found := attempt(column, texts, context):
            return found
    longest = max(map(len, texts))
    wordy = longest > 120 or any("\n" in text for text in texts) or sum(map(len, texts)) > 60 * len(texts)
    return Reading("long_text" if wordy else "text", str)


def _addresses(_column: Column, texts: list[str], _context: Context) -> Reading | None:
    for name, shape in (("email", _EMAIL), ("url", _URL)):
        if all(shape.fullmatch(text) for text in texts):
            return Reading(name, str)
    return None


def _boolean(_column: Column, texts: list[str], _context: Context) -> Reading | None:
    if len(texts) <= 2 and {text.lower() for text in texts} <= _BOOLEAN.keys() and len(_truths(texts)) == len(texts):
        return Reading("boolean", lambda cell: _BOOLEAN[cell.lower()])
    return None


def _truths(texts: Iterable[str]) -> set[bool]:
    return {_BOOLEAN[text.lower()] for text in texts}


def _phone(column: Column, texts: list[str], _context: Context) -> Reading | None:
    if not all(_PHONE.fullmatch(text) for text in texts) or dates.all_dates(texts):
        return None
    dialled = all(text.startswith(("+", "0", "(")) for text in texts)
    return Reading("phone", str) if dialled or _PHONE_HEADER.search(column.label) else None


def _number(column: Column, texts: list[str], context: Context) -> Reading | None:
    style = numbers.study(texts, context.delimiter)
    if style is None or (not style.whole and _VERSION_HEADER.search(column.label)):
        return None
    if style.whole and not style.group and _is_scale(column, [int(text) for text in texts]):
        low, high = min(map(int, texts)), max(map(int, texts))
        return Reading("rating", style.value, extra={"min": low, "max": high})
    return Reading("integer" if style.whole else "number", style.value)


def _is_scale(column: Column, values: list[int]) -> bool:
    low, high = min(values), max(values)
    full = len(values) >= 0.8 * (high - low + 1) and sum(column.values.values()) >= max(10, 3 * len(values))
    return low in (0, 1) and high in _SCALES and full and not _COUNT_HEADER.search(column.label)


def _moments(column: Column, texts: list[str], context: Context) -> Reading | None:
    zone = column.zone or context.zone
    style = dates.study(texts, context.order, zone)
    if style is None:
        return None
    return Reading(
        "datetime" if style.timed else "date",
        lambda cell: iso(style.value(cell, zone)),
        doubtful_order=style.ambiguous and not context.proven,
    )


def iso(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")


def _joined(column: Column, texts: list[str], context: Context) -> Reading | None:
    """Reads several options in one cell (`Red;Blue;`, `Red, Blue`), if enough options also occur alone."""
    for mark in _SEPARATORS:
        if found := _divided(column, texts, mark):
            return found
    if context.spaced and all(_XML_NAME.fullmatch(part) for text in texts for part in text.split(" ")):
        return _divided(column, texts, _SPACED, codes=True)
    if all(_CODES.fullmatch(text) for text in texts) and _are_ascending([text.split(",") for text in texts]):
        return _divided(column, texts, re.compile(","), codes=True)
    return None


def _are_ascending(cells: list[list[str]]) -> bool:
    """Returns whether the codes of each cell ascend and some cell has three, which rules out decimals and thousands."""
    numbered = [[int(code) for code in codes] for codes in cells]
    return any(len(codes) > 2 for codes in cells) and all(codes == sorted(set(codes)) for codes in numbered)


def _divided(column: Column, texts: list[str], mark: re.Pattern[str], *, codes: bool = False) -> Reading | None:
    tail = mark.pattern.strip() if mark.pattern.strip() == ";" and all(text.endswith(";") for text in texts) else ""
    cells = {text: mark.split(text.removesuffix(tail) if tail else text) for text in texts}
    if any(part != part.strip() or not part for parts in cells.values() for part in parts):
        return None
    if not _are_options(cells, column.values, sure=bool(tail), codes=codes):
        return None
    uses: Counter[str] = Counter()
    for text, parts in cells.items():
        uses.update(dict.fromkeys(parts, column.values[text]))
    return Reading("multiple_choice", cells.__getitem__, natural(_offered(uses, column.values.total())))


def _offered(uses: Counter[str], answers: int) -> list[str]:
    """Returns the options without texts that one respondent of many wrote under "Other"."""
    return [part for part, n in uses.items() if n > 1 or answers <= 20]


def _are_options(cells: dict[str, list[str]], answers: Counter[str], *, sure: bool, codes: bool) -> bool:
    """Returns whether the parts of cells are options.

    Each must be in several answers, half of them also alone; a few may be others ("Other: …").
    """
    several = [parts for parts in cells.values() if len(parts) > 1]
    if not several or any(len(set(parts)) < len(parts) for parts in several):
        return False
    uses: Counter[str] = Counter()
    for text, parts in cells.items():
        uses.update(dict.fromkeys(parts, answers[text]))
    if max(map(len, uses)) > 100 or (not codes and numbers.study(list(uses), ";")):
        return False
    if sure:
        return len(uses) <= 40 or uses.total() >= 3 * len(uses)
    return _stand_alone(cells, uses) or _stand_alone(cells, Counter({part: n for part, n in uses.items() if n > 1}))


def _stand_alone(cells: dict[str, list[str]], uses: Counter[str]) -> bool:
    """Returns whether half of these parts are whole answers too, and most parts of all answers are among these."""
    alone = sum(1 for parts in cells.values() if len(parts) == 1 and parts[0] in uses)
    parts = [part for parts in cells.values() for part in parts]
    known = sum(1 for part in parts if part in uses)
    if not 1 < len(uses) <= 40 or 4 * known < 3 * len(parts):
        return False
    return 2 * alone >= len(uses) and len(cells) >= len(uses) and 2 * uses.total() >= 3 * len(uses)


def _choice(column: Column, texts: list[str], _context: Context) -> Reading | None:
    answers, distinct = sum(column.values.values()), len(texts)
    if max(map(len, texts)) > 150 or any("\n" in text for text in texts):
        return None
    once = sum(1 for n in column.values.values() if n == 1)
    few = answers >= max(4, 2 * distinct) and distinct <= 12
    many = answers >= 5 * distinct and distinct <= 60
    yes_no = {text.lower() for text in texts} <= _YES_NO
    if (yes_no and answers > 1) or ((few or many) and 2 * once <= distinct):
        return Reading("single_choice", str, natural(texts))
    return None


# ── options in natural order ─────────────────────────────────────────────────────────────────────────────────────────

_AMOUNT = re.compile(r"\d[\d, ]*\d|\d")
_UNDER = re.compile(r"[<≤]|under|below|less than|fewer than|up to|moins de|unter|jusqu", re.IGNORECASE)
_OVER = re.compile(r"[>≥]|\d\+|over\b|more\b|above\b|\bup$|older|plus\b|et plus|über", re.IGNORECASE)
_STARTS = re.compile(r"[\s$€£~]*\d|" + _UNDER.pattern + "|" + _OVER.pattern, re.IGNORECASE)


def natural(options: list[str]) -> list[str]:
    """Sorts ranges and amounts by their numbers ("18-29", "30-44", "> 60"); others keep the order of first use."""
    ranked = [option for option in options if _STARTS.match(option) and _AMOUNT.search(option)]
    if len(ranked) < 2 or len(ranked) < 0.6 * len(options):
        return options
    return sorted(ranked, key=_rank) + [option for option in options if option not in ranked]


def _rank(option: str) -> tuple[int, ...]:
    first, *rest = (int(re.sub(r"\D", "", amount)) for amount in _AMOUNT.findall(option))
    side = -1 if _UNDER.match(option) else 1 if _OVER.search(option) else 0
    return first, side, *rest


# ── ids ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def slug(label: str) -> str:
    """Returns an id from the label: ASCII words of at most 60 characters; a hash if few letters are Latin."""
    ascii_only = unicodedata.normalize("NFKD", label.lower()).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "_", ascii_only).strip("_")
    if len(words) > 60:
        words = words[:61].rpartition("_")[0] or words[:60]
    if sum(char.isalnum() for char in words) * 2 < sum(char.isalnum() for char in label[:60]):
        words = "field_" + hashlib.sha256(label.encode()).hexdigest()[:10]
    return words or "field"


class Ids:
    """Makes ids unique: `age`, `age_2`, …"""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, label: str) -> str:
        base = made = slug(label)
        number = 1
        while made in self._taken:
            number += 1
            made = f"{base}_{number}"
        self._taken.add(made)
        return made


# ── questions to fields ──────────────────────────────────────────────────────────────────────────────────────────────


def field_of(question: groups.Question, ids: Ids, context: Context, *, hidden: bool = False) -> FieldPlan:
    """Returns the form field of one question."""
    made: dict[str, Any] = {"id": ids.of(question.label), "type": "", "label": question.label, "help": ""}
    made |= {"required": False, "options": [], "page": 1}
    if hidden:
        made |= {"hidden": True, "source": question.columns[0].role or "metadata"}
    return _FILLERS[question.kind](made, question, context)


def _single(made: dict[str, Any], question: groups.Question, context: Context) -> FieldPlan:
    column, key = question.columns[0], made["id"]
    read = (
        reading(column, context)
        if not made.get("hidden") or column.role in ("start", "end", "index")
        else Reading("text", str)
    )
    made |= {"type": read.type, "options": read.options, **read.extra}
    if column.role:
        made["source"] = column.role
    values = {cell: read.value(cell) for cell in column.values}

    def fill(rows: Answers) -> None:
        for row, cell in zip(rows, column.cells, strict=True):
            if cell in values:
                row[key] = values[cell]

    return FieldPlan(made, [column], fill, read.doubtful_order)


def _multiple(made: dict[str, Any], question: groups.Question, _context: Context) -> FieldPlan:
    made |= {"type": "multiple_choice", "options": question.options}
    boxes = list(zip(question.options, question.on, strict=True))

    def answer(cells: tuple[str, ...]) -> list[str] | None:
        chosen = [option for (option, on), cell in zip(boxes, cells, strict=True) if cell and cell == on]
        asked = question.off and question.off in cells  # shown but nothing ticked: an empty list
        return chosen if chosen or asked else None

    return FieldPlan(made, question.all_columns, _by_row(made["id"], question.columns, answer))


def _order_of(made: dict[str, Any], question: groups.Question, _context: Context) -> FieldPlan:
    """Returns a ranking from columns for each rank: one row per option, with its rank as the value."""
    ids = Ids()
    made |= {"type": "ranking", "options": list(range(1, len(question.columns) + 1))}
    made["rows"] = [{"id": ids.of(label), "label": label} for label in question.options]
    row_ids = {label: row["id"] for label, row in zip(question.options, made["rows"], strict=True)}

    def answer(cells: tuple[str, ...]) -> dict[str, Any] | None:
        return {row_ids[cell]: place for place, cell in enumerate(cells, start=1) if cell in row_ids} or None

    return FieldPlan(made, question.columns, _by_row(made["id"], question.columns, answer))


def _rows_of(made: dict[str, Any], question: groups.Question, _context: Context) -> FieldPlan:
    """Returns a grid or ranking: one row per column, and their common scale."""
    ids, scale = Ids(), list(dict.fromkeys(text for column in question.columns for text in column.values))
    style = question.numbers
    made |= {"type": "ranking" if question.kind == "ranking" else "matrix", "options": _scale(question, scale, style)}
    made["rows"] = [{"id": ids.of(label), "label": label} for label in question.options]
    values: dict[str, Any] = {text: style.value(text) if style else text for text in scale}
    rows = [(row["id"], column.missing) for row, column in zip(made["rows"], question.columns, strict=True)]

    def answer(cells: tuple[str, ...]) -> dict[str, Any] | None:
        given = {name: values[cell] for (name, gone), cell in zip(rows, cells, strict=True) if cell not in gone}
        return given or None

    return FieldPlan(made, question.columns, _by_row(made["id"], question.columns, answer))


def _by_row(key: str, columns: list[Column], answer: Callable[[tuple[str, ...]], Any]) -> Callable[[Answers], None]:
    """Returns a function that fills in one answer from several cells; equal cells are converted once."""
    known: dict[tuple[str, ...], Any] = {}

    def fill(rows: Answers) -> None:
        for row, cells in zip(rows, zip(*(column.cells for column in columns), strict=True), strict=True):
            if cells not in known:
                known[cells] = answer(cells)
            if known[cells] is not None:
                row[key] = known[cells]

    return fill


def _scale(question: groups.Question, scale: list[str], style: numbers.Style | None) -> list[Any]:
    if question.kind == "ranking":
        return list(range(1, len(question.columns) + 1))
    if style is None:
        return natural(scale)
    values = sorted({style.value(text) for text in scale})
    few = all(isinstance(value, int) and 0 <= value <= 10 for value in values)
    return values if few else []  # amounts, not a scale


_FILLERS: dict[str, Callable[[dict[str, Any], groups.Question, Context], FieldPlan]] = {
    "single": _single,
    "multiple": _multiple,
    "ranking": _rows_of,
    "order": _order_of,
    "grid": _rows_of,
}
