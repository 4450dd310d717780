"""The personal-data export as the API shows it."""

from __future__ import annotations

from backoffice.api import shapes
from events.types import JsonDict


class Person(shapes.Shape, frozen=True, kw_only=True):
    """Everything held about a user; records carry their events under `events`."""

    format: str
    head: int
    user: JsonDict
    events: list[JsonDict]
    forms: list[JsonDict]
    submissions: list[JsonDict]
    conflicts: list[JsonDict]
    audit: list[JsonDict]
