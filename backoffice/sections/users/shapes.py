"""Users as the API shows them. A field that some role never sees may be missing, hence `UNSET`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
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


class UserItem(User, frozen=True, kw_only=True):
    """A user in a list, with what they have: living forms, their living submissions, those of the last 30 days."""

    form_count: int
    submission_count: int
    recent_submissions: int


COUNTS = """
select f.user_id, count(*), sum(answered.number)::bigint, sum(answered.recent)::bigint
  from forms f cross join lateral (
       select count(*) as number, count(*) filter (where s.created_at >= now() - interval '30 days') as recent
         from submissions s where s.form_id = f.id and s.deleted_at is null) answered
 where f.user_id = any(%s) and f.deleted_at is null group by f.user_id
"""


def add_counts(users: Sequence[dict[str, Any]]) -> None:
    """Forms and submissions of the users on one page: one statement for all of them."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, [[user["id"] for user in users]])
        found = {owner: counts for owner, *counts in cursor.fetchall()}
    for user in users:
        names = ("form_count", "submission_count", "recent_submissions")
        user |= dict(zip(names, found.get(user["id"], (0, 0, 0)), strict=True))
