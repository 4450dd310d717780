"""Struct of the personal-data export."""

from __future__ import annotations

from backoffice.api import shapes
from events.types import JsonDict


class PersonalDataExport(shapes.Shape, frozen=True, kw_only=True):
    """The personal data of a user. Each record has its events under `events`."""

    format: str
    head: int
    user: JsonDict
    events: list[JsonDict]
    forms: list[JsonDict]
    submissions: list[JsonDict]
    conflicts: list[JsonDict]
    audit: list[JsonDict]
