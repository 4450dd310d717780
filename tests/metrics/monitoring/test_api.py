"""`metrics/history/` and `metrics/health/`: answers, refusals, rights."""

from __future__ import annotations

import pytest

from metrics.monitoring.history import tables, write
from tests.backoffice import api_client
from tests.metrics.monitoring import slots

pytestmark = pytest.mark.django_db


def test_history_has_a_row_for_every_step_and_ends_with_the_present_slot() -> None:
    present = tables.present_slot()
    slots.fill("cpu.percent", [(present - 2, 10), (present - 1, 20)], "web-1")
    found = api_client.signed_in("manager").get("metrics/history/?metric=cpu.percent&range=1m").json()
    assert (found["metric"], found["unit"], found["step"], found["tier"]) == ("cpu.percent", "percent", 5, "raw")
    assert found["slot"] is None  # only the row of the cluster completes a slot
    by_slot = {at // 5: rest for at, *rest in found["points"]}
    assert by_slot[present - 1] == [20, 20, 20, 1]
    assert by_slot[present - 4] == [None, None, None, 0]
    assert 12 <= len(found["points"]) <= 14


def test_history_continues_after_a_slot() -> None:
    present = tables.present_slot()
    slots.fill("db.blocked", [(present - n, n) for n in range(5)])
    found = api_client.signed_in("admin").get(f"metrics/history/?metric=db.blocked&range=1h&after={present - 2}").json()
    assert [point[0] // 5 for point in found["points"]][:2] == [present - 1, present]


def test_history_of_a_day_has_at_most_600_points() -> None:
    found = api_client.signed_in("admin").get("metrics/history/?metric=db.blocked&range=24h").json()
    assert (found["step"], len(found["points"]) <= 600) == (300, True)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("metric=db.blocked&range=1y&step=5s", "step"),
        ("metric=db.blocked&range=3h&step=5s", "step"),
        ("metric=db.blocked&range=9y", "range"),
        ("metric=db.blocked&range=", "range"),
        ("metric=db.blocked&range=1h&from=2026-01-01", "range"),
        ("metric=db.blocked&to=2026-01-01", "to"),
        ("metric=db.blocked&from=yesterday", "from"),
        ("metric=db.blocked&from=2026-02-01&to=2026-01-01", "to"),
        ("metric=db.blocked&step=7s", "step"),
        ("metric=db.blocked&step=0", "step"),
        ("metric=db.blocked&tz=Mars/Olympus", "tz"),
        ("metric=db.blocked&tz=../../etc/passwd", "tz"),
        ("metric=db.blocked&after=-1", "after"),
        ("metric=db.blocked&target=web-1", "target"),
        ("metric=nothing", "metric"),
        ("", "metric"),
    ],
)
def test_bad_question_is_refused_with_its_parameter(query: str, parameter: str) -> None:
    answer = api_client.signed_in("admin").get(f"metrics/history/?{query}")
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


@pytest.mark.parametrize(
    ("role", "metric", "status"),
    [
        ("viewer", "cpu.percent", 403),
        ("agent", "db.blocked", 403),
        ("dpo", "db.blocked", 200),
        ("viewer", "users.active", 200),
        ("viewer", "nothing", 403),
    ],
)
def test_metric_is_visible_to_the_roles_of_its_right(role: str, metric: str, status: int) -> None:
    answer = api_client.signed_in(role).get(f"metrics/history/?metric={metric}")
    assert answer.status_code == status


def test_health_has_the_newest_sample_and_null_for_what_is_missing() -> None:
    present = tables.present_slot()
    tables.create_partitions(present)
    write.values(present, {("users.active", ""): 7, ("cpu.percent", "a"): 40, ("cpu.percent", "b"): 90})
    found = api_client.signed_in("admin").get("metrics/health/").json()
    assert set(found) == {"active_users", "system_load", "database", "websockets", "errors", "timestamp"}
    assert (found["active_users"], found["system_load"]["cpu"], found["database"]["state"]) == (7, 90, "ok")
    assert found["errors"] == {"rate": None, "requests": None, "errors": None}


def test_health_is_null_once_the_newest_sample_is_old() -> None:
    present = tables.present_slot()
    tables.create_partitions(present - 20)
    write.values(present - 20, {("users.active", ""): 7})
    found = api_client.signed_in("admin").get("metrics/health/").json()
    assert (found["active_users"], found["timestamp"] is not None) == (None, True)


def test_health_needs_the_right_to_see_the_system() -> None:
    assert api_client.signed_in("viewer").get("metrics/health/").status_code == 403
