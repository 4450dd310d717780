"""Readers for the notations in which survey tools write one question over several columns, in one table. Pure.

A reader returns the `Stem` of a column: the common part of the headers, the question, and the column's answer option
(or row of a matrix). Neighbours with the same stem are a run; `groups` decides its kind by the cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from backoffice.sections.imports.headers import Column


@dataclass(frozen=True, slots=True)
class Stem:
    """The header of a column, analysed: `key` is equal for all columns of a question; cells name an empty `option`."""

    key: object
    label: str
    option: str


@dataclass(frozen=True, slots=True)
class Notation:
    """A reader; `sure`: only columns of one question have such headers."""

    tools: str
    read: Callable[[Column], Stem | None]
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring columns of one stem, with their options."""

    notation: Notation
    label: str
    columns: list[Column]
    options: list[str]


def _enclosed(opening: str, closing: str) -> Callable[[Column], Stem | None]:
    """Returns a reader of headers that end with the option in brackets: `Rate [Food]`, `Symptoms (choice=Fever)`."""

    def read(column: Column) -> Stem | None:
        before, mark, option = column.question.rpartition(opening)
        if not mark or not before.strip() or not option.endswith(closing) or not option[:-1].strip():
            return None
        return Stem(before.strip(), before.strip(), option[:-1].strip().strip("'\""))

    return read


def _behind(mark: str) -> Callable[[Column], Stem | None]:
    """Returns a reader of headers with the option after the last mark: `Rate >> Crust`, `crops/maize`."""

    def read(column: Column) -> Stem | None:
        before, found, option = column.question.rpartition(mark)
        if not found or not before.strip() or not option.strip():
            return None
        return Stem(before.strip(), before.strip(), option.strip())

    return read


def _header_rows(column: Column) -> Stem | None:
    """Reads SurveyMonkey: the question in the first header row, the option in the second."""
    return Stem(column.group, column.question, column.option) if column.group is not None else None


def _checkbox_code(column: Column) -> Stem | None:
    """Reads REDCap: `symptoms___1`; a minus in the code is one more underscore (`symptoms____99`)."""
    stem, mark, code = (column.name or column.question).rpartition("___")
    if stem.endswith("_"):
        stem, code = stem[:-1], f"-{code}"
    if not mark or not _WORD.search(stem[-1:]) or not _WORDS.fullmatch(code.removeprefix("-")):
        return None
    return Stem(stem, stem, code)


_WORD, _WORDS = re.compile(r"[^\W_]"), re.compile(r"\w+")
_SUBQUESTION = re.compile(r"_\d{1,4}(?:_TEXT)?$")


def _named_subquestion(column: Column) -> Stem | None:
    """Reads Qualtrics: the name `Q5_1` over the text `Please rate: - Price`; `Q3_4_TEXT` is the text of "Other"."""
    found = _SUBQUESTION.search(column.name) if column.name else None
    question, mark, option = column.question.partition(" - ")
    if found is None or not mark or not question or not option:
        return None
    return Stem(column.name[: found.start()], question, option.removeprefix("Selected Choice - "))


_NUMBERED = re.compile(r"[_.](?:\d{1,4}|SQ\d{1,4}|other)$")
_SEPARATOR = re.compile(r"(?::| [-–—>|/]) |(?<=\S)/(?=\S)")


def _numbered(column: Column) -> Stem | None:
    """Reads statistics programs: `q4_1`, `q4_2`; LimeSurvey: `Q2_SQ001`, `Q2_other`.

    The label may be in another header row ("Which of these? - Milk").
    """
    name = column.name or column.question
    found = _NUMBERED.search(name)
    if found is None or not _WORD.search(name, 0, found.start()):
        return None
    key = name[: found.start()]
    marks = list(_SEPARATOR.finditer(column.question)) if column.name else []
    if not marks:
        code = found[0][1:]
        return Stem(key, column.question if column.name else key, "" if code.isdigit() else code)
    return Stem(key, column.question[: marks[-1].start()], column.question[marks[-1].end() :])


def _split(which: int) -> Callable[[Column], Stem | None]:
    """Returns a reader of headers of any tool: the question, a separator, the option."""

    def read(column: Column) -> Stem | None:
        marks = [mark for mark in _SEPARATOR.finditer(column.question) if mark.start()]
        if not marks or not column.question[marks[which].end() :].strip():
            return None
        stem = column.question[: marks[which].start()].strip()
        return Stem(stem, stem, column.question[marks[which].end() :].strip())

    return read


def _in_parentheses(column: Column) -> Stem | None:
    """Reads Tally: `Which days? (Monday (morning))`, with the parenthesis that closes at the end."""
    text = column.question
    depth, at = 0, len(text)
    while at and (depth or at == len(text)) and text.endswith(")"):
        at -= 1
        depth += (text[at] == ")") - (text[at] == "(")
    stem, option = text[:at].strip(), text[at + 1 : -1].strip()
    return Stem(stem, stem, option) if stem and option and not depth else None


def _option_first(column: Column) -> Stem | None:
    """Reads Alchemer: `Milk:Which do you drink?`."""
    option, mark, stem = column.question.partition(":")
    return Stem(stem, stem, option) if mark and stem and stem == stem.lstrip() and option else None


def _repeated(column: Column) -> Stem | None:
    """Reads a repeated header, also as pandas writes it: `Q`, `Q.1`, `Q.2`."""
    stem = re.sub(r"\.\d{1,3}$", "", column.question)
    return Stem(stem, stem, "") if stem else None


def _continued(column: Column) -> Stem | None:
    """Reads a blank header after a question, in a file with one header row."""
    return Stem("", column.question, "") if column.group is None else None


def _option_alone(column: Column) -> Stem | None:
    """Reads Typeform: the header is the option, and so is each cell that is not blank."""
    return Stem("", "", column.question) if column.question and set(column.values) == {column.question} else None


NOTATIONS: tuple[Notation, ...] = (
    Notation("SurveyMonkey", _header_rows, sure=True),
    Notation("REDCap, labels", _enclosed("(choice=", ")"), sure=True),
    Notation("REDCap, raw", _checkbox_code, sure=True),
    Notation("LimeSurvey, Google Forms, Zoho", _enclosed("[", "]"), sure=True),
    Notation("Jotform", _behind(">>"), sure=True),
    Notation("Qualtrics", _named_subquestion, sure=True),
    Notation("statistics programs", _numbered),
    Notation("KoBoToolbox, ODK", _behind("/")),
    Notation("any, at the last separator", _split(-1)),
    Notation("any, at the first separator", _split(0)),
    Notation("Tally", _in_parentheses),
    Notation("Alchemer", _option_first),
    Notation("repeated headers", _repeated),
    Notation("Typeform", _option_alone),
    Notation("blank headers", _continued),
)
BENEATH = Notation("KoBoToolbox, ODK, Tally: tick boxes behind the column that joins them", lambda _: None)
_AFTER = re.compile(r"\s*(?:/|>>|: | - |\.)\s*(?P<bare>\S.*)|\s*[(\[](?P<enclosed>.+)[)\]]", re.DOTALL)


class Stems:
    """Computes the stem that each reader finds in each column, once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Stem | None] = {}

    def of(self, column: Column, notation: Notation) -> Stem | None:
        key = (notation.tools, column.index)
        if key not in self._known:
            self._known[key] = notation.read(column)
        return self._known[key]


def run(columns: Sequence[Column], at: int, notation: Notation, stems: Stems) -> Run | None:
    """Returns the run of neighbours that begins at `at`, if it has at least two columns."""
    first = stems.of(columns[at], notation)
    if first is None:
        return None
    found, options = [columns[at]], [first.option]
    for column in islice(columns, at + 1, None):
        stem = stems.of(column, notation)
        adjacent = column.index == found[-1].index + 1
        unlike = stem is None or (column.question if notation.read is _continued else stem.key != first.key)
        if stem is None or unlike or not adjacent:
            break
        found.append(column)
        options.append(stem.option)
    return Run(notation, first.label, found, options) if len(found) > 1 else None


def beneath(columns: Sequence[Column], at: int) -> Run | None:
    """Returns the columns after `at` whose headers are its header and one option.

    The cells of column `at` join the options that these columns tick.
    """
    head = columns[at]
    found: list[Column] = []
    options: list[str] = []
    for column in islice(columns, at + 1, None):
        option = _option_of(head.question, column.question)
        if option is None or column.index != head.index + len(found) + 1:
            break
        found.append(column)
        options.append(option)
    return Run(BENEATH, head.question, found, options) if found and head.group is None else None


def _option_of(question: str, header: str) -> str | None:
    if not question or not header.startswith(question):
        return None
    found = _AFTER.fullmatch(header, len(question))
    return (found["bare"] or found["enclosed"]).strip() if found else None
