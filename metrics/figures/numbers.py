"""Numbers for display: each with its label, its text and the moment that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.http import HttpRequest

from events import head
from metrics.queries import Answer

POSITION: Final = "position"


@dataclass(frozen=True, slots=True)
class AsOf:
    """The position that a number includes, and when it was read."""

    position: int
    at: datetime

    @classmethod
    def of(cls, answer: Answer[Any]) -> AsOf:
        return cls(answer.position, answer.at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number on a page. `name` is unique there; `value` may be a moment; `note` explains the count."""

    name: str
    label: Any
    value: Any
    as_of: AsOf
    note: Any = ""


def wanted_position(request: HttpRequest) -> int:
    """The position that an open page was notified of (``?position=``); never beyond the end of the log."""
    text = _get(request.GET, POSITION)
    return min(int(text), head.newest()) if text.isdecimal() and len(text) < 19 else 0


def _get(query: Mapping[str, str], name: str) -> str:
    return query.get(name, "")
