"""Pages of a list that changes while it is read: deleted anchors, new rows, rebuilt tables, cursors of other people."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from backoffice import listing, models
from events.rebuild import builder
from metrics.counters.models import UserStats
from tests import factories
from tests.backoffice import api_client, list_rows
from tests.backoffice.api_client import problem
from tests.backoffice.list_rows import START

SORTS = [f"{sign}{name}" for name in ("created_at", "email", "name", "last_login", "form_count") for sign in ("", "-")]


def users(numbers: range) -> list[models.User]:
    """Users with ties in every column, with their counts."""
    made = models.User.objects.bulk_create(
        list_rows.user(
            n,
            last_name=f"Person {n % 7}",
            created_at=START + timedelta(minutes=n % 40),
            last_login=START + timedelta(minutes=n % 40) if n % 3 else None,
        )
        for n in numbers
    )
    UserStats.objects.bulk_create(UserStats(user_id=user.pk, form_count=n % 5) for n, user in enumerate(made))
    return made


@pytest.mark.django_db
@pytest.mark.parametrize("sort", SORTS)
def test_rows_that_stay_are_seen_once_while_others_come_and_go(sort: str) -> None:
    dice = random.Random(sort)
    staying = {user.pk for user in users(range(200))}
    seen: list[Any] = []
    cursor, number = None, 200
    while True:
        page = listing.page("users", sort=sort, cursor=cursor, limit=9)
        seen += [item.pk for item in page.items]
        gone = {page.items[-1].pk, page.items[0].pk, *dice.sample(sorted(staying), 2)}
        models.User.objects.filter(pk__in=gone).update(deleted_at=START)
        staying -= gone
        users(range(number, number + 3))
        number += 3
        if not page.has_next or number > 1_000:
            break
        cursor = page.next_cursor
    assert len(seen) == len(set(seen))
    assert staying <= set(seen)
    back = listing.page("users", sort=sort, cursor=page.previous_cursor, limit=9)
    assert back.items
    assert not {item.pk for item in back.items} & {item.pk for item in page.items}


@pytest.mark.django_db
def test_page_after_the_last_row_that_was_left_is_empty_and_leads_nowhere() -> None:
    users(range(12))
    page = listing.page("users", limit=9)
    models.User.objects.update(deleted_at=START)
    for cursor in (page.next_cursor, listing.page("users", limit=9, filters={"deleted": "true"}).next_cursor):
        rest = listing.page("users", limit=9, cursor=cursor)
        assert (rest.items, rest.has_next, rest.has_previous) == ([], False, False)
        assert (rest.next_cursor, rest.previous_cursor) == (None, None)


@pytest.mark.django_db
def test_cursor_of_a_person_who_sees_more_reveals_nothing() -> None:
    users(range(30))
    manager, viewer = api_client.signed_in("manager"), api_client.signed_in("viewer")

    def cursor(path: str) -> str:
        return str(manager.get(path).json()["page_info"]["next_cursor"])

    by_email = cursor("users/?sort=email&limit=5")
    assert "email" not in problem(viewer.get(f"users/?sort=email&cursor={by_email}"), 400, "unknown_sort")["allowed"]
    problem(viewer.get(f"users/?cursor={by_email}"), 400, "invalid_cursor")
    found = cursor("users/?limit=5&search=person00001@example.org&sort=created_at")
    assert found == "None"
    page = viewer.get(f"users/?limit=5&cursor={cursor('users/?limit=5')}").json()
    assert len(page["items"]) == 5
    assert all("email" not in item for item in page["items"])
    one = cursor("users/?limit=1&search=example.org")
    searched = viewer.get(f"users/?limit=1&search=example.org&cursor={one}").json()
    assert (searched["items"], searched["page_info"]["total_count"]) == ([], 0)


@pytest.mark.django_db(transaction=True)
def test_list_is_whole_while_its_tables_are_rebuilt(own_database: None) -> None:
    keys = {str(factories.user()) for _ in range(40)}
    stop, read = threading.Event(), list[int]()

    def walk(sort: str) -> None:
        caller = api_client.signed_in("manager")
        try:
            while not stop.is_set():
                found, cursor = [], ""
                while cursor is not None:
                    answer = caller.get(f"users/?limit=15&sort={sort}&cursor={cursor}")
                    assert answer.status_code == 200, answer.content
                    found += [item["id"] for item in answer.json()["items"]]
                    cursor = answer.json()["page_info"]["next_cursor"]
                assert sorted(found) == sorted(keys)
                read.append(1)
        finally:
            connection.close()

    threads = [factories.Thread(lambda sort=sort: walk(sort)) for sort in ("-created_at", "-form_count")]
    try:
        for table in ("users", "counters", "users", "counters"):
            before = len(read)
            builder.rebuild(table, patience=20)
            while len(read) < before + 4:
                assert all(thread.is_alive() for thread in threads)
                threading.Event().wait(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.result()
