"""Lists by cursor: complete and stable; counts are exact or marked as estimates; unknown parameters are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import signing
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backoffice import listing, models
from events.types import new_id

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 1, tzinfo=UTC)


def make_users(count: int, **fields: Any) -> list[models.User]:
    """Creates rows as the projection would: many share a time, a third never signed in."""
    return models.User.objects.bulk_create(
        models.User(
            id=new_id(),
            email=f"person{number:04}@example.org",
            first_name=("Ada", "Grace", "Linus")[number % 3],
            last_name=f"Person {number}",
            plan=("free", "premium")[number % 2],
            role="member",
            created_at=START + timedelta(days=number // 7),
            last_login=None if number % 3 == 0 else START + timedelta(days=number // 5),
            version=1,
            updated_at=START,
            **fields,
        )
        for number in range(count)
    )


def walk(**question: Any) -> list[Any]:
    """Returns all keys, page by page."""
    seen: list[Any] = []
    cursor = None
    while True:
        page = listing.page("users", cursor=cursor, limit=10, **question)
        seen += [item.pk for item in page.items]
        if not page.has_next:
            return seen
        cursor = page.next_cursor


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "email", "-email", "last_login", "-last_login"])
def test_paging_returns_every_row_once_in_order(sort: str) -> None:
    users = make_users(95)
    name, down = sort.removeprefix("-"), sort.startswith("-")
    filled = [user for user in users if getattr(user, name) is not None]
    empty = [user for user in users if getattr(user, name) is None]
    expected = sorted(filled, key=lambda user: (getattr(user, name), user.pk), reverse=down)
    expected += sorted(empty, key=lambda user: user.pk, reverse=down)
    assert walk(sort=sort) == [user.pk for user in expected]


@pytest.mark.parametrize("sort", ["-created_at", "email", "-last_login"])
def test_previous_page_shows_the_same_rows(sort: str) -> None:
    make_users(60)
    first = listing.page("users", sort=sort, limit=10)
    trail = [first]
    while trail[-1].has_next:
        trail.append(listing.page("users", sort=sort, limit=10, cursor=trail[-1].next_cursor))
    back = trail[-1]
    for expected in reversed(trail[:-1]):
        back = listing.page("users", sort=sort, limit=10, cursor=back.previous_cursor)
        assert [item.pk for item in back.items] == [item.pk for item in expected.items]
    assert not back.has_previous
    assert back.has_next


def test_new_row_changes_no_other_page() -> None:
    make_users(30)
    first = listing.page("users", limit=10)
    expected = [item.pk for item in listing.page("users", limit=10, cursor=first.next_cursor).items]
    models.User.objects.bulk_create(
        [
            models.User(
                email="new@example.org",
                plan="free",
                role="member",
                created_at=START + timedelta(days=99),
                version=1,
                updated_at=START,
            )
        ]
    )
    assert [item.pk for item in listing.page("users", limit=10, cursor=first.next_cursor).items] == expected


def test_page_neither_counts_past_the_cap_nor_skips_rows() -> None:
    make_users(30)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        listing.page("users", limit=10, cursor=listing.page("users", limit=10).next_cursor)
    assert not [query for query in queries if " OFFSET " in query["sql"].upper()]
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"].upper()]
    assert counts
    assert all(f"LIMIT {listing.COUNT_CAP + 1}" in sql for sql in counts)


def test_long_list_shows_an_estimated_count() -> None:
    make_users(60)
    assert listing.total_of(listing.matching("users")) == (60, True)
    total, exact = listing.total_of(listing.matching("users"), cap=20)
    assert not exact
    assert total > 20


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"plan": "premium"}, lambda user: user.plan == "premium"),
        ({"active": "true"}, lambda user: False),
        ({"active": "false"}, lambda user: True),
        ({"created_after": "2026-01-03"}, lambda user: user.created_at >= START + timedelta(days=2)),
        ({"deleted": "true"}, lambda user: False),
        ({"deleted": "any", "plan": "free"}, lambda user: user.plan == "free"),
    ],
)
def test_filter_returns_matching_rows(filters: dict[str, str], expected: Any) -> None:
    users = make_users(40)
    assert set(walk(filters=filters)) == {user.pk for user in users if expected(user)}


def test_deleted_records_are_hidden_by_default() -> None:
    (gone,) = make_users(1, deleted_at=START)
    assert walk() == []
    assert walk(filters={"deleted": "true"}) == [gone.pk]


@pytest.mark.parametrize("words", ["person0007", "PERSON0007@example", "grace 7", "person%", "7 grace"])
def test_search_finds_every_word_and_takes_wildcards_literally(words: str) -> None:
    users = make_users(12)
    expected = {user.pk for user in users if user.last_name == "Person 7"} if "7" in words else set()
    assert set(walk(search=words)) == expected


def test_search_by_id_finds_that_record() -> None:
    users = make_users(5)
    assert walk(search=str(users[3].pk)) == [users[3].pk]


def test_hidden_fields_can_be_neither_searched_nor_sorted_by() -> None:
    make_users(5)
    hidden = frozenset({"email"})
    assert listing.page("users", search="person0003", hidden=hidden).items == []
    with pytest.raises(listing.UnknownSort):
        listing.page("users", sort="email", hidden=hidden)


@pytest.mark.parametrize(
    ("question", "error", "parameter"),
    [
        ({"sort": "password"}, listing.UnknownSort, "sort"),
        ({"filters": {"passwort": "x"}}, listing.UnknownFilter, "passwort"),
        ({"filters": {"plan": "gold"}}, listing.InvalidFilter, "plan"),
        ({"filters": {"created_after": "yesterday"}}, listing.InvalidFilter, "created_after"),
        ({"filters": {"created_after": "2026-02-31"}}, listing.InvalidFilter, "created_after"),
        ({"cursor": "x"}, listing.InvalidCursor, "cursor"),
        ({"cursor": "WyJhIl0:forged"}, listing.InvalidCursor, "cursor"),
    ],
)
def test_unknown_parameter_is_refused_by_name(question: Any, error: type, parameter: str) -> None:
    with pytest.raises(error) as caught:
        listing.page("users", **question)
    assert caught.value.parameter == parameter


def test_cursor_of_another_list_or_order_is_refused() -> None:
    make_users(30)
    cursor = listing.page("users", limit=10).next_cursor
    with pytest.raises(listing.InvalidCursor):
        listing.page("users", sort="email", cursor=cursor)
    with pytest.raises(listing.InvalidCursor):
        listing.page("forms", cursor=cursor)
    forged = signing.Signer(salt="another").sign_object(["-created_at", 0, START.isoformat(), str(new_id())])
    with pytest.raises(listing.InvalidCursor):
        listing.page("users", cursor=forged)


def test_page_deep_in_the_list_is_found_by_the_index() -> None:
    """The plan seeks the row in the index, so page 10,000 costs as much as page 1."""
    make_users(400)
    page = listing.page("users", limit=10)
    with connection.cursor() as cursor:
        cursor.execute("analyze users")
        cursor.execute("set local enable_seqscan = off")
        with CaptureQueriesContext(connection) as queries:
            listing.page("users", limit=10, cursor=page.next_cursor, count=False)
        cursor.execute("explain " + queries[-1]["sql"])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan using users_live_created" in plan
    assert "Index Cond: (ROW(created_at, id) < ROW(" in plan
    assert "Sort" not in plan
