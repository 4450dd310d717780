"""`POST sync/` executes an offline queue in order, each command once, and merges chains of edits."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backoffice import models
from events import snapshots, store
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(db: None) -> api_client.Caller:
    return api_client.signed_in("manager")


def mutation(seq: int, key: Any, data: Any, base: int | None = None, kind: str = "user.update", **more: Any) -> Any:
    fields = {"seq": seq, "id": str(uuid.uuid4()), "type": kind, "key": str(key), "data": data, **more}
    return fields if base is None else {**fields, "base_version": base}


def push(caller: api_client.Caller, *mutations: Any) -> list[dict[str, Any]]:
    response = caller.post("sync/", {"client_id": "laptop", "mutations": list(mutations)})
    assert response.status_code == 200, response.content
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def statuses(results: list[dict[str, Any]]) -> list[str]:
    return [result["status"] for result in results]


def state(key: Any, category: str = "user") -> dict[str, Any]:
    return snapshots.state_dict(f"{category}-{key}")[0]


# -- order and once ---------------------------------------------------------------------------------------------------


def test_queue_is_executed_in_the_order_of_its_numbers(manager: api_client.Caller) -> None:
    key = factories.user()
    second, first = mutation(2, key, {"first_name": "B"}, 2), mutation(1, key, {"first_name": "A"}, 1)
    results = push(manager, second, first)
    assert [result["seq"] for result in results] == [1, 2]
    assert statuses(results) == ["applied", "applied"]
    assert state(key)["first_name"] == "B"


def test_repeated_queue_changes_nothing_and_returns_the_same_verdicts(manager: api_client.Caller) -> None:
    key, other = factories.user(), factories.user(first_name="x")
    factories.update(other, first_name="theirs")
    queue = [
        mutation(1, key, {"first_name": "A"}, 1),
        mutation(2, key, {"last_name": "B"}, 2),
        mutation(3, other, {"first_name": "mine"}, 1),
    ]
    first = push(manager, *queue)
    versions = store.version_of(f"user-{key}"), store.version_of(f"user-{other}")
    again = push(manager, *queue)
    assert statuses(first) == ["applied", "applied", "conflict"]
    assert statuses(again) == ["duplicate", "duplicate", "conflict"]
    assert again[2]["conflict_id"] == first[2]["conflict_id"]
    assert [r["version"] for r in again[:2]] == [r["version"] for r in first[:2]]
    assert (store.version_of(f"user-{key}"), store.version_of(f"user-{other}")) == versions
    assert models.Conflict.objects.count() == 1


def test_lost_response_is_recovered_by_sending_everything_again(manager: api_client.Caller) -> None:
    key = factories.user()
    queue = [mutation(1, key, {"first_name": "A"}, 1), mutation(2, key, {"first_name": "B"}, 2)]
    push(manager, queue[0])
    factories.update(key, last_name="Foreign")
    assert statuses(push(manager, *queue)) == ["duplicate", "merged"]
    assert (state(key)["first_name"], state(key)["last_name"]) == ("B", "Foreign")


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_refused_edit_blocks_only_later_ones_of_its_record(manager: api_client.Caller) -> None:
    factories.user(email="taken@example.org")
    key, other = factories.user(), factories.user()
    results = push(
        manager,
        mutation(1, key, {"email": "taken@example.org"}, 1, reason="asked by phone"),
        mutation(2, other, {"first_name": "goes on"}, 1),
        mutation(3, str(key).upper(), {"first_name": "blocked"}, 2),
    )
    assert statuses(results) == ["rejected", "applied", "rejected"]
    assert results[0]["problem"]["errors"]["email"]
    assert (results[2]["code"], results[2]["blocked_by"]) == ("blocked_by", 1)
    assert state(key)["first_name"] == ""


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"type": "user.explode"}, "unknown_command"),
        ({"data": {"first_name": 7}}, "invalid"),
        ({"id": "no uuid"}, "invalid"),
        ({"key": "no uuid"}, "invalid"),
        ({"unknown": 1}, "invalid"),
        ({"base_version": 99}, "invalid"),
        ({"base_version": 99, "trunk_version": 98}, "invalid"),
        ({"type": "conflict.resolve"}, "unknown_command"),
    ],
)
def test_malformed_command_is_refused_alone(manager: api_client.Caller, broken: Any, code: str) -> None:
    key, other = factories.user(), factories.user()
    wrong = {**mutation(1, key, {"first_name": "A"}, 1), **broken}
    results = push(manager, wrong, mutation(2, other, {"first_name": "B"}, 1))
    assert statuses(results) == ["rejected", "applied"]
    assert results[0]["code"] == code


def test_role_is_checked_when_the_queue_is_sent() -> None:
    key, other = factories.user(), factories.user()
    agent = api_client.signed_in("agent")
    results = push(agent, mutation(1, key, {"plan": "premium"}, 1), mutation(2, other, {"first_name": "A"}, 1))
    assert statuses(results) == ["rejected", "applied"]
    assert results[0]["code"] == "forbidden"
    assert statuses(push(api_client.signed_in("viewer"), mutation(1, key, {"first_name": "A"}, 1))) == ["rejected"]


def test_key_syncs_only_within_its_scopes() -> None:
    key, form = factories.user(), factories.form()
    program = api_client.program("users:write")
    results = push(
        program,
        mutation(1, key, {"first_name": "A"}, 1),
        mutation(2, form, {"title": "B"}, 1, kind="form.update"),
    )
    assert statuses(results) == ["applied", "rejected"]
    assert results[1]["code"] == "missing_scope"


def test_too_long_queue_is_refused(manager: api_client.Caller) -> None:
    key = factories.user()
    many = [mutation(seq, key, {"first_name": "A"}) for seq in range(201)]
    api_client.problem(manager.post("sync/", {"client_id": "x", "mutations": many}), 413, "too_large")
    twice = [mutation(1, key, {}), mutation(1, key, {})]
    api_client.problem(manager.post("sync/", {"client_id": "x", "mutations": twice}), 422, "invalid")
    api_client.problem(manager.post("sync/", {"client_id": "x", "mutations": [{"id": "1"}]}), 422, "invalid")
    api_client.problem(manager.post("sync/", {"client_id": "", "mutations": []}), 422, "invalid")
    api_client.problem(manager.post("sync/", []), 400, "malformed")
    assert push(manager) == []


# -- chains -----------------------------------------------------------------------------------------------------------


def test_earlier_edit_of_the_same_author_does_not_conflict(manager: api_client.Caller) -> None:
    """All edits change the same field, and another person has changed another field: no conflict."""
    key = factories.user(first_name="base")
    factories.update(key, last_name="foreign")
    results = push(
        manager,
        mutation(1, key, {"first_name": "one"}, 1, trunk_version=1),
        mutation(2, key, {"first_name": "two"}, 2, trunk_version=1),
        mutation(3, key, {"first_name": "three"}, 3, trunk_version=1),
    )
    assert statuses(results) == ["merged", "merged", "merged"]
    assert (state(key)["first_name"], state(key)["last_name"]) == ("three", "foreign")


def test_chain_without_trunk_versions_is_rebuilt_by_counting(manager: api_client.Caller) -> None:
    key = factories.user(first_name="base")
    factories.update(key, last_name="foreign")
    results = push(manager, mutation(1, key, {"first_name": "one"}, 1), mutation(2, key, {"first_name": "two"}, 2))
    assert statuses(results) == ["merged", "merged"]
    assert state(key)["first_name"] == "two"


def test_second_edit_of_a_chain_does_not_overwrite_a_foreign_edit(manager: api_client.Caller) -> None:
    """Edit 1 raises the version above the foreign edit; edit 2 must still conflict with that edit."""
    key = factories.user(first_name="base", last_name="base")
    factories.update(key, last_name="foreign")
    results = push(
        manager,
        mutation(1, key, {"first_name": "one"}, 1, trunk_version=1),
        mutation(2, key, {"last_name": "mine"}, 2, trunk_version=1),
    )
    assert statuses(results) == ["merged", "conflict"]
    assert results[1]["problem"]["base"]["last_name"] == "base"
    assert state(key)["last_name"] == "foreign"


def test_equal_foreign_edit_does_not_hide_another_one(manager: api_client.Caller) -> None:
    """Edit 1 is "unchanged", because another person made the same change and also changed the field of edit 2."""
    key = factories.user(first_name="base", last_name="base")
    factories.update(key, first_name="one", last_name="foreign")
    results = push(manager, mutation(1, key, {"first_name": "one"}, 1), mutation(2, key, {"last_name": "mine"}, 2))
    assert statuses(results) == ["unchanged", "conflict"]
    assert state(key)["last_name"] == "foreign"


def test_foreign_edit_between_two_requests_of_a_chain_is_detected(manager: api_client.Caller) -> None:
    key = factories.user(first_name="base", last_name="base")
    one = mutation(1, key, {"first_name": "one"}, 1, trunk_version=1)
    push(manager, one)
    factories.update(key, first_name="foreign")
    results = push(manager, one, mutation(2, key, {"first_name": "two"}, 2, trunk_version=1))
    assert statuses(results) == ["duplicate", "conflict"]
    sides = {side: results[1]["problem"][side]["first_name"] for side in ("base", "theirs", "mine")}
    assert sides == {"base": "one", "theirs": "foreign", "mine": "two"}


def test_chain_continues_after_a_conflict_with_independent_edits(manager: api_client.Caller) -> None:
    key = factories.user(first_name="base")
    factories.update(key, first_name="foreign")
    results = push(
        manager,
        mutation(1, key, {"first_name": "one"}, 1, trunk_version=1),
        mutation(2, key, {"last_name": "kept"}, 2, trunk_version=1),
        mutation(3, key, {"first_name": "two"}, 3, trunk_version=1),
    )
    assert statuses(results) == ["conflict", "merged", "conflict"]
    assert results[2]["problem"]["base"]["first_name"] == "one"
    assert (state(key)["first_name"], state(key)["last_name"]) == ("foreign", "kept")


def test_edit_without_its_predecessors_is_judged_by_its_trunk(manager: api_client.Caller) -> None:
    key = factories.user(first_name="base")
    factories.update(key, first_name="foreign")
    (result,) = push(manager, mutation(2, key, {"first_name": "two"}, 2, trunk_version=1))
    assert result["status"] == "conflict"
    assert result["problem"]["base"]["first_name"] == "base"


def test_newer_version_from_the_server_becomes_the_trunk_of_the_next_edit(manager: api_client.Caller) -> None:
    key = factories.user(first_name="base", last_name="base")
    factories.update(key, last_name="news")  # the author saw version 2 before the second edit, and changed it knowingly
    results = push(
        manager,
        mutation(1, key, {"first_name": "one"}, 1, trunk_version=1),
        mutation(2, key, {"first_name": "two", "last_name": "knowingly"}, 3, trunk_version=2),
    )
    assert statuses(results) == ["merged", "applied"]
    assert (state(key)["first_name"], state(key)["last_name"]) == ("two", "knowingly")


def test_record_created_offline_is_edited_and_deleted_offline(manager: api_client.Caller) -> None:
    key = uuid.uuid4()
    results = push(
        manager,
        mutation(1, key, {"email": api_client.email()}, kind="user.create"),
        mutation(2, key, {"first_name": "A"}, 1, trunk_version=0),
        mutation(3, key, {"first_name": "B"}, 2, trunk_version=0),
        mutation(4, key, {}, 3, kind="user.delete", trunk_version=0),
        mutation(5, key, {}, 4, kind="user.restore", trunk_version=0),
    )
    assert statuses(results) == ["applied"] * 5
    assert (state(key)["first_name"], state(key)["deleted_at"]) == ("B", None)


def test_chain_over_the_questions_of_a_form_merges_item_by_item(manager: api_client.Caller) -> None:
    field = {"type": "text", "required": False}
    fields = [{"id": "a", "label": "A", **field}, {"id": "b", "label": "B", **field}]
    key = factories.form(fields=fields)
    theirs = [{**fields[0], "label": "A, theirs"}, fields[1]]
    assert manager.command("form.update", key, {"fields": theirs}, base_version=1).status_code == 200
    added = {"id": "c", "label": "C", **field}
    one = [*fields, added]
    two = [fields[1], fields[0], {**added, "label": "C again"}]
    results = push(
        manager,
        mutation(1, key, {"fields": one}, 1, kind="form.update", trunk_version=1),
        mutation(2, key, {"fields": two}, 2, kind="form.update", trunk_version=1),
    )
    assert statuses(results) == ["merged", "merged"]
    found = {item["id"]: item["label"] for item in state(key, "form")["fields"]}
    assert found == {"b": "B", "a": "A, theirs", "c": "C again"}
    assert list(found) == ["b", "a", "c"]


# -- age --------------------------------------------------------------------------------------------------------------


def test_edit_older_than_seven_days_is_filed_for_review(manager: api_client.Caller) -> None:
    key, other = factories.user(), factories.user()
    old = (datetime.now(UTC) - timedelta(days=7, minutes=1)).isoformat()
    young = (datetime.now(UTC) - timedelta(days=6, hours=23)).isoformat()
    results = push(
        manager,
        mutation(1, key, {"first_name": "old"}, 1, queued_at=old),
        mutation(2, other, {"first_name": "young"}, 1, queued_at=young),
    )
    assert statuses(results) == ["conflict", "applied"]
    assert results[0]["problem"]["why"] == "age"
    assert "too long ago" in results[0]["problem"]["detail"]
    assert state(key)["first_name"] == ""
    row = models.Conflict.objects.get(pk=results[0]["conflict_id"])
    assert (row.why, row.status) == ("age", "open")
    response = manager.post(f"conflicts/{row.pk}/resolve/", {"choices": {}})
    assert response.status_code == 200, response.content
    assert state(key)["first_name"] == "old"


def test_old_edit_without_a_base_is_filed_for_review(manager: api_client.Caller) -> None:
    key = factories.user()
    (result,) = push(manager, mutation(1, key, {"first_name": "old"}, queued_at="2020-01-01T00:00:00Z"))
    shown = manager.get(f"conflicts/{result['conflict_id']}/").json()
    assert (shown["why"], shown["base_version"], shown["source"]["client_id"]) == ("age", 1, "laptop")
    assert manager.post(f"conflicts/{shown['id']}/resolve/", {}).status_code == 200
    assert state(key)["first_name"] == "old"


def test_late_retry_of_an_applied_edit_returns_its_verdict(manager: api_client.Caller) -> None:
    key = factories.user()
    sent = mutation(1, key, {"first_name": "A"}, 1)
    push(manager, sent)
    (again,) = push(manager, {**sent, "queued_at": "2020-01-01T00:00:00Z"})
    assert again["status"] == "duplicate"
    assert not models.Conflict.objects.exists()
