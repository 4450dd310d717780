"""The conflict endpoints: list, read, resolve, and attempts to exceed the rights of a role."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from backoffice import access, models
from events import store
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(db: None) -> api_client.Caller:
    return api_client.signed_in("manager")


def filed(
    caller: api_client.Caller, mine: dict[str, Any], theirs: dict[str, Any], **base: Any
) -> tuple[uuid.UUID, str]:
    """Files a conflict between two changes of a user; returns the user's id and the conflict's."""
    key = factories.user(**base)
    factories.update(key, **theirs)
    found = problem(caller.command("user.update", key, mine, base_version=1, reason="asked"), 409, "conflict")
    return key, found["conflict_id"]


def last_name(caller: api_client.Caller) -> tuple[uuid.UUID, str]:
    return filed(caller, {"last_name": "Mine", "first_name": "Rest"}, {"last_name": "Theirs"}, last_name="Base")


def test_refused_change_and_its_retry_name_the_same_conflict(manager: api_client.Caller) -> None:
    key = factories.user(last_name="Base")
    factories.update(key, last_name="Theirs")
    sent = {"id": str(uuid.uuid4()), "type": "user.update", "key": str(key), "data": {"last_name": "Mine"}}
    answers = [problem(manager.post("commands/", {**sent, "base_version": 1}), 409, "conflict") for _ in range(3)]
    assert len({answer["conflict_id"] for answer in answers}) == 1
    assert answers[0]["conflicts"][0] == {
        "path": "last_name",
        "kind": "both_changed",
        "base": "Base",
        "theirs": "Theirs",
        "mine": "Mine",
    }
    assert models.Conflict.objects.count() == 1


def test_stale_patch_is_filed_in_the_inbox(manager: api_client.Caller) -> None:
    key = factories.user(last_name="Base")
    factories.update(key, last_name="Theirs")
    found = problem(manager.patch(f"users/{key}/", {"last_name": "Mine"}, If_Match='"v1"'), 412, "precondition_failed")
    assert manager.get(f"conflicts/{found['conflict_id']}/").json()["mine"]["last_name"] == "Mine"


def test_list_is_filtered_by_status_person_and_record_and_paginated(manager: api_client.Caller) -> None:
    made = [last_name(manager) for _ in range(3)]  # in one transaction, so all have the same time and are ordered by id
    made[1:] = sorted(made[1:], key=lambda pair: uuid.UUID(pair[1]))
    assert manager.post(f"conflicts/{made[0][1]}/dismiss/", {"reason": "no"}).status_code == 200
    listed = manager.get("conflicts/").json()
    assert [item["id"] for item in listed["items"]] == [made[2][1], made[1][1]]
    assert listed["items"][0]["fields"] == ["last_name"]
    assert [i["id"] for i in manager.get("conflicts/?status=dismissed").json()["items"]] == [made[0][1]]
    assert len(manager.get("conflicts/?status=any").json()["items"]) == 3
    assert len(manager.get("conflicts/?mine=true").json()["items"]) == 2
    assert api_client.signed_in("agent").get("conflicts/?mine=true").json()["items"] == []
    assert len(api_client.signed_in("manager").get("conflicts/?team=true").json()["items"]) == 2
    assert api_client.signed_in("agent").get("conflicts/?team=true").json()["items"] == []
    assert [i["id"] for i in manager.get("conflicts/?sort=created_at").json()["items"]] == [made[1][1], made[2][1]]
    found = manager.get(f"conflicts/?record=user-{made[1][0]}").json()["items"]
    assert [item["id"] for item in found] == [made[1][1]]
    first = manager.get("conflicts/?limit=1").json()
    second = manager.get(f"conflicts/?limit=1&cursor={first['page_info']['next_cursor']}").json()
    assert [first["items"][0]["id"], second["items"][0]["id"]] == [made[2][1], made[1][1]]


@pytest.mark.parametrize(
    "query", ["status=odd", "mine=maybe", "team=maybe", "sort=odd", "limit=0", "cursor=x", "unknown=1"]
)
def test_invalid_query_is_refused(manager: api_client.Caller, query: str) -> None:
    assert manager.get(f"conflicts/?{query}").status_code == 400


def test_conflict_has_three_versions_and_the_current_record(manager: api_client.Caller) -> None:
    key, found = last_name(manager)
    factories.update(key, plan="premium")
    shown = manager.get(f"conflicts/{found}/").json()
    assert [shown[side]["last_name"] for side in ("base", "theirs", "mine")] == ["Base", "Theirs", "Mine"]
    assert (shown["base_version"], shown["record_version"], shown["now"]["version"]) == (1, 2, 3)
    assert shown["now"]["record"]["plan"] == "premium"
    assert [place["path"] for place in shown["now"]["conflicts"]] == ["last_name"]
    assert shown["now"]["merged"]["first_name"] == "Rest"


def test_resolution_returns_what_was_written(manager: api_client.Caller) -> None:
    key, found = last_name(manager)
    body = {"choices": {"last_name": "value"}, "values": {"last_name": "Typed"}, "reason": "agreed", "version": 2}
    answer = manager.post(f"conflicts/{found}/resolve/", body).json()
    assert (answer["result"]["version"], answer["conflict"]["status"]) == (3, "resolved")
    event = store.read_stream(f"user-{key}")[-1]
    assert (event.data, event.reason) == ({"first_name": "Rest", "last_name": "Typed"}, "agreed")
    told = answer["conflict"]["events"][-1]
    assert (told["event"], told["data"]["values"]) == ("conflict.resolved", {"last_name": "Typed"})
    assert told["correlation_id"] == str(event.correlation_id)
    problem(manager.post(f"conflicts/{found}/resolve/", body), 409, "already_settled")


def test_resolution_of_a_record_changed_meanwhile_returns_the_new_conflict(manager: api_client.Caller) -> None:
    key, found = last_name(manager)
    factories.update(key, last_name="Theirs again")
    body = {"choices": {"last_name": "theirs"}, "version": 2}
    moved = problem(manager.post(f"conflicts/{found}/resolve/", body), 409, "conflict_moved")
    assert moved["now"]["conflicts"][0]["theirs"] == "Theirs again"
    assert manager.post(f"conflicts/{found}/resolve/", {**body, "version": 3}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": {"last_name": "ours"}},
        {"choices": {"last_name": {"value": 1}}},
        {"choices": []},
        {"choices": {"last_name": "mine"}, "version": -1},
        {"choices": {"last_name": "mine"}, "reason": "x" * 201},
        {"choices": {"last_name": "mine"}, "unknown": 1},
        {"values": {"last_name": None}},
        {"choices": {"*": "mine"}},
        {"choices": {"created_at": "mine", "last_name": "mine"}},
    ],
)
def test_malformed_resolution_is_refused_and_writes_nothing(manager: api_client.Caller, body: Any) -> None:
    key, found = last_name(manager)
    problem(manager.post(f"conflicts/{found}/resolve/", body), 422, "invalid")
    assert (store.version_of(f"user-{key}"), store.version_of(f"conflict-{found}")) == (2, 1)


def test_conflict_is_assigned_commented_discarded_and_reopened(manager: api_client.Caller) -> None:
    _, found = last_name(manager)
    assert manager.person is not None
    assigned = manager.post(f"conflicts/{found}/assign/", {"assignee": "me"}).json()
    assert assigned["assignee"] == manager.person.pk
    assert manager.post(f"conflicts/{found}/comment/", {"text": "Who?"}).json()["comments"] == 1
    problem(manager.post(f"conflicts/{found}/comment/", {"text": "  "}), 422, "invalid")
    problem(manager.post(f"conflicts/{found}/assign/", {"assignee": api_client.staff("viewer").pk}), 422, "invalid")
    assert manager.post(f"conflicts/{found}/assign/", {"assignee": None}).json()["assignee"] is None
    assert manager.post(f"conflicts/{found}/dismiss/", {}).json()["status"] == "dismissed"
    assert manager.post(f"conflicts/{found}/reopen/", {}).json()["status"] == "open"


# -- attempts to exceed permissions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", api_client.ROLES)
def test_resolution_requires_the_right_to_make_the_change(manager: api_client.Caller, role: str) -> None:
    key, found = last_name(manager)
    caller = api_client.signed_in(role)
    acts = [("assign", {"assignee": None}), ("comment", {"text": "x"}), ("resolve", {"choices": {"last_name": "mine"}})]
    for verb, body in acts:
        response = caller.post(f"conflicts/{found}/{verb}/", body)
        if access.role_may(role, "update", "user"):
            assert response.status_code == 200, response.content
        else:
            assert problem(response, 403, "forbidden")["missing"] == "user.update"
            assert store.version_of(f"user-{key}") == 2


def test_hidden_address_appears_nowhere_in_a_conflict(manager: api_client.Caller) -> None:
    mine, theirs = ({"email": f"secret-{side}@example.org"} for side in ("mine", "theirs"))
    _, found = filed(manager, {**mine, "last_name": "Mine"}, {**theirs, "last_name": "Theirs"})
    manager.post(f"conflicts/{found}/comment/", {"text": "secret-mine@example.org?"})
    viewer = api_client.signed_in("viewer")
    paths = ["conflicts/", f"conflicts/{found}/", f"conflicts/?record=user-{found}"]
    for _settled in range(2):
        for path in paths:
            response = viewer.get(path)
            assert response.status_code == 200
            assert b"secret" not in response.content
        assert viewer.get(f"conflicts/{found}/").json()["fields"] == ["last_name"]
        body = {"choices": {"email": "mine", "last_name": "value"}, "values": {"last_name": "x"}, "reason": "asked"}
        manager.post(f"conflicts/{found}/resolve/", body)
    assert models.Conflict.objects.get(pk=found).status == "resolved"
    for path in (f"streams/conflict-{found}/", f"streams/conflict-{found}/state/", "events/"):
        assert viewer.get(path).status_code == 403


def test_conflict_about_a_hidden_kind_returns_404() -> None:
    admin = api_client.signed_in("admin")
    for value in (1, 2):
        admin.command("setting.set", "a.b", {"value": value})
    refused = admin.command("setting.set", "a.b", {"value": 3}, base_version=1)
    found = problem(refused, 409, "conflict")["conflict_id"]
    agent = api_client.signed_in("agent")
    assert agent.get("conflicts/").json()["items"] == []
    problem(agent.get(f"conflicts/{found}/"), 404, "not_found")
    problem(agent.post(f"conflicts/{found}/dismiss/", {}), 404, "not_found")
    manager = api_client.signed_in("manager")  # may view settings, but not change them
    assert manager.get(f"conflicts/{found}/").status_code == 200
    problem(manager.post(f"conflicts/{found}/resolve/", {"choices": {"value": "mine"}}), 403, "forbidden")


def test_key_sees_and_resolves_conflicts_within_its_scopes(manager: api_client.Caller) -> None:
    _, found = last_name(manager)
    assert api_client.program("users:read").get(f"conflicts/{found}/").status_code == 200
    problem(api_client.program("forms:read").get(f"conflicts/{found}/"), 404, "not_found")
    problem(api_client.program("ingest:write").get("conflicts/"), 403, "missing_scope")
    body = {"choices": {"last_name": "mine"}}
    problem(api_client.program("users:read").post(f"conflicts/{found}/resolve/", body), 403, "missing_scope")
    writer = api_client.program("users:read", "users:write")
    assert writer.post(f"conflicts/{found}/resolve/", body).status_code == 200


@pytest.mark.parametrize("kind", ["conflict.resolve", "conflict.file", "conflict.dismiss"])
def test_plain_command_cannot_resolve_a_conflict(manager: api_client.Caller, kind: str) -> None:
    _, found = last_name(manager)
    problem(api_client.signed_in("admin").command(kind, found), 400, "unknown_command")
    assert store.version_of(f"conflict-{found}") == 1


@pytest.mark.parametrize("key", ["nonsense", "0b0c6f6e-6f0a-7c0d-8a55-5f0e6c1fd2a7"])
def test_unknown_conflict_returns_404(manager: api_client.Caller, key: str) -> None:
    problem(manager.get(f"conflicts/{key}/"), 404, "not_found")
    problem(manager.post(f"conflicts/{key}/dismiss/", {}), 404, "not_found")
