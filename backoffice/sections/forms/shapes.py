"""Forms as the API shows them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from backoffice.api import shapes
from events.types import JsonDict


class Form(shapes.Shape, frozen=True, kw_only=True):
    """A form; `fields` is a list of `{id, type, label, help, required, options, page, …}`."""

    id: UUID
    version: int
    user_id: UUID
    title: str
    description: str
    fields: list[JsonDict]
    archived: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    erased_at: datetime | None
