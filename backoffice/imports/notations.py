"""How survey tools write one question over several columns: a small reader for each notation, behind one table. Pure.

A reader takes a column and gives its `Stem`: what the columns of one question share, the question, and this column's
answer option (or row of a matrix). Neighbours with the same stem are a run; `groups` decides by the cells what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backoffice.imports.headers import Column


@dataclass(frozen=True, slots=True)
class Stem:
    """`key` is equal for all columns of a question. An empty `option` means that only the cells can name it."""

    key: object
    label: str
    option: str


@dataclass(frozen=True, slots=True)
class Notation:
    """`sure`: only columns of one question are headed like this."""

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


def _shaped(shape: str, *, boxed: bool = False) -> Callable[[Column], Stem | None]:
    """A reader of headers with the question and the option in one text, by a pattern with `stem` and `option`."""
    pattern = re.compile(shape, re.DOTALL)

    def read(column: Column) -> Stem | None:
        found = pattern.fullmatch(column.question)
        if found is None:
            return None
        stem, option = found["stem"].strip(), found["option"].strip()
        return Stem((stem, boxed), stem, option.strip("'\"") if boxed else option)

    return read


def _header_rows(column: Column) -> Stem | None:
    """SurveyMonkey: the question in the first header row, the option in the second."""
    return Stem(column.group, column.question, column.option) if column.group is not None else None


_CODE = re.compile(r"(?P<stem>.*[^\W_].*?)___(?P<option>_?\w+)")


def _checkbox_code(column: Column) -> Stem | None:
    """REDCap: `symptoms___1`; a minus in the code is one more underscore (`symptoms____99`)."""
    found = _CODE.fullmatch(column.name or column.question)
    return Stem(found["stem"], found["stem"], re.sub(r"^_", "-", found["option"])) if found else None


_SUBQUESTION = re.compile(r"(?P<stem>[^\W_].*?)_(?P<number>\d{1,4})(?:_TEXT)?")
_BEHIND_DASH = re.compile(r"(?P<stem>.*?\S)\s+-\s+(?P<option>\S.*)", re.DOTALL)


def _named_subquestion(column: Column) -> Stem | None:
    """Qualtrics: the name `Q5_1` over the text `Please rate: - Price`; `Q3_4_TEXT` is the text of "Other"."""
    found = _SUBQUESTION.fullmatch(column.name) if column.name else None
    text = _BEHIND_DASH.fullmatch(column.question)
    if found is None or text is None:
        return None
    return Stem(found["stem"], text["stem"], text["option"])


_NUMBERED = re.compile(r"(.*[^\W_].*?)[_.](?:\d{1,4}|SQ\d{1,4}|other)")
_SEPARATOR = re.compile(r"(?::| [-–—>|/]) |(?<=\S)/(?=\S)")


def _numbered(column: Column) -> Stem | None:
    """Statistics programs: `q4_1`, `q4_2`; the label may be in another header row ("Which of these? - Milk")."""
    found = _NUMBERED.fullmatch(column.name or column.question)
    if found is None:
        return None
    marks = list(_SEPARATOR.finditer(column.question)) if column.name else []
    if not marks:
        return Stem(found[1], column.question if column.name else found[1], "")
    return Stem(found[1], column.question[: marks[-1].start()], column.question[marks[-1].end() :])


def _split(which: int) -> Callable[[Column], Stem | None]:
    """Any tool: the question, a separator, the option."""

    def read(column: Column) -> Stem | None:
        marks = [m for m in _SEPARATOR.finditer(column.question) if column.question[: m.start()].strip()]
        if not marks or not column.question[marks[which].end() :].strip():
            return None
        stem = column.question[: marks[which].start()].strip()
        return Stem(stem, stem, column.question[marks[which].end() :].strip())

    return read


def _option_first(column: Column) -> Stem | None:
    """Alchemer: `Milk:Which do you drink?`."""
    option, mark, stem = column.question.partition(":")
    return Stem(stem, stem, option) if mark and stem and stem == stem.lstrip() and option else None


def _repeated(column: Column) -> Stem | None:
    """The same header again, also as pandas writes it: `Q`, `Q.1`, `Q.2`."""
    stem = re.sub(r"\.\d{1,3}$", "", column.question)
    return Stem(stem, stem, "") if stem else None


def _continued(column: Column) -> Stem | None:
    """A blank header after a question, in a file with one header row."""
    return Stem("", column.question, "") if column.group is None else None


def _option_alone(column: Column) -> Stem | None:
    """Typeform: the header is the option, and so is each cell that is not blank."""
    return Stem("", "", column.question) if column.question and set(column.values) == {column.question} else None


NOTATIONS: tuple[Notation, ...] = (
    Notation("SurveyMonkey", _header_rows, sure=True),
    Notation("REDCap, labels", _shaped(r"(?P<stem>.*\S)\s*\(choice=(?P<option>.+)\)", boxed=True), True),
    Notation("REDCap, raw", _checkbox_code, sure=True),
    Notation("LimeSurvey, Google Forms, Zoho", _shaped(r"(?P<stem>.*\S)\s*\[(?P<option>[^\[\]]+)\]"), sure=True),
    Notation("Jotform", _shaped(r"(?P<stem>.*\S)\s*>>\s*(?P<option>\S.*)"), sure=True),
    Notation("Qualtrics", _named_subquestion, sure=True),
    Notation("statistics programs", _numbered),
    Notation("KoBoToolbox, ODK", _shaped(r"(?P<stem>.*\S)/(?P<option>[^/\s][^/]*)")),
    Notation("any, at the last separator", _split(-1)),
    Notation("any, at the first separator", _split(0)),
    Notation("Tally", _shaped(r"(?P<stem>.*\S)\s*\((?P<option>[^()]*(?:\([^()]*\)[^()]*)*)\)")),
    Notation("Alchemer", _option_first),
    Notation("repeated headers", _repeated),
    Notation("Typeform", _option_alone),
    Notation("blank headers", _continued),
)
BENEATH = Notation("KoBoToolbox, ODK, Tally: tick boxes behind the column that joins them", lambda _: None)
_AFTER = re.compile(r"\s*(?:/|>>|: | - |\.)\s*(?P<bare>\S.*)|\s*[(\[](?P<enclosed>.+)[)\]]", re.DOTALL)


def run(columns: Sequence[Column], at: int, notation: Notation) -> Run | None:
    """The run of neighbours that begins at `at`, of two columns at least."""
    first = notation.read(columns[at])
    if first is None:
        return None
    found, options = [columns[at]], [first.option]
    for column in columns[at + 1 :]:
        stem = notation.read(column)
        adjacent = column.index == found[-1].index + 1
        unlike = stem is None or (column.question if notation.read is _continued else stem.key != first.key)
        if stem is None or unlike or not adjacent:
            break
        found.append(column)
        options.append(stem.option)
    return Run(notation, first.label, found, options) if len(found) > 1 else None


def beneath(columns: Sequence[Column], at: int) -> Run | None:
    """The columns behind `at` that repeat its header with an option each: it joins in one cell what they tick."""
    head = columns[at]
    found: list[Column] = []
    options: list[str] = []
    for column in columns[at + 1 :]:
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
