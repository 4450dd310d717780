"""Groups columns into questions: neighbours that are one select-all question, one grid or one ranking. Pure.

Neighbours belong together by their headers (see `notations`) *and* by their cells:

* select-all: each column has at most one text besides one word for "not selected";
* ranking: whole numbers 1…k over k columns, no number twice in a row; or the options themselves, first to last;
* grid: the columns share one short scale.

Without the evidence of the cells each column stays a separate question; a notation that only columns of one question
have (`sure`) needs less of it. A group is formed only if each of its cells can be derived from the answer: a row in
which some boxes are blank and some say "No" makes it a grid instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from backoffice.sections.imports import headers, notations, numbers
from backoffice.sections.imports.headers import Column
from backoffice.sections.imports.notations import Run

OFF = {
    "not selected", "no", "0", "false", "unchecked", "unselected", "non", "nein", "non sélectionné", "non coché",
    "nicht ausgewählt", "nicht gewählt", "no seleccionado", "n", "faux", "falsch", "not checked", "not quoted",
    "nicht angekreuzt", "non selezionato", "não", "nee", "nej", "nie", "hayır", "нет", "いいえ", "否", "아니요",
}  # fmt: skip
ON = {
    "yes", "1", "true", "selected", "checked", "x", "✓", "✔", "oui", "ja", "sí", "si", "y", "o", "coché", "sélectionné",
    "vrai", "wahr", "quoted", "1.0", "gewählt", "ausgewählt", "angekreuzt", "seleccionado", "selezionato", "sim", "tak",
    "evet", "да", "はい", "是", "예", "j", "s", "t",
}  # fmt: skip
_FREE = re.compile(
    r"\b(other|others|specify|autre|autres|préciser?z?|precise[rz]?|comments?|commentaires?|sonstige[sn]?|andere[sr]?|"
    r"otr[oa]s?|altro|outr[oa]s?|anders|annat|andet|inn[ey]|jiné|diğer|другое|text)\b|その他|其他|其它|기타",
    re.I,
)
_SCALE = 15
_PLACE = re.compile(r"\D*?(\d{1,2})\.?\D*")
_RETRIED = 40  # columns; the later columns of a longer run that is no question are not tried again


@dataclass(slots=True)
class Question:
    """One question and its columns. `kind`: single, multiple, ranking, order, grid.

    multiple: `on` is each column's text for a ticked box, `off` the group's word for an empty one (or ""); `joined` is
    an additional column that repeats the ticked options in one cell. order: column k holds the option at rank k.
    """

    kind: str
    label: str
    columns: list[Column]
    options: list[str] = field(default_factory=list)
    on: list[str] = field(default_factory=list)
    off: str = ""
    numbers: numbers.Style | None = None
    joined: Column | None = None

    @property
    def all_columns(self) -> list[Column]:
        return [self.joined, *self.columns] if self.joined else self.columns


def questions(columns: Sequence[Column], delimiter: str) -> Iterator[Question]:
    """Yields the questions in file order, without the columns that have a role."""
    at = 0
    stems = notations.Stems()
    unmatched: dict[int, int] = {}  # notation -> the column up to which its run forms no question
    while at < len(columns):
        run = _joined(columns, at, delimiter, unmatched) or _run_at(columns, at, delimiter, stems, unmatched)
        yield from run
        at += sum(len(question.all_columns) for question in run)


def _joined(columns: Sequence[Column], at: int, delimiter: str, unmatched: dict[int, int]) -> list[Question]:
    """Returns a column of options and the tick boxes after it as questions: as one if they agree."""
    run = notations.beneath(columns, at) if at >= unmatched.get(-1, 0) else None
    if run and len(run.columns) > _RETRIED:
        unmatched[-1] = at + len(run.columns)
    made = _shaped(run, delimiter) if run and len(run.columns) > 1 else _single_box(run)
    if not made or made[0].kind != "multiple":
        return []
    if not _agrees(columns[at], made[0]):
        return [_single(columns[at]), *made]
    made[0].joined = columns[at]
    return made


def _single_box(run: Run | None) -> list[Question]:
    question = _multiple(run, run.columns, run.options) if run else None
    return [question] if question else []


def _agrees(joined: Column, question: Question) -> bool:
    """Returns whether the cell joins exactly the options that the row ticks, in any order and with any separator."""
    rows = [
        [option for option, on, cell in zip(question.options, question.on, cells, strict=True) if cell and cell == on]
        for cells in _rows(question.columns)
    ]
    pairs = list(zip(joined.cells, rows, strict=True))
    return any(
        all(sorted(cell.split(mark)) == sorted(mark.join(chosen).split(mark)) for cell, chosen in pairs)
        for mark in (" ", ", ", ",", "; ", ";", "\n", " | ", "|")
    )


def _run_at(
    columns: Sequence[Column], at: int, delimiter: str, stems: notations.Stems, unmatched: dict[int, int]
) -> list[Question]:
    for number, notation in enumerate(notations.NOTATIONS):
        if at < unmatched.get(number, 0):
            continue
        run = notations.run(columns, at, notation, stems)
        if run and (made := _shaped(run, delimiter)):
            return made
        if run and len(run.columns) > _RETRIED:
            unmatched[number] = at + len(run.columns)
    return [_single(columns[at])]


def _single(column: Column) -> Question:
    return Question("single", column.label, [column])


# ── the evidence of cells ────────────────────────────────────────────────────────────────────────────────────────────


def _shaped(run: Run, delimiter: str) -> list[Question]:
    """Returns the run as one question, with separate "other: …" columns; empty if its cells do not belong together."""
    for chosen in _choices(run):
        if len(chosen) < 2 or len(run.columns) - len(chosen) > max(1, len(run.columns) // 4):
            continue
        columns, texts = [run.columns[i] for i in chosen], [run.options[i] for i in chosen]
        made = (
            _multiple(run, columns, texts)
            or _ranking(run, columns, texts)
            or _order(run, columns, texts)
            or _grid(run, columns, texts, delimiter)
        )
        if made:
            beside = [i for i in range(len(run.columns)) if i not in set(chosen)]
            return [made, *(_beside(run.label, run.columns[i], run.options[i]) for i in beside)]
    if run.columns[0].group is not None and run.notation is notations.NOTATIONS[0]:
        return [_single(column) for column in run.columns]
    return []


def _choices(run: Run) -> Iterator[list[int]]:
    """Yields candidate sets of columns: all, those without free text, those that are certainly tick boxes."""
    each = list(enumerate(zip(run.columns, run.options, strict=True)))
    ticks = {i for i, (column, option) in each if _is_tick_box(column, option, i + 1)}
    free = {i for i, (column, option) in each if _FREE.search(option) and (i not in ticks or not column.values)}
    if run.options[0] and free and len(ticks - free) > 1:
        yield [i for i, _ in each if i not in free]
    yield [i for i, _ in each]
    yield [i for i, _ in each if i not in free]
    yield sorted(ticks)
    yield [i for i, (column, option) in each if _box(column, option) is not None]


def _is_tick_box(column: Column, option: str, number: int) -> bool:
    box = _box(column, option)
    return box is not None and _is_tick(box[0], option, number)


def _beside(stem: str, column: Column, option: str) -> Question:
    return Question("single", f"{stem} – {option}" if option else column.label, [column])


def _box(column: Column, option: str) -> tuple[str, str] | None:
    """Returns the texts of a ticked and an empty box ("" if unknown); None for other columns."""
    texts = list(column.values)
    if option and len(texts) == 1 and headers.plain(texts[0]) == headers.plain(option):
        return texts[0], ""
    if len(texts) > 2:
        return None
    off = [text for text in texts if text.lower() in OFF]
    on = [text for text in texts if text.lower() not in OFF]
    if len(on) > 1 or len(off) > 1:
        return None
    return on[0] if on else "", off[0] if off else ""


def _multiple(run: Run, columns: list[Column], options: list[str]) -> Question | None:
    boxes = [_box(column, option) for column, option in zip(columns, options, strict=True)]
    found = [box for box in boxes if box]
    offs = {off for _, off in found if off}
    never_ticked = not any(on for on, _ in found) and not (run.notation.sure and offs)
    if len(found) < len(columns) or len(offs) > 1 or never_ticked:
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
    stem = run.label or (", ".join(labels) if all(options) else columns[0].label)
    return Question("multiple", stem[:300], columns, _distinct(labels), texts, off)


def _is_tick(text: str, option: str, number: int) -> bool:
    if not text:
        return True
    return text.lower() in ON or text == str(number) or bool(option and headers.plain(text) == headers.plain(option))


def _distinct_texts(columns: list[Column], options: list[str], texts: list[str], off: str) -> bool:
    """Returns whether each column's only text can be its option: all different, no number, some seen twice."""
    used = [text for text in texts if text]
    if any(options) or len(set(used)) < len(used) or any(numbers.study([text], ",") for text in used):
        return False
    return bool(off) or (len(used) > 1 and sum(sum(column.values.values()) for column in columns) > len(used) + 1)


def _whole_rows(columns: list[Column], off: str) -> bool:
    """Returns whether the unticked boxes of each row are all blank or all "off".

    An answer cannot store the difference.
    """
    if not off:
        return True
    for cells in set(_rows(columns)):
        missing = sum(1 for cell, column in zip(cells, columns, strict=True) if cell in column.missing)
        if missing not in (0, len(cells)):
            return False
    return True


def _ranking(run: Run, columns: list[Column], options: list[str]) -> Question | None:
    """Returns a ranking if each row numbers some columns 1, 2, 3, … without a gap.

    A column without any rank is an option that was never ranked.
    """
    allowed = {str(n) for n in range(1, len(columns) + 1)}
    if len(columns) < 3 or not all(set(column.values) <= allowed for column in columns):
        return None
    if not all(column.values for column in columns) and not run.notation.sure:
        return None
    rows = [
        [cell for cell, column in zip(cells, columns, strict=True) if cell not in column.missing]
        for cells in _rows(columns)
    ]
    ranked = [row for row in rows if len(row) > 1]
    once = sum(1 for row in ranked if len(set(row)) == len(row))
    if not ranked or once < 0.9 * len(ranked) or not _reach_all(ranked, len(columns)):
        return None
    style = numbers.Style(".", "", True)
    return Question("ranking", run.label, columns, _row_labels(columns, options), numbers=style)


def _reach_all(ranked: list[list[str]], width: int) -> bool:
    """Returns whether some row ranks every column, or all rows rank their first few without a gap."""
    gapless = all({int(cell) for cell in row} == set(range(1, len(row) + 1)) for row in ranked)
    return any(len(row) == width for row in ranked) or (gapless and len(ranked) > 2)


def _order(run: Run, columns: list[Column], options: list[str]) -> Question | None:
    """Returns a ranking in which column k has the option at rank k (LimeSurvey); no option repeats in a row."""
    places = [found[1] if (found := _PLACE.fullmatch(option)) else "" for option in options]
    if not run.notation.sure or places != [str(n) for n in range(1, len(columns) + 1)]:
        return None
    texts = list(dict.fromkeys(text for column in columns for text in column.values))
    if not 1 < len(texts) <= _SCALE or numbers.study(texts, ",") or not columns[0].values:
        return None
    if 2 * sum(sum(text in column.values for column in columns) > 1 for text in texts) < len(texts):
        return None  # in a ranking, options occur at several ranks; two scales side by side share no options
    for cells in _rows(columns):
        given = [cell for cell, column in zip(cells, columns, strict=True) if cell not in column.missing]
        if len(set(given)) < len(given):
            return None
    return Question("order", run.label, columns, texts) if _is_repeated(columns, texts) else None


def _is_repeated(columns: list[Column], texts: list[str]) -> bool:
    return sum(column.values.total() for column in columns) >= min(2 * len(texts), len(texts) + 3)


def _grid(run: Run, columns: list[Column], options: list[str], delimiter: str) -> Question | None:
    used = [column for column in columns if column.values]
    shared: Counter[str] = Counter(text for column in used for text in column.values)
    if len(used) < 2 or any(len(text) > 100 for text in shared):
        return None
    labels = _row_labels(columns, options)
    style = numbers.study(list(shared), delimiter)
    if style:
        small = style.whole and all(0 <= style.value(text) <= 10 for text in shared)
        fits = run.notation.sure or small
        return Question("grid", run.label, columns, labels, numbers=style) if fits else None
    if len(shared) > _SCALE or not _is_scale(used, shared, sure=run.notation.sure):
        return None
    return Question("grid", run.label, columns, labels)


def _is_scale(used: list[Column], shared: Counter[str], *, sure: bool) -> bool:
    """Returns whether the columns have their answers from one short list.

    With a sure notation it is enough that half of the columns repeat answers, that answers repeat often on average, or
    that each column has one or two short answers.
    """
    total = sum(column.values.total() for column in used)
    alike = [column for column in used if 2 * sum(shared[text] > 1 for text in column.values) >= len(column.values)]
    if not sure:
        return len(alike) == len(used) and total >= 2 * len(shared)
    few = all(column.values.total() <= 2 for column in used) and max(map(len, shared)) <= 40
    return few or total >= 2 * len(shared) or (2 * len(alike) >= len(used) and total > len(shared))


def _rows(columns: list[Column]) -> Iterator[tuple[str, ...]]:
    """Returns the cells of each row."""
    return zip(*(column.cells for column in columns), strict=True)


def _row_labels(columns: list[Column], options: list[str]) -> list[str]:
    return _distinct([option or column.name or column.label for column, option in zip(columns, options, strict=True)])


def _distinct(labels: list[str]) -> list[str]:
    """Returns the labels, with a number after each repeated one."""
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    result: list[str] = []
    for label in labels:
        seen[label] += 1
        made = label if seen[label] == 1 else f"{label} ({seen[label]})"
        while made in taken:
            seen[label] += 1
            made = f"{label} ({seen[label]})"
        taken.add(made)
        result.append(made)
    return result
