"""Users as the API shows them. A field that some role never sees may be missing, hence `UNSET`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, UnsetType

from backoffice import values
from backoffice.api import shapes


class User(shapes.Shape, frozen=True, kw_only=True):
    """A FormEase customer."""

    id: UUID
    version: int
    email: str | UnsetType = UNSET
    first_name: str
    last_name: str
    plan: values.Plan
    role: values.Role
    last_login: datetime | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    erased_at: datetime | None
