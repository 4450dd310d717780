"""Columns -> questions: which neighbours are one select-all question, one grid, one ranking. Pure.

Neighbours belong together by their headers (a shared question over two header rows, `Question [Option]`, `Question:
Option`, `q4_1 q4_2`, the same text again) *and* by their cells:

* select-all: each column holds one text at most besides one word for "not selected";
* ranking: whole numbers 1…k over k columns, no number twice in a row;
* grid: the columns share one short scale.

Without the second half of the evidence each column stays a question of its own. A group is only made where each of its
cells can be told again from the answer: a row in which some boxes are blank and some say "No" makes it a grid instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from backoffice.imports import headers, numbers
from backoffice.imports.headers import Column

OFF = {
    "not selected", "no", "0", "false", "unchecked", "unselected", "non", "nein", "non sélectionné", "non coché",
    "nicht ausgewählt", "nicht gewählt", "no seleccionado", "n", "faux", "not checked",
}  # fmt: skip
ON = {
    "yes", "1", "true", "selected", "checked", "x", "✓", "✔", "oui", "ja", "sí", "si", "y", "o", "coché", "sélectionné",
    "vrai", "quoted", "1.0",
}  # fmt: skip
_FREE = re.compile(
    r"\b(other|others|specify|autre|autres|préciser?z?|precise[rz]?|comments?|commentaires?|sonstige[sn]?|otr[oa]s?|altro|text)\b",
    re.I,
)
_BRACKET = re.compile(r"(.*\S)\s*\[([^\[\]]+)\]")
_NUMBERED = re.compile(r"(.*[^\W_].*?)[_.](\d{1,4})")
_SEPARATOR = re.compile(r"(?::| [-–—>|/]) |(?<=\S)/(?=\S)")
_SCALE = 15


@dataclass(slots=True)
class Question:
    """One question and its columns. `kind`: single, multiple, ranking, grid.

    multiple: `on` is each column's text for a ticked box, `off` the group's word for an empty one (or "").
    """

    kind: str
    label: str
    columns: list[Column]
    options: list[str] = field(default_factory=list)
    on: list[str] = field(default_factory=list)
    off: str = ""
    numbers: numbers.Style | None = None


Run = tuple[str, list[Column], list[str]]  # the stem, its columns, their option texts


def questions(columns: Sequence[Column], delimiter: str) -> Iterator[Question]:
    """The questions in file order; columns with a role are none and stay out."""
    at = 0
    while at < len(columns):
        run = _run_at(columns, at, delimiter)
        yield from run
        at += sum(len(question.columns) for question in run)


def _run_at(columns: Sequence[Column], at: int, delimiter: str) -> list[Question]:
    for stem_of in _STEMS:
        found = _run(columns, at, stem_of)
        if found and (made := _shaped(*found, delimiter, given=stem_of in (_given, _bracket))):
            return made
    return [Question("single", columns[at].label, [columns[at]])]


# ── runs of headers ──────────────────────────────────────────────────────────────────────────────────────────────────

Stem = tuple[object, str, str]  # what must be equal, the label, the option


def _given(column: Column) -> Stem | None:
    return (column.group, column.question, column.option) if column.group is not None else None


def _bracket(column: Column) -> Stem | None:
    found = _BRACKET.fullmatch(column.question)
    return (found[1], found[1], found[2].strip()) if found else None


def _numbered(column: Column) -> Stem | None:
    found = _NUMBERED.fullmatch(column.name or column.question)
    if found is None:
        return None
    stem, option = found[1], ""
    if column.name:  # the label is in another header row: "Which of these? - Milk"
        *_, last = [None, *_SEPARATOR.finditer(column.question)]
        stem, option = (
            (column.question[: last.start()], column.question[last.end() :]) if last else (column.question, "")
        )
    return found[1], stem, option


def _last_separator(column: Column) -> Stem | None:
    return _split(column, -1)


def _first_separator(column: Column) -> Stem | None:
    return _split(column, 0)


def _split(column: Column, which: int) -> Stem | None:
    marks = [m for m in _SEPARATOR.finditer(column.question) if column.question[: m.start()].strip()]
    if not marks or not column.question[marks[which].end() :].strip():
        return None
    stem = column.question[: marks[which].start()].strip()
    return stem, stem, column.question[marks[which].end() :].strip()


def _repeated(column: Column) -> Stem | None:
    """The same header again, also as pandas writes it: `Q`, `Q.1`, `Q.2`."""
    stem = re.sub(r"\.\d{1,3}$", "", column.question)
    return (stem, stem, "") if stem else None


def _continued(column: Column) -> Stem | None:
    """A blank header after a question, in a file with one header row."""
    return ("", column.question, "") if column.group is None else None


_STEMS: tuple[Callable[[Column], Stem | None], ...] = (
    _given, _bracket, _numbered, _last_separator, _first_separator, _repeated, _continued,
)  # fmt: skip


def _run(columns: Sequence[Column], at: int, stem_of: Callable[[Column], Stem | None]) -> Run | None:
    first = stem_of(columns[at])
    if first is None:
        return None
    run, options = [columns[at]], [first[2]]
    for column in columns[at + 1 :]:
        stem = stem_of(column)
        adjacent = column.index == run[-1].index + 1
        if stem is None or not adjacent or (column.question if stem_of is _continued else stem[0] != first[0]):
            break
        run.append(column)
        options.append(stem[2])
    return (first[1], run, options) if len(run) > 1 else None


# ── the evidence of cells ────────────────────────────────────────────────────────────────────────────────────────────


def _shaped(stem: str, run: list[Column], options: list[str], delimiter: str, *, given: bool) -> list[Question]:
    """The run as one question, with "other: …" columns beside it; or empty when its cells do not belong together."""
    boxes = [i for i, column in enumerate(run) if _box(column, options[i]) is not None]
    for chosen in (list(range(len(run))), _without_free(run, options), boxes):
        if len(chosen) < 2 or len(run) - len(chosen) > max(1, len(run) // 4):
            continue
        columns, texts = [run[i] for i in chosen], [options[i] for i in chosen]
        made = (
            _multiple(stem, columns, texts)
            or _ranking(stem, columns, texts)
            or _grid(stem, columns, texts, delimiter, given)
        )
        if made:
            return [made, *(_beside(stem, run[i], options[i]) for i in range(len(run)) if i not in chosen)]
    if given and len({column.group for column in run}) == 1 and run[0].group is not None:
        return [Question("single", column.label, [column]) for column in run]
    return []


def _without_free(run: list[Column], options: list[str]) -> list[int]:
    return [i for i, column in enumerate(run) if not _FREE.search(options[i]) or _box(column, options[i]) is not None]


def _beside(stem: str, column: Column, option: str) -> Question:
    return Question("single", f"{stem} – {option}" if option else column.label, [column])


def _box(column: Column, option: str) -> tuple[str, str] | None:
    """The texts of the ticked and of the empty box, "" where unknown; None when the column is no tick box."""
    texts = list(column.values)
    if option and len(texts) == 1 and headers.plain(texts[0]) == headers.plain(option):
        return texts[0], ""
    off = [text for text in texts if text.lower() in OFF]
    on = [text for text in texts if text.lower() not in OFF]
    if len(on) > 1 or len(off) > 1:
        return None
    return on[0] if on else "", off[0] if off else ""


def _multiple(stem: str, columns: list[Column], options: list[str]) -> Question | None:
    boxes = [_box(column, option) for column, option in zip(columns, options, strict=True)]
    found = [box for box in boxes if box]
    offs = {off for _, off in found if off}
    if len(found) < len(columns) or len(offs) > 1 or not any(on for on, _ in found):
        return None
    off = next(iter(offs), "")
    texts = [on for on, _ in found]
    sure = [_is_tick(text, option, at) for at, (text, option) in enumerate(zip(texts, options, strict=True), 1)]
    if not all(sure) and not _distinct_texts(columns, options, texts, off):
        return None
    if not _whole_rows(columns, off):
        return None
    labels = [
        option or (text if text and text.lower() not in ON else column.label)
        for column, option, text in zip(columns, options, texts, strict=True)
    ]
    return Question("multiple", stem or _stem_of(columns), columns, _unlike(labels), texts, off)


def _stem_of(columns: list[Column]) -> str:
    return columns[0].label


def _is_tick(text: str, option: str, number: int) -> bool:
    if not text:
        return True
    return text.lower() in ON or text == str(number) or bool(option and headers.plain(text) == headers.plain(option))


def _distinct_texts(columns: list[Column], options: list[str], texts: list[str], off: str) -> bool:
    """Without options in the header each column's one text is its option: all unlike, no number, some seen twice."""
    used = [text for text in texts if text]
    if any(options) or len(set(used)) < len(used) or any(numbers.study([text], ",") for text in used):
        return False
    return bool(off) or (len(used) > 1 and sum(sum(column.values.values()) for column in columns) > len(used) + 1)


def _whole_rows(columns: list[Column], off: str) -> bool:
    """Whether the unticked boxes of each row are all blank or all say "off": an answer cannot tell them apart."""
    if not off:
        return True
    for cells in set(_rows(columns)):
        missing = sum(1 for cell, column in zip(cells, columns, strict=True) if cell in column.missing)
        if missing not in (0, len(cells)):
            return False
    return True


def _ranking(stem: str, columns: list[Column], options: list[str]) -> Question | None:
    allowed = {str(n) for n in range(1, len(columns) + 1)}
    if len(columns) < 3 or not all(column.values and set(column.values) <= allowed for column in columns):
        return None
    rows = [
        [cell for cell, column in zip(cells, columns, strict=True) if cell not in column.missing]
        for cells in _rows(columns)
    ]
    ranked = [row for row in rows if len(row) > 1]
    once = sum(1 for row in ranked if len(set(row)) == len(row))
    if not ranked or once < 0.9 * len(ranked) or not any(len(row) == len(columns) for row in ranked):
        return None
    style = numbers.Style(".", "", True)
    return Question("ranking", stem, columns, _row_labels(columns, options), numbers=style)


def _grid(stem: str, columns: list[Column], options: list[str], delimiter: str, given: bool) -> Question | None:
    used = [column for column in columns if column.values]
    shared: Counter[str] = Counter(text for column in used for text in column.values)
    total = sum(sum(column.values.values()) for column in used)
    if len(used) < 2 or any(len(text) > 100 for text in shared):
        return None
    style = numbers.study(list(shared), delimiter)
    if style:
        small = style.whole and all(0 <= style.value(text) <= 10 for text in shared)
        return Question("grid", stem, columns, _row_labels(columns, options), numbers=style) if given or small else None
    overlap = all(2 * sum(1 for text in column.values if shared[text] > 1) >= len(column.values) for column in used)
    repeated = total >= (len(shared) + 1 if given else 2 * len(shared))
    if len(shared) > _SCALE or not overlap or not repeated:
        return None
    return Question("grid", stem, columns, _row_labels(columns, options))


def _rows(columns: list[Column]) -> Iterator[tuple[str, ...]]:
    """The cells of each row."""
    return zip(*(column.cells for column in columns), strict=True)


def _row_labels(columns: list[Column], options: list[str]) -> list[str]:
    return _unlike([option or column.name or column.label for column, option in zip(columns, options, strict=True)])


def _unlike(labels: list[str]) -> list[str]:
    """The labels with a number behind those that were there before."""
    seen: Counter[str] = Counter()
    result: list[str] = []
    for label in labels:
        seen[label] += 1
        made = label if seen[label] == 1 else f"{label} ({seen[label]})"
        while made in result:
            seen[label] += 1
            made = f"{label} ({seen[label]})"
        result.append(made)
    return result
