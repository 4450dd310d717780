"""Size limits of the parts of a record. Pure.

Events are kept for ever and every page that shows a change compares its texts and lists, so each has a limit. A limit
applies to the values that a command changes: stored values stay readable, and other fields stay editable.
All lengths are in characters (code points).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from events import errors

NAME: Final = 150
TITLE: Final = 300
DESCRIPTION: Final = 20_000
TYPE: Final = 100
QUESTION_TEXT: Final = 10_000  # a label, a help text, an option
ENTRIES: Final = 1_000  # in a list or map inside a question: its options, its rows
QUESTION_DEPTH: Final = 12
ANSWERS: Final = 5_000
ANSWER_TEXT: Final = 100_000
ANSWER_DEPTH: Final = 12
VALUE_TEXT: Final = 100_000
VALUE_ENTRIES: Final = 5_000
VALUE_DEPTH: Final = 32

Limit: TypeAlias = Callable[[Any, Any], None]
"""Checks a new value, given the stored one; raises `ValueError`."""


def check(state: Any, changed: Mapping[str, Any], limits: Mapping[str, Limit]) -> None:
    """Checks the values that a command changes. Raises `errors.InvalidCommand` with one message per field."""
    complaints: dict[str, str] = {}
    for name, limit in limits.items():
        if name in changed:
            try:
                limit(changed[name], getattr(state, name))
            except ValueError as error:
                complaints[name] = str(error)
    if complaints:
        raise errors.InvalidCommand(fields=complaints)


def text(most: int) -> Limit:
    """Returns a rule for the length of a text field."""

    def limit(value: str, _stored: Any) -> None:
        if len(value) > most:
            raise ValueError(f"This has {len(value):,} characters; at most {most:,} are accepted.")

    return limit


def questions(fields: Sequence[Any], stored: Sequence[Any]) -> None:
    """Checks the questions that differ from the stored question of the same id."""
    known = {field["id"]: field for field in stored if isinstance(field, dict) and isinstance(field.get("id"), str)}
    for field in fields:
        if field == known.get(field["id"]):
            continue
        name = field["id"][:50]
        if len(field["id"]) > NAME or len(field["type"]) > TYPE:
            raise ValueError(f"Field {name!r} has an id or a type that is too long.")
        size = measured(field)
        if size.depth > QUESTION_DEPTH:
            raise ValueError(
                f"Field {name!r} is nested {size.depth} levels deep; at most {QUESTION_DEPTH} are accepted."
            )
        if size.entries > ENTRIES:
            raise ValueError(
                f"Field {name!r} has a list of {size.entries:,} entries; at most {ENTRIES:,} are accepted."
            )
        if size.text > QUESTION_TEXT:
            raise ValueError(
                f"Field {name!r} has a text of {size.text:,} characters; at most {QUESTION_TEXT:,} are accepted."
            )


def answers(value: Mapping[str, Any], _stored: Any) -> None:
    if len(value) > ANSWERS:
        raise ValueError(f"There are {len(value):,} answers; at most {ANSWERS:,} are accepted.")
    _within(value, ANSWER_DEPTH, ANSWERS, ANSWER_TEXT)


def any_json(value: Any, _stored: Any) -> None:
    """Checks the value of a setting."""
    _within(value, VALUE_DEPTH, VALUE_ENTRIES, VALUE_TEXT)


def _within(value: Any, depth: int, entries: int, characters: int) -> None:
    size = measured(value)
    if size.depth > depth:
        raise ValueError(f"This is nested {size.depth} levels deep; at most {depth} are accepted.")
    if size.entries > entries:
        raise ValueError(f"This has a list of {size.entries:,} entries; at most {entries:,} are accepted.")
    if size.text > characters:
        raise ValueError(f"This has a text of {size.text:,} characters; at most {characters:,} are accepted.")


class Size:
    """The size of a JSON value: longest text, longest list or map, nesting depth."""

    __slots__ = ("depth", "entries", "text")

    def __init__(self) -> None:
        self.depth = self.entries = self.text = 0


def measured(value: Any) -> Size:
    """Measures a JSON value in one pass, level by level; keys of maps count as text."""
    size = Size()
    layer: Iterable[Any] = (value,)
    while True:
        inner: list[Any] = []
        found = False
        for each in layer:
            if isinstance(each, str):
                size.text = max(size.text, len(each))
            elif isinstance(each, dict):
                found = True
                size.entries = max(size.entries, len(each))
                inner += each.keys()
                inner += each.values()
            elif isinstance(each, list | tuple):
                found = True
                size.entries = max(size.entries, len(each))
                inner += each
        if not found:
            return size
        size.depth += 1
        layer = inner
