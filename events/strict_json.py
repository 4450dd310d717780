"""Strict JSON: the reader of all JSON from outside, and the check of all JSON before it is stored. Pure.

PostgreSQL, orjson, msgspec, browsers and Python's `json` disagree about the edges of JSON (RFC 8259 §4, §6, §8; RFC
7493). Text that one of them refuses, rounds or reads differently is refused here, before it enters the append-only log:

    rule (`code`)      refused
    too_large          more bytes than the limit
    malformed          not UTF-8, or not JSON
    too_deep           arrays and objects nested more than `MAX_DEPTH` levels
    duplicate_key      a name that occurs twice in one object
    number_too_large   an integer outside 64 bits, a number outside the finite IEEE doubles
    not_finite         NaN, Infinity, -Infinity
    lone_surrogate     half of a surrogate pair
    nul_character      U+0000, which PostgreSQL cannot store

Numbers are read as `jsonb` returns them: a float that it writes without a point (1e16 to 2**64) as an integer, -0.0 as
0.0. `stored` reads stored JSON; all readers use it, so that all of them see the same value.

The cost grows linearly with the input.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

import orjson

from events import errors

MAX_BYTES: Final = 2 << 20
MAX_DEPTH: Final = 64
# Stored data may contain data that was read: a conflict contains a whole command, an export line a whole event.
MAX_STORED_DEPTH: Final = MAX_DEPTH + 16
# From the least signed to the greatest unsigned integer of 64 bits: all of them are exact in every reader but browsers.
INTEGERS: Final = range(-(2**63), 2**64)
MAX_DIGITS: Final = 20
# From here on `repr` and msgspec write a float with an exponent, and `jsonb` all its digits without a point.
POINTLESS: Final = 1e16
NUL_CHARACTER: Final = "Text must not contain the character U+0000 (NUL)."

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # unterminated: to the end, without backtracking
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# In JSON that msgspec wrote, a rule can only be broken by a long number, an escaped NUL, a null that was not a finite
# number, or deep nesting: `check_encoded` looks for those first. Digits as "0", opening brackets as "[", all else as
# "-": searching that takes a tenth of a regular expression's time.
_KINDS = bytes(ord("0") if byte in b"0123456789" else ord("[") if byte in b"[{" else ord("-") for byte in range(256))
_LONG_NUMBER = b"0" * 19
# A number with an exponent grows at most by this factor as `jsonb` text: "1e-308".
MAX_GROWTH: Final = 60


def loads(text: bytes | str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """JSON text as Python values. Raises `errors.InvalidJson`, whose `code` names the rule that was broken."""
    decoded = _decoded(text, max_bytes)
    if _deeper_than(decoded, max_depth):
        raise _too_deep(max_depth)
    try:
        value = json.loads(
            decoded,
            object_pairs_hook=_unique_keys,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise errors.InvalidJson("malformed", f"This is not JSON: {error.msg} at {where}.") from None
    if "\\u0000" in decoded or _SURROGATE_ESCAPE.search(decoded):
        _check_texts(value)
    return value


def check(value: Any, *, max_depth: int = MAX_STORED_DEPTH) -> None:
    """Raises `errors.InvalidJson` for Python values that storage would not return unchanged."""
    layer: Sequence[Any] = [value]
    for _ in range(max_depth + 1):
        for item in layer:
            _check_scalar(item)
        layer = [inner for outer in layer for inner in _inside(outer)]
        if not layer:
            return
    raise _too_deep(max_depth)


def check_encoded(data: bytes, source: Callable[[], Any], *, max_depth: int = MAX_STORED_DEPTH) -> None:
    """`check` for `data`, which msgspec encoded from `source`: a fast scan, and a full check only on suspicion.

    `source` returns the JSON values of the same data. Raises `errors.InvalidJson`.
    """
    kinds = data.translate(_KINDS)
    if b"null" in data or rb"\u0000" in data or _LONG_NUMBER in kinds or kinds.count(b"[") > max_depth:
        check(source(), max_depth=max_depth)


def stored(text: str | bytes) -> Any:
    """Stored JSON as Python values. Raises `ValueError` for a number that no reader can represent.

    An integer outside 64 bits is read as a float: `jsonb` writes 1e300 with all its digits.
    """
    return orjson.loads(text)


def has_long_number(text: str) -> bool:
    """True when the text may contain a number that `stored` and other readers read differently."""
    return _LONG_NUMBER in text.encode().translate(_KINDS)


def stored_size(data: bytes, source: Callable[[], Any]) -> int:
    """Bytes that `data` takes as `jsonb` text: numbers with exponents are written there with all their digits."""
    return len(data) + sum(map(_growth, _scalars(source())))


def _growth(item: Any) -> int:
    if not isinstance(item, float):
        return 0
    _, marked, exponent = repr(item).partition("e")
    return abs(int(exponent)) if marked else 0


def _scalars(value: Any) -> Iterator[Any]:
    """The value and all values inside it, names of objects too."""
    layer: Sequence[Any] = [value]
    while layer:
        yield from layer
        layer = [inner for outer in layer for inner in _inside(outer)]


def _decoded(text: bytes | str, max_bytes: int) -> str:
    if isinstance(text, str):
        try:
            encoded_size = len(text.encode())
        except UnicodeEncodeError:
            raise _lone_surrogate() from None
        decoded = text
    else:
        encoded_size = len(text)
        if encoded_size <= max_bytes:
            try:
                decoded = text.decode()
            except UnicodeDecodeError as error:
                raise errors.InvalidJson("malformed", f"This is not UTF-8: byte {error.start + 1}.") from None
    if encoded_size > max_bytes:
        raise errors.InvalidJson("too_large", f"This JSON has {encoded_size:,} bytes; at most {max_bytes:,}.")
    return decoded


def _deeper_than(text: str, levels: int) -> bool:
    """True when the nesting exceeds `levels`; checked before parsing, so that no parser recurses further."""
    if text.count("[") + text.count("{") <= levels:
        return False
    brackets = _NO_BRACKETS.sub("", _STRING.sub("", text))
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > levels


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise errors.InvalidJson("duplicate_key", f"The key {name!r} occurs twice in one object.")
            seen.add(name)
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS or (number := int(digits)) not in INTEGERS:
        raise _number_too_large(digits)
    return number


def _finite(digits: str) -> float | int:
    number = float(digits)
    if math.isinf(number):
        raise _number_too_large(digits)
    if abs(number) >= POINTLESS and (whole := int(number)) in INTEGERS:
        return whole
    return number + 0.0  # -0.0 becomes 0.0


def _no_constant(name: str) -> Any:
    raise errors.InvalidJson("not_finite", f"{name} is not a JSON number.")


def _check_texts(value: Any) -> None:
    for item in _scalars(value):
        if isinstance(item, str):
            _check_text(item)


def _check_scalar(item: Any) -> None:
    if isinstance(item, str):
        _check_text(item)
    elif isinstance(item, int):
        if item not in INTEGERS:
            raise _number_too_large(_shown(item))
    elif isinstance(item, float) and not math.isfinite(item):
        raise errors.InvalidJson("not_finite", f"{item} is not a JSON number.")


def _shown(number: int) -> str:
    """A number, or its size where it is longer than Python prints."""
    return str(number) if number.bit_length() < 1_000 else f"of {number.bit_length():,} bits"


def _check_text(text: str) -> None:
    if "\0" in text:
        raise errors.InvalidJson("nul_character", NUL_CHARACTER)
    if _SURROGATE.search(text):
        raise _lone_surrogate()


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    return value if isinstance(value, list | tuple) else ()


def _too_deep(levels: int) -> errors.InvalidJson:
    return errors.InvalidJson("too_deep", f"This JSON is nested more than {levels} levels deep.")


def _number_too_large(digits: str) -> errors.InvalidJson:
    return errors.InvalidJson("number_too_large", f"The number {digits[:30]} is too large; send it as text.")


def _lone_surrogate() -> errors.InvalidJson:
    return errors.InvalidJson("lone_surrogate", "Text must not contain half of a surrogate pair.")
