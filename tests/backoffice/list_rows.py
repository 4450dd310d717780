"""Rows of read tables for tests of lists, and walks through their pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from backoffice import listing, models
from backoffice.listing import Page
from events.types import new_id

START = datetime(2026, 1, 1, tzinfo=UTC)


def user(number: int, **fields: Any) -> models.User:
    given = {
        "id": new_id(),
        "email": f"person{number:05}@example.org",
        "first_name": "Ada",
        "last_name": f"Person {number}",
        "plan": "free",
        "role": "member",
        "created_at": START + timedelta(minutes=number),
        "version": 1,
        "updated_at": START,
    }
    return models.User(**{**given, **fields})


def users(count: int, **fields: Any) -> list[models.User]:
    return models.User.objects.bulk_create(user(number, **fields) for number in range(count))


def form(owner: models.User, title: str, **fields: Any) -> models.Form:
    given = {"id": new_id(), "user": owner, "title": title, "created_at": START, "version": 1, "updated_at": START}
    return models.Form(**{**given, **fields})


def submission(form: models.Form, created_at: datetime) -> models.Submission:
    return models.Submission(id=new_id(), form=form, created_at=created_at, version=1, updated_at=START)


def pages(spec: str | listing.Spec, **question: Any) -> Iterator[Page]:
    """All pages of a list, from the first one by `next_cursor`."""
    cursor = None
    while True:
        page = listing.page(spec, cursor=cursor, **question)
        yield page
        if not page.has_next:
            assert page.next_cursor is None
            return
        cursor = page.next_cursor


def walk(spec: str | listing.Spec, **question: Any) -> list[Any]:
    return [item.pk for page in pages(spec, **question) for item in page.items]


def walk_back(spec: str | listing.Spec, **question: Any) -> list[Any]:
    """The keys of all pages from the last one by `previous_cursor`, in the order of the list."""
    *_, page = pages(spec, **question)
    parts = [[item.pk for item in page.items]]
    while page.has_previous:
        page = listing.page(spec, cursor=page.previous_cursor, **question)
        parts.insert(0, [item.pk for item in page.items])
    return [key for part in parts for key in part]


def plans(spec: str | listing.Spec, **question: Any) -> list[str]:
    """Executed query plans of the statements with which one page reads its table."""
    table = listing.SPECS[spec].model._meta.db_table if isinstance(spec, str) else spec.model._meta.db_table
    with CaptureQueriesContext(connection) as queries:
        listing.page(spec, **question)
    found = []
    with connection.cursor() as cursor:
        for query in queries:
            if f'"{table}"' in query["sql"] and not query["sql"].startswith("EXPLAIN"):
                cursor.execute(f"explain (analyze, costs off, timing off, summary off, buffers off) {query['sql']}")
                found.append("\n".join(row[0] for row in cursor.fetchall()))
    return found
