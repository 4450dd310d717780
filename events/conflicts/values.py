"""JSON values in a merge: equality, paths, and the records of conflicts, notes and changes.

Missing is not null: an absent field is `UNSET` here, and omitted from the JSON form.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any

import msgspec

UNSET = msgspec.UNSET
_encode = msgspec.json.Encoder().encode

# -- equality ---------------------------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def is_id(value: Any) -> bool:
    """True when the value can identify an item: it is a string or an integer."""
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def same(a: Any, b: Any) -> bool:
    """Deep equality of JSON values: 1 is 1.0, True is not 1, missing is not null, text by code point."""
    if a is b:
        return True
    kind = type(a)
    if kind is str:
        return kind is type(b) and bool(a == b)
    if kind in (dict, list) and a == b and _same_json_text(a, b):
        return True
    return _same_slowly(a, b)


def json_text(value: Any) -> bytes | None:
    """A value as JSON text; None if JSON cannot represent it. Equal texts mean equal values, not conversely."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError):
        return None


def may_contain(value: Any, name: str) -> bool:
    """True when a map inside the value may have this property; False only when none has it."""
    text = json_text(value)
    return text is None or _encode(name) + b":" in text


def _same_json_text(a: Any, b: Any) -> bool:
    """True when two values have the same JSON text, unlike True and 1. Much faster than comparing part by part."""
    text = json_text(a)
    return text is not None and text == json_text(b)


def _same_slowly(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and len(a) == len(b) and all(k in b and same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return (type(a) is type(b) or (is_number(a) and is_number(b))) and bool(a == b)


_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)


def instant(value: Any) -> Any:
    """A comparable form of a time with an offset; any other value (no offset, invalid date) unchanged."""
    if isinstance(value, datetime):
        value = value.isoformat()
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = found.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), tzinfo=timezone.utc)  # noqa: UP017
    except ValueError:
        return value
    offset = (int(off_hours or 0) * 60 + int(off_minutes or 0)) * 60
    seconds = int(at.timestamp()) - (-offset if sign == "-" else offset)
    return ["instant", seconds, (fraction or "").rstrip("0")]


def key(value: Any) -> str:
    """A string key for an id, the same for 1 and 1.0. Text is its own key."""
    if isinstance(value, str):
        return value
    return json.dumps(_canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def element(value: Any) -> str:
    """A string key for an element of a set: like `key`, but the text "1" and the number 1 differ."""
    if isinstance(value, str):
        return encode_basestring(value)
    return json.dumps(_canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(each) for each in value]
    return value


# -- paths ------------------------------------------------------------------------------------------------------------
# "email", "settings.theme", "fields[q3].label": names and item ids, special characters escaped by a backslash.

_NAME = re.compile(r"[\\.\[\]]")
_ITEM = re.compile(r"[\\\]]")
_STEP = re.compile(r"\[((?:[^\\\]]|\\.)*)\]|\.?((?:[^\\.\[\]]|\\.)*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def at_name(path: str, name: str) -> str:
    """The path of a property."""
    escaped = _escape_name(name)
    return f"{path}.{escaped}" if path else escaped


def at_item(path: str, item: str) -> str:
    """The path of an item of a keyed list."""
    return f"{path}[{_escape_item(item)}]"


@lru_cache(maxsize=4096)
def _escape_name(name: str) -> str:
    return _NAME.sub(r"\\\g<0>", name)


@lru_cache(maxsize=4096)
def _escape_item(item: str) -> str:
    return _ITEM.sub(r"\\\g<0>", item)


def steps(path: str) -> tuple[str, ...]:
    """A path as its names and ids: ``fields[q3].label`` is ``("fields", "q3", "label")``.

    Never empty: text that is no path (``[[[``) becomes one name that no record has.
    """
    return _walked(path)[0] or (path,)


def is_path(path: str) -> bool:
    """True when the whole text is a path of names and ids."""
    found, reached = _walked(path)
    return bool(found) and reached == len(path)


def _walked(path: str) -> tuple[tuple[str, ...], int]:
    """Parses the names and ids at the beginning of a text; returns them and the length parsed."""
    found: list[str] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or match.end() == position:
            break
        item, name = match.groups()
        found.append(_ESCAPED.sub(r"\1", name if item is None else item))
        position = match.end()
    return tuple(found), position


# -- conflicts, notes and changes -------------------------------------------------------------------------------------


class FieldConflict(msgspec.Struct, frozen=True, kw_only=True):
    """A value about which a person must decide.

    A value that is missing on a side is `UNSET`, and absent from the JSON form.

    path    ``email``, ``fields[q3].label``; of a group its parent and its fields joined by ``+``
    kind    both_changed | deleted_here (I deleted, they edited) | deleted_there | group | order |
            illegal_transition | check
    fields  group: its fields; order: the ids whose moves contradict
    code    check: the violation (``duplicate``, ``dangling``, ``cycle``, or a domain's own code)
    also    check: other paths at which a choice corrects it too
    """

    path: str
    kind: str
    base: Any = UNSET
    theirs: Any = UNSET
    mine: Any = UNSET
    fields: tuple[str, ...] = ()
    code: str = ""
    also: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        return steps(self.path)

    def to_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in shown.items() if value or name in _SIDES}


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One change that a merge took over, and from which side.

    origin  theirs | mine | both
    kind    changed | added | removed | moved | combined (a counter, a set, a text of both) |
            overwrote (mine replaced their change, as `LAST_WRITE` asks) | ignored (mine, on a `SERVER_ONLY` field)
    """

    path: str
    origin: str
    kind: str

    def to_dict(self) -> dict[str, str]:
        return {"path": self.path, "origin": self.origin, "kind": self.kind}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference between two versions.

    kind    added | removed | changed | moved (then before and after are indexes in the list)
    """

    path: str
    kind: str
    before: Any = UNSET
    after: Any = UNSET

    def to_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = msgspec.to_builtins(self)
        return shown


_SIDES = frozenset({"base", "theirs", "mine", "path", "kind"})
