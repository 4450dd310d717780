"""`POST commands/`: every possible response, from real requests."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from backoffice.models import Form, Setting, User
from events import context, store
from events.types import new_id
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager() -> api_client.Caller:
    return api_client.signed_in("manager")


def test_applied_command_returns_its_events(manager: api_client.Caller) -> None:
    key = uuid.uuid4()
    response = manager.command("user.create", key, {"email": "Ada@Example.org", "first_name": "Ada"}, reason="by phone")
    answer = response.json()
    event = store.read_stream(f"user-{key}")[0]
    assert response.status_code == 200
    assert (answer["status"], answer["stream"], answer["version"]) == ("applied", f"user-{key}", 1)
    assert answer["events"] == [{"type": "user.created", "version": 1, "position": event.position}]
    assert answer["position"] == event.position
    assert "merged" not in answer
    assert (event.actor, event.reason) == (f"staff:{manager.person.pk}", "by phone")  # type: ignore[union-attr]
    assert User.objects.get(pk=key).email == "ada@example.org"


def test_other_spelling_of_a_key_names_the_same_record(manager: api_client.Caller) -> None:
    key = factories.user()
    answer = manager.command("user.update", str(key).upper(), {"first_name": "Grace"}).json()
    assert answer["stream"] == f"user-{key}"
    assert User.objects.get(pk=key).first_name == "Grace"


def test_command_without_effect_returns_unchanged(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada")
    answer = manager.command("user.update", key, {"first_name": "Ada"}).json()
    assert (answer["status"], answer["events"], answer["position"]) == ("unchanged", [], None)


def test_repeated_command_id_returns_the_first_response(manager: api_client.Caller) -> None:
    key, sent = uuid.uuid4(), str(uuid.uuid4())
    body = {"id": sent, "type": "user.create", "key": str(key), "data": {"email": api_client.email()}}
    first, again = manager.post("commands/", body).json(), manager.post("commands/", body).json()
    assert again == first | {"status": "duplicate"}
    assert len(store.read_stream(f"user-{key}")) == 1


def test_repeated_command_id_with_other_content_is_refused(manager: api_client.Caller) -> None:
    body = {
        "id": str(uuid.uuid4()),
        "type": "user.create",
        "key": str(uuid.uuid4()),
        "data": {"email": api_client.email()},
    }
    manager.post("commands/", body)
    found = problem(
        manager.post("commands/", body | {"data": {"email": api_client.email()}}), 422, "idempotency_key_reused"
    )
    assert "id" in found["errors"]


def test_changes_to_different_fields_are_merged(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada", last_name="Byron")
    factories.update(key, last_name="Lovelace")
    answer = manager.command("user.update", key, {"first_name": "Augusta"}, base_version=1).json()
    user = User.objects.get(pk=key)
    assert answer["status"] == "merged"
    assert answer["merged"]
    assert (user.first_name, user.last_name) == ("Augusta", "Lovelace")


def test_conflict_returns_three_versions_and_changes_nothing(manager: api_client.Caller) -> None:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    response = manager.command("user.update", key, {"first_name": "Adele", "last_name": "King"}, base_version=1)
    found = problem(response, 409, "conflict")
    assert [found[side]["first_name"] for side in ("base", "theirs", "mine")] == ["Ada", "Augusta", "Adele"]
    assert found["fields"] == ["first_name"]
    assert (found["stream"], found["base_version"], found["version"]) == (f"user-{key}", 1, 2)
    assert User.objects.get(pk=key).last_name == ""


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"id": "7"}, {"id"}),
        ({"id": None, "key": None}, {"id", "key"}),
        ({"type": 3}, {"type"}),
        ({"data": []}, {"data"}),
        ({"base_version": -1}, {"base_version"}),
        ({"base_version": 1.5}, {"base_version"}),
        ({"base_version": 2**63}, {"base_version"}),
        ({"base_version": 99}, {"base_version"}),
        ({"reason": "x" * 201}, {"reason"}),
        ({"key": "not-a-uuid"}, {"key"}),
        ({"extra": 1, "more": 2}, {"extra", "more"}),
        ({"data": {"email": "nobody", "first_name": "x" * 151}}, {"first_name"}),
        ({"data": {"plan": "gold", "role": 7, "nickname": "A"}}, {"plan", "role", "nickname", "email"}),
        ({"data": {"email": "nobody"}}, {"email"}),
    ],
)
def test_invalid_fields_return_one_message_each(
    manager: api_client.Caller, change: dict[str, Any], fields: set[str]
) -> None:
    body = {
        "id": str(uuid.uuid4()),
        "type": "user.create",
        "key": str(uuid.uuid4()),
        "data": {"email": api_client.email()},
    }
    found = problem(manager.post("commands/", body | change), 422, "invalid")
    assert found["errors"].keys() == fields
    assert all(found["errors"].values())


def test_missing_fields_are_named(manager: api_client.Caller) -> None:
    for body in ({}, b""):
        assert problem(manager.post("commands/", body), 422, "invalid")["errors"].keys() == {"id", "type", "key"}


def test_taken_email_is_refused_by_field(manager: api_client.Caller) -> None:
    factories.user(email="taken@example.org")
    found = problem(manager.command("user.create", uuid.uuid4(), {"email": "taken@example.org"}), 422, "rejected")
    assert found["errors"].keys() == {"email"}


def test_form_of_an_unknown_owner_is_refused_by_field(manager: api_client.Caller) -> None:
    response = manager.command("form.create", uuid.uuid4(), {"user_id": str(uuid.uuid4()), "title": "A form"})
    assert problem(response, 422, "rejected")["errors"].keys() == {"user_id"}
    assert not Form.objects.exists()


def test_missing_record_returns_404(manager: api_client.Caller) -> None:
    problem(manager.command("user.update", uuid.uuid4(), {"first_name": "Ada"}), 404, "not_found")
    problem(manager.command("user.update", uuid.uuid4(), {"first_name": "Ada"}, base_version=0), 404, "not_found")


def test_unknown_command_returns_400(manager: api_client.Caller) -> None:
    problem(manager.command("user.promote", uuid.uuid4()), 400, "unknown_command")


def test_other_methods_and_content_types_are_refused(manager: api_client.Caller) -> None:
    response = manager.get("commands/")
    problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]
    problem(
        manager.post("commands/", b"a=1", content_type="application/x-www-form-urlencoded"),
        415,
        "unsupported_media_type",
    )
    problem(manager.get("users/", Accept="text/csv"), 406, "not_acceptable")


def test_unknown_url_returns_404_as_a_problem(manager: api_client.Caller) -> None:
    problem(manager.get("nothing/"), 404, "not_found")
    problem(manager.post("users", {}), 404, "not_found")


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, False, 0, "", [], {"a": [1, {"b": None}]}, 1.5, 2**53])
def test_setting_accepts_any_json_value(value: Any) -> None:
    admin = api_client.signed_in("admin")
    assert admin.command("setting.set", "limits.uploads", {"value": value}).status_code == 200
    assert Setting.objects.get(pk="limits.uploads").value == value
    assert admin.get("settings/limits.uploads/").json()["value"] == value


@pytest.mark.parametrize("key", ["", "Upper", "1st", "a b", "é", "a" * 101, "a/b", "../x", "a\n"])
def test_setting_with_an_invalid_name_is_refused(key: str) -> None:
    response = api_client.signed_in("admin").command("setting.set", key, {"value": 1})
    assert problem(response, 422, "invalid")["errors"].keys() == {"key"}


# -- strange JSON ---------------------------------------------------------------------------------------------------


def envelope(data: str, key: str = "limits.strange") -> bytes:
    sent = f'{{"id": "{uuid.uuid4()}", "type": "setting.set", "key": "{key}", "data": {{"value": {data}}}}}'
    return sent.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "malformed"),
        (b"[]", "malformed"),
        (b'"text"', "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'\xef\xbb\xbf{"id": 1}', "malformed"),
        (envelope("NaN"), "not_finite"),
        (envelope("-Infinity"), "not_finite"),
        (envelope("1e999"), "number_too_large"),
        (envelope('"\\ud800"'), "lone_surrogate"),
        (envelope('"\ud800"'), "malformed"),
        (envelope("01"), "malformed"),
        (envelope("9" * 30), "number_too_large"),
        (envelope("9" * 5000), "number_too_large"),
        (envelope(str(2**64)), "number_too_large"),
        (envelope(str(-(2**63) - 1)), "number_too_large"),
        (envelope('{"a": 1, "a": 2}'), "duplicate_key"),
        (b'{"id": 1, "id": 2}', "duplicate_key"),
        (envelope('"\\u0000"'), "nul_character"),
        (envelope('{"\\u0000": 1}'), "nul_character"),
        (envelope("[" * 100 + "]" * 100), "too_deep"),
        (envelope("[" * 5000 + "]" * 5000), "too_deep"),
    ],
)
def test_ambiguous_json_is_refused(body: bytes, code: str) -> None:
    caller = api_client.Caller(api_client.staff("admin"), raises=False)
    problem(caller.post("commands/", body), 400, code)
    assert not Setting.objects.exists()


@pytest.mark.parametrize(
    "value", [2**64 - 1, -(2**63), 1e308, 5e-324, "\U0001f600", "\\u0000", "\x7f\u2028", {"": ""}, [[[[]]]] * 100]
)
def test_extreme_json_is_stored_unchanged(value: Any) -> None:
    caller = api_client.Caller(api_client.staff("admin"), raises=False)
    response = caller.command("setting.set", "limits.strange", {"value": value})
    assert response.status_code == 200, response.content
    assert caller.get("settings/limits.strange/").json()["value"] == value


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "x", 5]
)
def test_out_of_range_times_are_refused_by_field(moment: Any) -> None:
    caller = api_client.Caller(api_client.staff("manager"), raises=False)
    response = caller.command("user.create", uuid.uuid4(), {"email": api_client.email(), "created_at": moment})
    assert problem(response, 422, "invalid")["errors"].keys() == {"created_at"}


def test_time_is_stored_in_utc(manager: api_client.Caller) -> None:
    key = uuid.uuid4()
    manager.command("user.create", key, {"email": api_client.email(), "last_login": "2026-01-01T02:00:00+02:00"})
    assert manager.get(f"users/{key}/").json()["last_login"] == "2026-01-01T00:00:00Z"


def test_too_large_body_returns_413(manager: api_client.Caller) -> None:
    problem(manager.post("commands/", b" " * (2 * 1024 * 1024 + 1)), 413, "too_large")


def test_too_large_event_returns_413() -> None:
    caller = api_client.Caller(api_client.staff("admin"), raises=False)
    problem(caller.command("setting.set", "limits.large", {"value": ["x" * 100_000] * 11}), 413, "event_too_large")


def test_unknown_query_parameter_is_refused(manager: api_client.Caller) -> None:
    problem(manager.post("commands/?dry_run=1", {}), 400, "unknown_parameter")


# -- concurrency -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_concurrent_duplicates_have_one_effect_and_one_response() -> None:
    person = api_client.staff("manager")
    body = {
        "id": str(uuid.uuid4()),
        "type": "user.create",
        "key": str(uuid.uuid4()),
        "data": {"email": api_client.email()},
    }
    gate = threading.Barrier(4)

    def send() -> Any:
        caller = api_client.Caller(person)
        gate.wait()
        return caller.post("commands/", body)

    answers = [thread.result().json() for thread in [factories.Thread(send) for _ in range(4)]]
    assert sorted(answer["status"] for answer in answers) == ["applied", "duplicate", "duplicate", "duplicate"]
    assert len({answer["position"] for answer in answers}) == 1
    assert len(store.read_stream(f"user-{body['key']}")) == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_changes_of_one_field_make_one_change_and_one_conflict() -> None:
    key, gate = factories.user(first_name="Ada"), threading.Barrier(2)

    def send(name: str) -> Any:
        caller = api_client.signed_in("manager")
        gate.wait()
        return caller.command("user.update", key, {"first_name": name}, base_version=1)

    threads = [factories.Thread(lambda name=name: send(name)) for name in ("Augusta", "Adele")]  # type: ignore[misc]
    assert sorted(thread.result().status_code for thread in threads) == [200, 409]
    assert len(store.read_stream(f"user-{key}")) == 2


def test_client_cannot_choose_the_correlation_id(manager: api_client.Caller) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    theirs = manager.post("commands/", _creation(first)).headers["X-Request-ID"]
    mine = api_client.signed_in("manager").post("commands/", _creation(second), X_Request_ID=theirs)
    event = store.read_stream(f"user-{second}")[0]
    assert str(event.correlation_id) == mine.headers["X-Request-ID"] != theirs
    assert event.metadata["client_request_id"] == theirs
    assert "client_request_id" not in store.read_stream(f"user-{first}")[0].metadata


@pytest.mark.parametrize("sent", ["ada@example.org", "", "x" * 4000])
def test_request_id_that_is_no_uuid_is_dropped(manager: api_client.Caller, sent: str) -> None:
    key = uuid.uuid4()
    assert manager.post("commands/", _creation(key), X_Request_ID=sent).status_code == 200
    assert "client_request_id" not in store.read_stream(f"user-{key}")[0].metadata


def _creation(key: uuid.UUID) -> dict[str, Any]:
    return {"id": str(uuid.uuid4()), "type": "user.create", "key": str(key), "data": {"email": api_client.email()}}


def test_events_of_a_request_are_found_by_its_id(manager: api_client.Caller) -> None:
    key = uuid.uuid4()
    body = {"id": str(uuid.uuid4()), "type": "user.create", "key": str(key), "data": {"email": api_client.email()}}
    response = manager.post("commands/", body)
    event = store.read_stream(f"user-{key}")[0]
    found = (event.correlation_id, event.causation_id)
    assert found == (uuid.UUID(response.headers["X-Request-ID"]), uuid.UUID(body["id"]))
    refused = manager.command("user.update", new_id(), {"first_name": "A"})
    assert problem(refused, 404, "not_found")["request_id"] == refused.headers["X-Request-ID"]
    assert context.current().actor == context.SYSTEM
