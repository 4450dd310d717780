"""Writes rows into the read tables that the views read, and opens other sessions."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from django.db import connection

from events import store
from events.types import new_id
from tests.events import effects

USER = """
insert into users (id, email, first_name, last_name, plan, role, last_login, created_at, deleted_at, version,
                   updated_at)
values (%s, %s, '', '', %s, 'member', %s, %s, %s, 1, now())
"""
FORM = """
insert into forms (id, user_id, title, description, fields, archived, created_at, deleted_at, version, updated_at)
values (%s, %s, 'F', '', '[]', false, %s, %s, 1, now())
"""
SUBMISSION = """
insert into submissions (id, form_id, answers, completion_time, created_at, deleted_at, version, updated_at)
values (%s, %s, '{}', %s, %s, %s, 1, now())
"""


def now() -> datetime:
    found: datetime = store.query("select now()")[0][0]
    return found.astimezone(UTC)


def today() -> date:
    return now().date()


def noon(days_ago: int) -> datetime:
    return now().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)


def user(plan: str = "free", created: datetime | None = None, **more: Any) -> Any:
    key = new_id()
    address = f"{key}@example.org"
    store.execute(USER, (key, address, plan, more.get("last_login"), created or noon(100), more.get("deleted_at")))
    return key


def form(owner: Any, created: datetime, deleted_at: datetime | None = None) -> Any:
    key = new_id()
    store.execute(FORM, (key, owner, created, deleted_at))
    return key


def submission(
    form_id: Any, created: datetime, seconds: float | None = None, deleted_at: datetime | None = None
) -> Any:
    key = new_id()
    store.execute(SUBMISSION, (key, form_id, seconds, created, deleted_at))
    return key


def session(**options: Any) -> psycopg.Connection[Any]:
    """Another session on the database of this test."""
    assert connection.settings_dict["NAME"].endswith("_own")
    return psycopg.connect(effects.database_url(), **options)
