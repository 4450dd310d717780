"""`metrics/users/`, `metrics/forms/`, and the counts of lists and records: content, position, rights."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from backoffice import access
from backoffice.api import views
from backoffice.sections.forms import domain as forms
from events import commands, head
from events.subscriptions import runner as subscriptions
from metrics import queries
from metrics.counters.subscription import SUBSCRIPTION
from metrics.materialized import refresh
from metrics.monitoring import shapes
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def manager() -> api_client.Caller:
    return api_client.signed_in("manager")


def today() -> datetime:
    return datetime.now(UTC)


# -- days -------------------------------------------------------------------------------------------------------------


def test_every_day_of_the_range_has_a_row(manager: api_client.Caller) -> None:
    form = factories.form()
    counting.receive(form, today() - timedelta(days=2), 30.0)
    counting.receive(form, today() - timedelta(days=2), 60.5)
    counting.receive(form, today() - timedelta(days=2))
    counting.follow()
    answer = manager.get("metrics/forms/?range=7d")
    found = msgspec.json.decode(answer.content, type=shapes.FormMetrics)
    first = today().date() - timedelta(days=6)
    assert [row.date for row in found.items] == [first + timedelta(days=n) for n in range(7)]
    by_day = {row.date: (row.forms_created, row.unique_users, row.submissions) for row in found.items}
    assert by_day[today().date()] == (1, 1, 0)
    assert by_day[today().date() - timedelta(days=2)] == (0, 0, 3)
    assert [row.avg_completion_time for row in found.items if row.avg_completion_time is not None] == [45.25]
    assert found.as_of.position == head.safe()
    assert abs(found.as_of.at - today()) < timedelta(minutes=1)


def test_dates_are_both_included_and_the_default_is_a_week(manager: api_client.Caller) -> None:
    counting.follow()
    listed = manager.get("metrics/forms/?from=2026-03-28&to=2026-03-30").json()["items"]
    assert [row["date"] for row in listed] == ["2026-03-28", "2026-03-29", "2026-03-30"]
    assert set(listed[0]) == {"date", "forms_created", "unique_users", "submissions", "avg_completion_time"}
    assert listed[0]["avg_completion_time"] is None
    assert len(manager.get("metrics/forms/").json()["items"]) == 7


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("range=7w", "invalid_range", "range"),
        ("range=2y", "invalid_range", "range"),
        ("from=2026-01-01", "invalid_range", "to"),
        ("from=2026-01-02&to=2026-01-01", "invalid_range", "from"),
        ("range=7d&range=8d", "repeated_parameter", "range"),
        ("consistent=yes", "invalid_parameter", "consistent"),
        ("days=7", "unknown_parameter", "days"),
    ],
)
def test_wrong_range_is_refused_by_name(manager: api_client.Caller, query: str, code: str, parameter: str) -> None:
    assert problem(manager.get(f"metrics/forms/?{query}"), 400, code)["parameter"] == parameter


# -- users ------------------------------------------------------------------------------------------------------------


def test_figures_of_users_are_refused_until_they_are_computed(manager: api_client.Caller) -> None:
    answer = manager.get("metrics/users/")
    assert "not computed yet" in problem(answer, 503, "not_computed")["detail"]
    assert answer.headers["Retry-After"]


def test_users_are_counted_by_plan_and_month_as_of_the_refresh(manager: api_client.Caller) -> None:
    busy = factories.user(plan="premium", last_login=today())
    factories.user(plan="premium")
    factories.user(plan="free")
    factories.submission(factories.form(busy))
    counting.follow()
    refresh.refresh_all(force=True)
    position, month = head.safe(), today().date().replace(day=1)
    factories.user(plan="free")  # after the refresh
    found = msgspec.json.decode(manager.get("metrics/users/").content, type=shapes.UserMetrics)
    rows = {row.plan: row for row in found.items}
    assert {row.signup_month for row in found.items} == {month}
    premium = rows["premium"]
    assert (premium.users, premium.active_30d, premium.with_forms, premium.with_submissions) == (2, 1, 1, 1)
    assert (premium.forms, premium.submissions, rows["free"].users) == (1, 1, 1)
    assert found.as_of.position == position
    counting.follow()
    refresh.refresh_all(force=True)
    again = msgspec.json.decode(manager.get("metrics/users/").content, type=shapes.UserMetrics)
    assert {row.plan: row.users for row in again.items} == {"premium": 2, "free": 2}
    assert again.as_of.position > position


def test_view_cannot_be_asked_to_be_consistent(manager: api_client.Caller) -> None:
    assert problem(manager.get("metrics/users/?consistent=1"), 400, "unknown_parameter")["parameter"] == "consistent"


# -- consistent reads -------------------------------------------------------------------------------------------------

CONSISTENT = ["metrics/forms/?range=1d&consistent=1", "users/?consistent=1", "forms/?consistent=1"]


@pytest.mark.parametrize("path", [*CONSISTENT, "users/{user}/?consistent=1", "forms/{form}/?consistent=1"])
def test_read_of_counters_that_do_not_follow_times_out(
    path: str, manager: api_client.Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "CONSISTENT_SECONDS", 0.05)
    monkeypatch.setattr(views, "CONSISTENT_SECONDS", 0.05)
    owner = factories.user()
    form = factories.form(owner)
    problem(manager.get(path.format(user=owner, form=form)), 504, "wait_timeout")


def test_caller_reads_their_own_writes(manager: api_client.Caller) -> None:
    owner = factories.user()
    form = factories.form(owner)
    stop = threading.Event()
    counters = factories.Thread(lambda: subscriptions.run(SUBSCRIPTION, stop))
    try:
        for number in range(1, 6):
            data = {"form_id": str(form), "answers": {}}
            written = manager.command("submission.receive", factories.new_id(), data).json()["position"]
            (day,) = manager.get("metrics/forms/?range=1d&consistent=1").json()["items"]
            answer = manager.get("metrics/forms/?range=1d&consistent=1").json()
            assert (day["submissions"], answer["as_of"]["position"] >= written) == (number, True)
            assert manager.get(f"users/{owner}/?consistent=1").json()["submission_count"] == number
            assert manager.get(f"forms/{form}/?consistent=1").json()["submission_count"] == number
            (listed,) = manager.get("users/?consistent=1").json()["items"]
            assert (listed["submission_count"], listed["recent_submissions"], listed["form_count"]) == (
                number,
                number,
                1,
            )
    finally:
        stop.set()
        counters.result()


# -- lists sorted by counts -------------------------------------------------------------------------------------------


def walk(caller: api_client.Caller, path: str) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = caller.get(f"{path}&limit=2&cursor={cursor}").json()
        items += page["items"]
        cursor = page["page_info"]["next_cursor"]
    return items


@pytest.mark.parametrize("name", ["form_count", "submission_count", "recent_submissions"])
def test_users_are_sorted_by_each_count(manager: api_client.Caller, name: str) -> None:
    owners = [factories.user() for _ in range(5)]
    for number, owner in enumerate(owners[:3]):
        for _ in range(3 - number):
            counting.receive(factories.form(owner))
    counting.follow()
    for sign, descending in (("", False), ("-", True)):
        items = walk(manager, f"users/?sort={sign}{name}")
        counts = [item[name] for item in items]
        assert counts == sorted([0, 0, 1, 2, 3], reverse=descending)
        assert {item["id"] for item in items} == {str(owner) for owner in owners}


def test_forms_are_sorted_by_submissions_and_by_the_last_one(manager: api_client.Caller) -> None:
    owner = factories.user()
    busy, recent, idle = (factories.form(owner) for _ in range(3))
    for _ in range(2):
        counting.receive(busy, today() - timedelta(days=3))
    counting.receive(recent)
    counting.follow()

    def order(sort: str) -> list[str]:
        return [item["id"] for item in walk(manager, f"forms/?sort={sort}")]

    assert order("-submission_count") == [str(key) for key in (busy, recent, idle)]
    assert order("-last_submission_at") == [str(key) for key in (recent, busy, idle)]
    assert order("last_submission_at") == [str(key) for key in (busy, recent, idle)]  # without one comes last
    viewer = api_client.signed_in("viewer")  # sees the same in the list of submissions
    assert [item["id"] for item in walk(viewer, "forms/?sort=-last_submission_at")] == order("-last_submission_at")


def test_record_carries_the_counts_of_the_list(manager: api_client.Caller) -> None:
    owner = factories.user()
    form = factories.form(owner)
    counting.receive(form)
    counting.follow()
    user, (listed,) = manager.get(f"users/{owner}/").json(), manager.get("users/").json()["items"]
    assert user == listed
    assert (user["form_count"], user["submission_count"], user["recent_submissions"]) == (1, 1, 1)
    paper, (listed,) = manager.get(f"forms/{form}/").json(), manager.get("forms/").json()["items"]
    assert paper["last_submission_at"] == listed["last_submission_at"] is not None
    commands.dispatch(factories.command(forms.DeleteForm(), form))
    counting.follow()
    assert manager.get(f"users/{owner}/").json()["submission_count"] == 0
    assert manager.get(f"forms/{form}/").json()["submission_count"] == 1


# -- rights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", api_client.ROLES)
def test_average_reveals_no_single_time_to_roles_that_do_not_see_it(role: str) -> None:
    """Neither alone nor by the difference of two averages of a day that goes on."""
    form, caller = factories.form(), api_client.signed_in(role)
    sees = "completion_time" not in access.hidden_fields(caller.person, "submission")
    shown: dict[int, list[float | None]] = {1: [], 0: []}
    for seconds in (30.0, 60.0, 90.0, 120.0, 150.0):
        for ago in shown:
            counting.receive(form, today() - timedelta(days=ago), seconds)
        counting.follow()
        for ago, row in zip(shown, caller.get("metrics/forms/?range=2d&consistent=1").json()["items"], strict=True):
            shown[ago].append(row["avg_completion_time"])
    averages = [30.0, 45.0, 60.0, 75.0, 90.0]
    assert shown == {ago: averages if sees else [None] * 4 + [None if ago == 0 else 90.0] for ago in shown}


@pytest.mark.parametrize(("path", "scope"), [("metrics/users/", "users:read"), ("metrics/forms/", "forms:read")])
def test_program_needs_the_scope(path: str, scope: str) -> None:
    counting.follow()
    refresh.refresh_all(force=True)
    assert api_client.program(scope).get(path).status_code == 200
    assert problem(api_client.program("settings:read").get(path), 403, "missing_scope")["missing"] == scope
