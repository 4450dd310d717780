"""Submissions as the API shows them. A field that some role never sees may be missing, hence `UNSET`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, UnsetType

from backoffice.api import shapes
from events.types import JsonDict


class Submission(shapes.Shape, frozen=True, kw_only=True):
    """A submission to a form: `answers` maps field ids to values, `completion_time` is in seconds."""

    id: UUID
    version: int
    form_id: UUID
    answers: JsonDict | UnsetType = UNSET
    started_at: datetime | UnsetType | None = UNSET
    completion_time: float | UnsetType | None = UNSET
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
