"""Long lists as PostgreSQL's binary arrays, for `pipeline`.

psycopg adapts one element at a time: for the thousand names of an import that takes longer than the query.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from itertools import chain
from struct import pack
from typing import Any, ClassVar, Final

from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.postgres import types

_NULL: Final = pack("!i", -1)


class Array:
    """A list as a query parameter; subclasses define the element type."""

    __slots__ = ("elements",)
    name: ClassVar[str]

    def __init__(self, elements: Iterable[Any]) -> None:
        self.elements: Sequence[Any] = tuple(elements)

    def encoded(self) -> list[bytes]:
        """Each element's length and bytes."""
        raise NotImplementedError


class Texts(Array):
    name = "text"

    def encoded(self) -> list[bytes]:
        return _measured([text.encode() for text in self.elements])


class Jsons(Array):
    """An array of `jsonb`; its elements are `bytes` that are JSON already."""

    name = "jsonb"

    def encoded(self) -> list[bytes]:
        return _measured([b"\1" + text for text in self.elements])  # version 1 of jsonb's binary format is its text


class Uuids(Array):
    name = "uuid"
    elements: Sequence[uuid.UUID]

    def encoded(self) -> list[bytes]:
        return [b"\0\0\0\x10" + element.bytes for element in self.elements]


class Numbers(Array):
    """An array of `int8`; its elements are `int` within 64 bits, or None."""

    name = "int8"

    def encoded(self) -> list[bytes]:
        return [_NULL if number is None else pack("!iq", 8, number) for number in self.elements]


def _measured(values: Sequence[bytes]) -> list[bytes]:
    return list(chain.from_iterable((len(value).to_bytes(4), value) for value in values))


class _Dumper(Dumper):
    format = pq.Format.BINARY
    element: ClassVar[int]

    def dump(self, obj: Array) -> Buffer | None:
        # number of dimensions, "may contain nulls", type; then the length and the lower bound of the one dimension
        head = (
            pack("!5i", 1, 1, self.element, len(obj.elements), 1) if obj.elements else pack("!3i", 0, 0, self.element)
        )
        return b"".join([head, *obj.encoded()])


_DUMPERS: Final = [
    (of, type(f"{of.__name__}Dumper", (_Dumper,), {"oid": types[of.name].array_oid, "element": types[of.name].oid}))
    for of in (Texts, Jsons, Uuids, Numbers)
]


def register(adapters: AdaptersMap) -> None:
    """Register the array types with a connection's adapters."""
    for of, dumper in _DUMPERS:
        adapters.register_dumper(of, dumper)
