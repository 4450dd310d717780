"""A record that is not counted yet is in the lists sorted by counts: a new one as 0, an old one as the last."""

from __future__ import annotations

import uuid
from importlib import import_module

import pytest

from backoffice.sections.users import domain as users
from events import commands, store
from events.rebuild import builder
from events.types import new_id
from metrics.counters import seed
from tests import factories
from tests.backoffice import api_client
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


FIRST_ROWS = import_module("metrics.migrations.0008_first_rows").FIRST_ROWS


def listed(path: str) -> list[tuple[str, int | None]]:
    """(id, first count) of the items of a list."""
    name = "form_count" if path.startswith("users") else "submission_count"
    return [(item["id"], item[name]) for item in api_client.signed_in("manager").get(path).json()["items"]]


def names(*keys: uuid.UUID) -> list[str]:
    return [str(key) for key in keys]


@pytest.mark.parametrize("sort", ["form_count", "submission_count", "recent_submissions"])
def test_new_user_is_listed_by_counts_before_it_is_counted(sort: str) -> None:
    old = factories.user()
    counting.receive(factories.form(old))
    counting.follow()
    new = factories.user()
    assert listed(f"users/?sort=-{sort}") == [(str(old), 1), (str(new), 0)]
    assert listed(f"users/?sort={sort}") == [(str(new), 0), (str(old), 1)]
    counting.demand_identity()
    counting.follow()
    counting.demand_fresh()


def test_new_form_is_listed_by_counts_before_it_is_counted() -> None:
    owner = factories.user()
    old = factories.form(owner)
    counting.receive(old)
    counting.follow()
    new = factories.form(owner)
    assert [key for key, _ in listed("forms/?sort=-submission_count")] == names(old, new)
    assert [key for key, _ in listed("forms/?sort=submission_count")] == names(new, old)
    for sort in ("last_submission_at", "-last_submission_at"):
        assert [key for key, _ in listed(f"forms/?sort={sort}")] == names(old, new)
    counting.demand_identity()
    counting.follow()
    assert counting.user_numbers(owner) == (2, 1, 1)
    counting.demand_identity()


def test_record_created_during_a_rebuild_is_listed_by_counts_after_the_swap() -> None:
    factories.form(factories.user())
    counting.follow()
    created: list[uuid.UUID] = []

    def create(_report: object) -> None:
        if not created:
            created.extend((key := factories.user(), factories.form(key)))

    builder.rebuild("counters", report=create)
    assert len(created) == 2
    assert str(created[0]) in dict(listed("users/?sort=-form_count"))
    assert str(created[1]) in dict(listed("forms/?sort=-submission_count"))
    counting.demand_identity()
    counting.follow()
    assert counting.user_numbers(created[0]) == (1, 0, 0)


def install() -> None:
    for statement in FIRST_ROWS:
        store.execute(statement)


def upgraded() -> tuple[uuid.UUID, uuid.UUID]:
    """Installs the counters into a log with a user and a form; returns both."""
    owner = factories.user()
    form = factories.form(owner)
    counting.receive(form)
    for table in ("metrics_user_stats", "metrics_form_stats"):
        store.execute(f"delete from {table}")
    install()
    return owner, form


@pytest.mark.parametrize("sort", ["form_count", "submission_count", "recent_submissions"])
def test_users_from_before_the_counters_are_listed_last_until_the_first_seed(sort: str) -> None:
    old, _ = upgraded()
    new = factories.user()
    for sign in ("", "-"):
        for search in ("", "&search=@example"):
            assert listed(f"users/?sort={sign}{sort}{search}") == [(str(new), 0), (str(old), None)]
    seed.start()
    assert listed(f"users/?sort=-{sort}") == [(str(old), 1), (str(new), 0)]
    counting.demand_identity()


def test_forms_from_before_the_counters_are_listed_last_until_the_first_seed() -> None:
    owner, old = upgraded()
    new = factories.form(owner)
    for sign in ("", "-"):
        assert listed(f"forms/?sort={sign}submission_count") == [(str(new), 0), (str(old), None)]
    assert {key for key, _ in listed("forms/?sort=-last_submission_at")} == {str(new), str(old)}
    seed.start()
    assert listed("forms/?sort=-last_submission_at") == [(str(old), 1), (str(new), 0)]
    counting.demand_identity()


@pytest.mark.parametrize("sort", ["submission_count", "-last_submission_at"])
def test_cursors_cross_the_boundary_of_counted_and_uncounted_forms_in_both_directions(sort: str) -> None:
    owner, old = upgraded()
    expected = {str(old), *(str(factories.form(owner)) for _ in range(2))}
    viewer = api_client.signed_in("viewer")

    def walk(direction: str, cursor: str = "") -> list[str]:
        found: list[str] = []
        while True:
            page = viewer.get(f"forms/?sort={sort}&limit=1&cursor={cursor}".removesuffix("&cursor=")).json()
            found += [item["id"] for item in page["items"]]
            if not (cursor := page["page_info"][direction]):
                return found

    forwards = walk("next_cursor")
    last = viewer.get(f"forms/?sort={sort}&limit=2").json()["page_info"]["next_cursor"]
    end = viewer.get(f"forms/?sort={sort}&limit=1&cursor={last}").json()["page_info"]["previous_cursor"]
    backwards = walk("previous_cursor", end)
    assert (set(forwards), len(forwards)) == (expected, len(expected))
    assert [forwards[-1], *backwards] == forwards[::-1]


def test_pages_say_that_a_record_is_not_counted_yet() -> None:
    owner, form = upgraded()
    manager = api_client.signed_in("manager").client
    for category, key in (("user", owner), ("form", form)):
        place = f"/admin/backoffice/{category}"
        assert "not counted yet" in manager.get(f"{place}/?sort=-submission_count").content.decode()
        assert "Not counted yet." in manager.get(f"{place}/{key}/change/").content.decode()
    seed.start()
    for category, key in (("user", owner), ("form", form)):
        assert "ot counted yet" not in manager.get(f"/admin/backoffice/{category}/").content.decode()
        assert "ot counted yet" not in manager.get(f"/admin/backoffice/{category}/{key}/change/").content.decode()


def test_counters_that_run_get_no_rows_without_numbers() -> None:
    key = factories.user()
    counting.follow()
    store.execute("delete from metrics_user_stats")  # a release without first rows: this user is counted next
    install()
    assert store.query("select count(*) from metrics_user_stats where user_id = %s", (key,)) == [(0,)]


def test_each_of_many_new_users_has_a_row() -> None:
    keys = [new_id() for _ in range(50)]
    commands.dispatch_many([factories.command(users.CreateUser(email=f"{key}@example.org"), key) for key in keys])
    rows = "select count(*) from metrics_user_stats where alive is null and user_id = any(%s)"
    assert store.query(rows, (keys,)) == [(50,)]


def test_refused_user_has_no_row() -> None:
    address = api_client.email()
    commands.dispatch(factories.command(users.CreateUser(email=address), new_id()))
    counting.send(users.CreateUser(email=address), new_id())
    assert store.query("select count(*) from metrics_user_stats") == [(1,)]
