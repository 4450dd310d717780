"""Notes as the API shows them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from backoffice.api import shapes


class Note(shapes.Shape, frozen=True, kw_only=True):
    """A note in responses of the API."""

    id: UUID
    version: int
    title: str
    text: str
    pinned: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
