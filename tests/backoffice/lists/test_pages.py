"""Pages of lists: each row once in both directions, for every sort; totals; time limits."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.apps.registry import Apps
from django.db import connection
from django.db import models as django_models
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from backoffice import health, listing, models, text
from backoffice.listing import Sort, Spec, Through
from tests.backoffice import api_client, list_rows
from tests.backoffice.list_rows import START, pages, walk, walk_back

pytestmark = pytest.mark.django_db


def with_sorts(name: str, /, **sorts: Sort) -> Spec:
    spec = listing.SPECS[name]
    return dataclasses.replace(spec, sorts={**spec.sorts, **sorts})


# -- a table of counts beside the users -------------------------------------------------------------------------------


@pytest.fixture
def counted() -> Spec:
    """Users sorted by a column of another table, as by the counters."""

    class Counted(django_models.Model):  # noqa: DJ008 - nobody reads it
        user_id = django_models.UUIDField(primary_key=True)
        submission_count = django_models.BigIntegerField(null=True)

        class Meta:
            apps, app_label, db_table = Apps(), "backoffice", "counted"

    with connection.cursor() as cursor:
        cursor.execute("create table counted (user_id uuid primary key, submission_count bigint)")
        cursor.execute("create index counted_sort on counted (submission_count desc, user_id desc)")
    sort = Sort("submission_count", nullable=True, parse=int, through=Through(Counted, "user_id"))
    return with_sorts("users", submission_count=sort)


def count(users: list[models.User], **values: int | None) -> None:
    rows = [(one.pk, values.get(one.first_name, 0)) for one in users]
    with connection.cursor() as cursor:
        cursor.executemany("insert into counted values (%s, %s)", rows)


# -- public bug reports about other lists -----------------------------------------------------------------------------


def test_ties_longer_than_a_page_are_walked_once() -> None:  # encode/django-rest-framework#7887
    list_rows.users(2500, created_at=START)
    found = list(pages("users", sort="-created_at", limit=50))
    assert len(found) == 50
    assert len({item.pk for page in found for item in page.items}) == 2500
    assert not found[-1].has_next


def test_previous_page_among_ties_is_the_page_that_was_seen() -> None:  # encode/django-rest-framework#7709
    list_rows.users(120, created_at=START)
    models.User.objects.bulk_create(list_rows.user(n, created_at=START - timedelta(days=1)) for n in range(120, 130))
    first = listing.page("users", limit=25)
    second = listing.page("users", limit=25, cursor=first.next_cursor)
    back = listing.page("users", limit=25, cursor=second.previous_cursor)
    assert [item.pk for item in back.items] == [item.pk for item in first.items]


@pytest.mark.parametrize("sort", ["last_login", "-last_login"])
def test_rows_without_a_value_are_walked_once_both_ways(sort: str) -> None:  # encode/django-rest-framework#8912
    models.User.objects.bulk_create(
        list_rows.user(n, last_login=START + timedelta(hours=n // 4) if n % 3 else None) for n in range(300)
    )
    forward = walk("users", sort=sort, limit=50)
    assert len(forward) == len(set(forward)) == 300
    assert walk_back("users", sort=sort, limit=50) == forward


@pytest.mark.parametrize("sort", ["title", "-title"])
def test_titles_that_differ_in_case_or_accent_are_walked_once(sort: str) -> None:  # twentyhq/twenty#24359
    titles = ["acme", "ACME", "Acme", "ácme", "Zed", "anna", "acme"]
    (owner,) = list_rows.users(1)
    models.Form.objects.bulk_create(list_rows.form(owner, title) for title in titles)
    spec = listing.SPECS["forms"]
    found = [item.title for page in pages(spec, sort=sort, limit=1) for item in page.items]
    ordered = ["ACME"] * 5 + ["ANNA", "ZED"]
    assert [title.upper().replace("Á", "A") for title in found] == (ordered if sort == "title" else ordered[::-1])
    assert sorted(found) == sorted(titles)
    assert walk_back(spec, sort=sort, limit=1) == walk(spec, sort=sort, limit=3)


def test_instants_are_compared_to_the_microsecond() -> None:  # activepieces/activepieces#9357
    form = list_rows.form(*list_rows.users(1), "A form")
    form.save()
    same = START.replace(microsecond=123_456)
    instants = [*[same] * 15, *(same + timedelta(hours=1, microseconds=n) for n in range(15))]
    models.Submission.objects.bulk_create(list_rows.submission(form, instant) for instant in instants)
    for sort in ("created_at", "-created_at"):
        found = walk("submissions", sort=sort, limit=10)
        assert len(found) == len(set(found)) == 30
        assert walk_back("submissions", sort=sort, limit=10) == found


def test_users_with_equal_counts_are_walked_once(counted: Spec) -> None:  # carltongibson/django-filter#862
    users = list_rows.users(4_000)
    count(users)
    for sort in ("submission_count", "-submission_count"):
        found = walk(counted, sort=sort, limit=100)
        assert len(found) == len(set(found)) == 4_000
        assert set(found) == {one.pk for one in users}


def test_total_of_a_search_is_the_same_on_every_page() -> None:  # wagtail/wagtail#3097
    list_rows.users(40, first_name="Anna")
    models.User.objects.bulk_create(list_rows.user(n) for n in range(40, 60))
    found = list(pages("users", search="anna", limit=25))
    assert [page.total_count for page in found] == [40, 40]
    assert [len(page.items) for page in found] == [25, 15]
    assert all(page.total_is_exact for page in found)


# -- sorts ------------------------------------------------------------------------------------------------------------


def test_names_are_sorted_as_people_do() -> None:
    names = [("Zoé", "A"), ("anna", "B"), ("Émile", "A"), ("Emile", "Z"), ("Anna", "Á")]
    models.User.objects.bulk_create(
        list_rows.user(n, last_name=last, first_name=first) for n, (last, first) in enumerate(names)
    )
    spec = listing.SPECS["users"]
    found = [(item.last_name, item.first_name) for page in pages(spec, sort="name", limit=1) for item in page.items]
    assert found == [("Anna", "Á"), ("anna", "B"), ("Émile", "A"), ("Emile", "Z"), ("Zoé", "A")]


@pytest.mark.parametrize("sort", ["submission_count", "-submission_count"])
def test_sort_by_counts_ends_with_users_that_have_none(counted: Spec, sort: str) -> None:
    names = ("many", "few", "none", "few", "many", "none")
    users = [list_rows.user(n, first_name=name) for n, name in enumerate(names)]
    models.User.objects.bulk_create(users)
    count(users, many=9, few=1, none=None)
    found = [page.items[0] for page in pages(counted, sort=sort, limit=1)]
    named = ["few", "few", "many", "many"] if sort == "submission_count" else ["many", "many", "few", "few"]
    assert [one.first_name for one in found[:4]] == named
    assert [one.first_name for one in found[4:]] == ["none", "none"]
    assert walk_back(counted, sort=sort, limit=1) == [one.pk for one in found]


def test_filters_and_search_hold_in_a_sort_by_counts(counted: Spec) -> None:
    users = [
        list_rows.user(n, plan=("free", "premium")[n % 2], first_name=("Chloé", "Ada", "Bo")[n % 3]) for n in range(60)
    ]
    models.User.objects.bulk_create(users)
    count(users, Ada=3, Bo=7, Chloé=None)
    expected = {one.pk for one in users if one.plan == "premium" and one.first_name == "Chloé"}
    for search, wanted in (("chloe", expected), ("", {one.pk for one in users if one.plan == "premium"})):
        for sort in ("submission_count", "-submission_count"):
            question: dict[str, Any] = {"sort": sort, "search": search, "filters": {"plan": "premium"}}
            found = walk(counted, limit=4, **question)
            assert len(found) == len(wanted)
            assert set(found) == wanted
            assert walk_back(counted, limit=4, **question) == found


def test_sort_by_counts_walks_the_index_of_the_counts(counted: Spec) -> None:
    users = list_rows.users(3_000)
    count(users)
    with connection.cursor() as cursor:
        cursor.execute("analyze users, counted")
        cursor.execute("set local enable_seqscan = off")
    page = listing.page(counted, sort="-submission_count")
    plan = list_rows.plans(counted, sort="-submission_count", cursor=page.next_cursor, count=False)[0]
    assert "counted_sort" in plan
    assert "ROW(submission_count, user_id) < ROW(" in plan
    assert "Rows Removed" not in plan
    assert "Sort" not in plan


def test_a_sort_by_a_hidden_column_is_refused() -> None:
    with pytest.raises(listing.UnknownSort):
        listing.page(listing.SPECS["users"], sort="name", hidden=frozenset({"first_name"}))


# -- every sort, some filters, with ties and rows without a value ------------------------------------------------------

SORTS = ("created_at", "email", "last_login", "name")
FILTERS: tuple[dict[str, str], ...] = (
    {},
    {"plan": "premium"},
    {"deleted": "true"},
    {"deleted": "any"},
    {"deleted": "any", "plan": "free"},
    {"created_after": "2026-01-02"},
)
few = st.integers(0, 2)
ROWS = st.lists(st.tuples(few, few, few, st.booleans(), st.booleans()), max_size=24)


def ordered(spec: Spec, sort: str, question: dict[str, Any]) -> list[Any]:
    """The rows by one plain ORDER BY."""
    one = spec.sorts[sort.removeprefix("-")]
    columns = [django_models.F(column) for column in (one.column, *one.then)]
    terms = [*(text.sort_text(column) if one.is_text else column for column in columns), django_models.F("id")]
    down = sort.startswith("-")
    by = [term.desc(nulls_last=True) if down else term.asc(nulls_last=True) for term in terms]
    return list(listing.matching(spec, **question).order_by(*by).values_list("pk", flat=True))


@given(
    rows=ROWS,
    sort=st.sampled_from(SORTS),
    down=st.booleans(),
    filters=st.sampled_from(FILTERS),
    search=st.sampled_from(["", "chlo", "c"]),
    limit=st.integers(1, 5),
)
def test_a_walk_finds_each_row_once_forwards_and_back(
    rows: list[tuple[int, int, int, bool, bool]],
    sort: str,
    down: bool,
    filters: dict[str, str],
    search: str,
    limit: int,
) -> None:
    models.User.objects.all().delete()
    models.User.objects.bulk_create(
        list_rows.user(
            n,
            email=f"{name}{n // 2 if is_deleted else n}@example.org",
            first_name=("Chloé", "chloe", "Bo")[name],
            last_name=("Émile", "emile", "Zoé")[day],
            plan=("free", "premium", "enterprise")[plan],
            created_at=START + timedelta(days=day),
            last_login=START + timedelta(days=plan) if has_login else None,
            deleted_at=START if is_deleted else None,
        )
        for n, (day, name, plan, has_login, is_deleted) in enumerate(rows)
    )
    spec, label = listing.SPECS["users"], f"-{sort}" if down else sort
    question: dict[str, Any] = {"filters": filters, "search": search}
    expected = ordered(spec, label, question)
    assert walk(spec, sort=label, limit=limit, **question) == expected
    assert walk_back(spec, sort=label, limit=limit, **question) == expected
    assert {page.total_count for page in pages(spec, sort=label, limit=limit, **question)} == {len(expected)}


# -- totals -----------------------------------------------------------------------------------------------------------


def test_total_is_counted_on_the_first_page_and_then_carried() -> None:
    list_rows.users(30)
    first = listing.page("users", limit=10)
    with CaptureQueriesContext(connection) as queries:
        second = listing.page("users", limit=10, cursor=first.next_cursor)
        back = listing.page("users", limit=10, cursor=second.previous_cursor)
    assert not [query for query in queries if "COUNT(" in query["sql"].upper()]
    assert [page.total_count for page in (first, second, back)] == [30, 30, 30]


def test_total_of_another_question_is_counted_again() -> None:
    list_rows.users(20)
    models.User.objects.bulk_create(list_rows.user(n, plan="premium") for n in range(20, 30))
    cursor = listing.page("users", limit=5).next_cursor
    assert listing.page("users", limit=5, cursor=cursor, filters={"plan": "premium"}).total_count == 10
    none = listing.page("users", limit=5, cursor=cursor, queryset=models.User.objects.filter(plan="enterprise"))
    assert none.total_count == 0


# -- deep pages -------------------------------------------------------------------------------------------------------

DEEP = [
    ("users", "-created_at", {}, "users_live_created"),
    ("users", "-created_at", {"plan": "premium"}, "users_live_plan"),
    ("users", "-created_at", {"role": "owner"}, "users_live_role"),
    ("users", "email", {}, "users_live_email"),
    ("users", "name", {}, "users_live_name"),
    ("users", "-last_login", {}, "users_live_last_login"),
    ("users", "-created_at", {"deleted": "true"}, "users_deleted"),
]


@pytest.mark.parametrize(("name", "sort", "filters", "index"), DEEP)
def test_a_deep_page_is_a_range_of_the_index_of_its_sort(
    name: str, sort: str, filters: dict[str, str], index: str
) -> None:
    models.User.objects.bulk_create(
        list_rows.user(
            n,
            plan="free" if n % 40 else "premium",
            role="member" if n % 40 else "owner",
            last_login=START + timedelta(minutes=n),
            deleted_at=START if filters.get("deleted") else None,
        )
        for n in range(4_000)
    )
    with connection.cursor() as cursor:
        cursor.execute("analyze users")
        cursor.execute("set local enable_seqscan = off")
    spec = listing.SPECS[name]
    limit = 10 if {"plan", "role"} & filters.keys() else 100  # few users have that plan or role
    question: dict[str, Any] = {"sort": sort, "filters": filters, "limit": limit}
    middle = list(itertools.islice(pages(spec, **question), 5))[-1]
    for cursor in (middle.next_cursor, middle.previous_cursor):
        plan = list_rows.plans(spec, cursor=cursor, count=False, **question)[0]
        assert f"using {index}" in plan
        assert "Index Cond" in plan
        assert "ROW(" in plan
        assert "Sort" not in plan
        assert "Rows Removed" not in plan


def test_deleted_and_living_rows_together_are_two_ranges() -> None:
    models.User.objects.bulk_create(list_rows.user(n, deleted_at=START if n % 2 else None) for n in range(1_000))
    with connection.cursor() as cursor:
        cursor.execute("analyze users")
        cursor.execute("set local enable_seqscan = off")
    (plan,) = list_rows.plans("users", filters={"deleted": "any"}, limit=10, count=False)[:1]
    assert "users_live_created" in plan
    assert "users_deleted" in plan
    assert "rows=1000" not in plan


# -- time limit -------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked_users(settings: Any) -> Iterator[None]:
    """Locks the table `users`, so that every list of users takes too long."""
    settings.LIST_STATEMENT_SECONDS = 0.05
    with psycopg.connect(**health.parameters()) as other:
        other.execute("lock table users in access exclusive mode")
        yield
        other.rollback()


@pytest.mark.django_db(transaction=True)
def test_api_answers_a_slow_list_with_503_and_advice(locked_users: None) -> None:
    manager = api_client.signed_in("manager")
    found = api_client.problem(manager.get("users/"), 503, "took_too_long")
    assert "Narrow the filters" in found["detail"]


@pytest.mark.django_db(transaction=True)
def test_page_answers_a_slow_list_with_503_and_advice(locked_users: None) -> None:
    manager = api_client.signed_in("manager")
    response = manager.client.get("/admin/backoffice/user/")
    assert response.status_code == 503
    assert "Narrow the filters" in response.content.decode()
