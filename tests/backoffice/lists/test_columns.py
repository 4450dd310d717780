"""Lists read as columns (API) have the rows, order and values of lists read as models (admin)."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db import models as django_models
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from backoffice import listing, models, section
from backoffice.listing import Columns, ForeignColumn, Sort, Spec, Through, statements
from metrics.counters.models import UserStats
from tests.backoffice import api_client, list_rows
from tests.backoffice.list_rows import START

pytestmark = pytest.mark.django_db

FIELDS = ("id", "email", "first_name", "last_name", "plan", "last_login", "created_at", "deleted_at", "version")
COUNTS = Through(UserStats, "user_id")
READ = Columns.of(FIELDS, {"form_count": ForeignColumn(COUNTS, "form_count", 0)})
SORTS = ("created_at", "email", "last_login", "name", "counted", "last_counted")
FILTERS: tuple[dict[str, str], ...] = (
    {},
    {"plan": "premium"},
    {"active": "true"},
    {"active": "false"},
    {"deleted": "true"},
    {"deleted": "any"},
    {"deleted": "any", "plan": "free"},
    {"created_after": "2026-01-02", "role": "member"},
)
few = st.integers(0, 2)
ROWS = st.lists(st.tuples(few, few, few, st.booleans(), st.booleans(), st.booleans()), max_size=16)


def users() -> Spec:
    """The list of users, with two more sorts by counts: without and with null values."""
    spec = listing.SPECS["users"]
    counted = Sort("form_count", parse=int, through=COUNTS)
    last = Sort("last_at", nullable=True, parse=listing.CREATED.parse, through=COUNTS)
    return dataclasses.replace(spec, sorts={**spec.sorts, "counted": counted, "last_counted": last})


def fill(rows: list[tuple[int, int, int, bool, bool, bool]]) -> None:
    for model in (models.User, UserStats):
        model.objects.all().delete()  # type: ignore[attr-defined]
    made = models.User.objects.bulk_create(
        list_rows.user(
            n,
            email=f"{name}{n}@example.org",
            first_name=("Chloé", "chloe", "Bo")[name],
            plan=("free", "premium", "enterprise")[plan],
            created_at=START + timedelta(days=day),
            last_login=START + timedelta(days=plan) if has_login else None,
            deleted_at=START if is_deleted else None,
        )
        for n, (day, name, plan, has_login, is_deleted, _) in enumerate(rows)
    )
    UserStats.objects.bulk_create(
        UserStats(user_id=user.pk, form_count=day, submission_count=0, recent=0, last_at=START if day else None)
        for user, (day, *_, is_counted) in zip(made, rows, strict=True)
        if is_counted
    )


def walks(**question: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The items and totals of all pages forwards, then the items of the pages back from the last one."""
    found = list(list_rows.pages(users(), **question))
    back, page = [], found[-1]
    while page.has_previous:
        page = listing.page(users(), cursor=page.previous_cursor, **question)
        back.append(page.items)
    return [item for page in found for item in page.items], [(p.total_count, p.total_is_exact) for p in found], back


@given(
    rows=ROWS,
    sort=st.sampled_from(SORTS),
    down=st.booleans(),
    filters=st.sampled_from(FILTERS),
    search=st.sampled_from(["", "", "chlo", "c"]),
    limit=st.integers(1, 4),
)
def test_pages_read_as_columns_are_the_pages_read_as_models(
    rows: list[Any], sort: str, down: bool, filters: dict[str, str], search: str, limit: int
) -> None:
    fill(rows)
    question: dict[str, Any] = {
        "sort": f"-{sort}" if down else sort,
        "filters": filters,
        "search": search,
        "limit": limit,
    }
    expected, totals, back = walks(**question)
    items, their_totals, their_back = walks(columns=READ, **question)
    counts = dict(UserStats.objects.values_list("user_id", "form_count"))

    def shown(found: list[models.User]) -> list[dict[str, Any]]:
        return [{**{name: getattr(u, name) for name in FIELDS}, "form_count": counts.get(u.pk, 0)} for u in found]

    assert items == shown(expected)
    assert their_totals == totals
    assert their_back == [shown(page) for page in back]


def test_questions_that_differ_in_values_share_their_statements() -> None:
    list_rows.users(30)
    first = listing.page("users", filters={"plan": "free"}, columns=READ, limit=5)
    listing.page("users", filters={"plan": "free"}, columns=READ, limit=5, cursor=first.next_cursor)
    before = len(statements._known)
    second = listing.page("users", filters={"plan": "premium"}, columns=READ, limit=5)
    assert (len(first.items), second.items) == (5, [])
    listing.page("users", filters={"plan": "premium"}, columns=READ, limit=5, cursor=first.next_cursor)
    assert len(statements._known) == before


def test_a_condition_with_a_list_is_part_of_the_shape() -> None:
    values: list[Any] = []
    _, one = statements.lift(django_models.Q(plan__in=["free"], role="member"), values)
    _, two = statements.lift(django_models.Q(plan__in=["free", "premium"], role="owner"), values)
    assert one != two
    assert values == ["member", "owner"]


@pytest.mark.parametrize("query", ["", "?search=person", "?sort=name", "?deleted=any", "?deleted=any&search=person"])
def test_a_hidden_column_is_not_read(query: str) -> None:
    list_rows.users(3)
    viewer = api_client.signed_in("viewer")
    statements._known.clear()
    with CaptureQueriesContext(connection) as queries:
        items = viewer.get(f"users/{query}").json()["items"]
    assert len(items) == 3
    assert all("email" not in item for item in items)
    sql = [query["sql"] for query in queries] + [found.sql for found in statements._known.values() if found]
    assert any('"users"."first_name"' in each for each in sql)
    assert not any('"users"."email"' in each for each in sql)


def test_json_columns_are_read_as_the_model_reads_them() -> None:
    fields = [{"id": "q1", "label": "Größe", "max": 1e300}]
    list_rows.form(*list_rows.users(1), "A form", fields=fields).save()
    (item,) = listing.page("forms", columns=Columns.of(("id", "fields"), {})).items
    assert item["fields"] == models.Form.objects.get().fields


def test_counts_in_a_list_are_those_that_its_extensions_load() -> None:
    rows = [(n % 3, 0, 0, False, False, n % 2 == 0) for n in range(8)]
    fill(rows)
    manager = api_client.signed_in("manager")
    items = {item["id"]: item for item in manager.get("users/").json()["items"]}
    extension = next(more for more in section.extensions("user") if more.api_columns)
    for key, loaded in extension.load([user.pk for user in models.User.objects.all()], None).items():
        assert {name: items[str(key)][name] for name in extension.api_fields} == {
            name: loaded[name] for name in extension.api_fields
        }
