"""Bodies as JSON, read strictly: what one reader would take differently from another is refused, not guessed at.

orjson checks the syntax (no NaN, no lone surrogates, UTF-8 only); a second look, with the standard library, finds what
orjson lets pass: a key that occurs twice, an integer too large to be kept exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

import orjson
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.parsers import BaseParser

from backoffice.api import problems

MAX_DEPTH: Final = 64
INTEGERS: Final = range(-(2**63), 2**64)
MAX_DIGITS: Final = 20


class JSONParser(BaseParser):
    """`application/json`. Raises 400 with a code that says which rule was broken, or 413."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return loads(read(stream))


class AnyJSONParser(JSONParser):
    """JSON under whatever content type; for addresses that look at the type themselves."""

    media_type = "*/*"


def read(stream: IO[Any]) -> bytes:
    """The body, no more than `DATA_UPLOAD_MAX_MEMORY_SIZE` of it."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise RequestDataTooBig
    return body


def loads(body: bytes) -> Any:
    """JSON as Python values. Raises `problems.Problem` (400)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth" in str(error):
            raise _too_deep() from None
        raise problems.malformed(f"The body is not JSON: {error}.") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise _too_deep()
    if b"\\u0000" in body and holds_nul(value):
        raise problems.malformed("Text must not hold the character U+0000.", "nul_character")
    return json.loads(body, object_pairs_hook=_without_twins, parse_int=_exact)


def _too_deep() -> problems.Problem:
    return problems.malformed(f"The body is nested more than {MAX_DEPTH} levels deep.", "too_deep")


def _without_twins(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise problems.malformed(f"The key {twin!r} occurs twice in one object.", "duplicate_key")
    return found


def _exact(digits: str) -> int:
    if len(digits) > MAX_DIGITS or (number := int(digits)) not in INTEGERS:
        raise problems.malformed(f"The integer {digits[:30]} is too large; send it as text.", "number_too_large")
    return number


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        layer = [inner for outer in layer for inner in _inside(outer)]
        if not layer:
            return False
    return True


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    names = value.keys() if isinstance(value, dict) else ()
    return any("\0" in name for name in names) or any(holds_nul(inner) for inner in _inside(value))
