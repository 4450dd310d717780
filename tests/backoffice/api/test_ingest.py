"""`POST ingest/`: CloudEvents in three modes, each event executed once."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import msgspec
import orjson
import pytest

from backoffice.api import ingest, shapes
from backoffice.models import Form, Submission, User
from events import store, types
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def formease() -> api_client.Caller:
    return api_client.program("ingest:write")


def event(kind: str = "user.created", key: object = None, data: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/formease/signup",
        "type": f"formease.{kind}",
        "subject": str(key or uuid.uuid4()),
        "data": {"email": api_client.email()} if data is None else data,
        **more,
    }


def structured(caller: api_client.Caller, body: Any, **headers: str) -> Any:
    return caller.post("ingest/", body, content_type="application/cloudevents+json; charset=utf-8", **headers)


def batch(caller: api_client.Caller, events: Any) -> Any:
    return caller.post("ingest/", events, content_type="application/cloudevents-batch+json")


def binary(caller: api_client.Caller, one: dict[str, Any], body: Any = None, **more: str) -> Any:
    headers = {f"ce-{name}": str(value) for name, value in one.items() if name != "data"}
    kind = more.pop("content_type", "application/json")
    return caller.post("ingest/", one.get("data") if body is None else body, content_type=kind, **(headers | more))


# -- three modes ------------------------------------------------------------------------------------------------------


def test_structured_event_becomes_its_command(formease: api_client.Caller) -> None:
    sent = event(data={"email": "Ada@example.org", "first_name": "Ada"}, reason="sign-up")
    answer = structured(formease, sent).json()
    assert (answer["status"], answer["stream"]) == ("applied", f"user-{sent['subject']}")
    assert User.objects.get(pk=sent["subject"]).email == "ada@example.org"
    recorded = store.read_stream(answer["stream"])[0]
    assert (recorded.reason, recorded.causation_id) == ("sign-up", ingest.command_id(sent["source"], sent["id"]))
    assert recorded.actor.startswith("key:")


def test_binary_event_has_its_attributes_as_headers(formease: api_client.Caller) -> None:
    sent = event(reason="caf%C3%A9%20%e2%82%ac")
    answer = binary(formease, sent).json()
    assert answer["status"] == "applied"
    assert store.read_stream(answer["stream"])[0].reason == "café €"


def test_batch_returns_one_verdict_for_each_event(formease: api_client.Caller) -> None:
    owner, form, submission = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    sent = [
        event("user.created", owner),
        event("form.created", form, {"user_id": str(owner), "title": "Feedback"}),
        event("submission.received", submission, {"form_id": str(form), "answers": {"q1": "yes"}}),
    ]
    response = batch(formease, sent)
    results = response.json()["results"]
    msgspec.json.decode(response.content, type=shapes.Batch)
    assert [(one["id"], one["source"], one["status"]) for one in results] == [
        (one["id"], one["source"], "applied") for one in sent
    ]
    assert Submission.objects.get(pk=submission).form_id == form
    assert [one["status"] for one in batch(formease, sent).json()["results"]] == ["duplicate"] * 3


def test_invalid_event_of_a_batch_does_not_stop_the_others(formease: api_client.Caller) -> None:
    taken = factories.user()
    email = User.objects.get(pk=taken).email
    good, bad = event(), event(data={"email": email})
    malformed, unknown, unfit = event(subject=""), event("user.promoted"), "no object"
    again = dict(good)
    response = batch(formease, [good, bad, malformed, unknown, unfit, again])
    results = response.json()["results"]
    msgspec.json.decode(response.content, type=shapes.Batch)
    assert [one["status"] for one in results] == [
        "applied",
        "rejected",
        "rejected",
        "rejected",
        "rejected",
        "duplicate",
    ]
    assert [one["problem"]["code"] for one in results[1:5]] == ["rejected", "invalid", "unknown_command", "malformed"]
    assert results[1]["problem"]["errors"].keys() == {"email"}
    assert User.objects.filter(pk=good["subject"]).exists()
    assert not User.objects.filter(pk=bad["subject"]).exists()


# -- once -----------------------------------------------------------------------------------------------------------


def test_event_is_executed_once_in_any_mode(formease: api_client.Caller) -> None:
    sent = event()
    first = structured(formease, sent).json()
    for response in (structured(formease, sent), binary(formease, sent)):
        assert response.json() == first | {"status": "duplicate"}
    assert batch(formease, [sent]).json()["results"][0]["status"] == "duplicate"
    assert len(store.read_stream(first["stream"])) == 1


def test_same_id_from_another_source_is_another_event(formease: api_client.Caller) -> None:
    sent = event()
    structured(formease, sent)
    other = event(id=sent["id"], source="/formease/other")
    assert structured(formease, other).json()["status"] == "applied"
    assert ingest.command_id("a", "b,c") != ingest.command_id("a,b", "c")


def test_repeated_id_with_other_content_is_refused(formease: api_client.Caller) -> None:
    sent = event()
    structured(formease, sent)
    problem(structured(formease, sent | {"data": {"email": api_client.email()}}), 422, "idempotency_key_reused")


# -- meaning --------------------------------------------------------------------------------------------------------


def test_every_command_has_an_event_type() -> None:
    known = {kind.name for kind in types.command_types()}
    ours = {name for name in known if name.partition(".")[0] in {"user", "form", "submission", "setting"}}
    assert set(ingest.commands_by_type().values()) == ours
    assert set(ingest.commands_by_type()) == {
        kind.name
        for kind in types.event_types()
        if kind.name.partition(".")[0] in {"user", "form", "submission", "setting"}
    }


def test_command_name_is_accepted_as_event_type(formease: api_client.Caller) -> None:
    assert structured(formease, event("user.create")).json()["status"] == "applied"


def test_time_of_the_event_is_the_creation_time_of_the_record(formease: api_client.Caller) -> None:
    early, own = event(time="2026-01-01T00:00:00+02:00"), event(time="2026-01-01T00:00:00Z")
    own["data"]["created_at"] = "2025-01-01T00:00:00Z"
    for sent in (early, own):
        assert structured(formease, sent).status_code == 200
    assert User.objects.get(pk=early["subject"]).created_at.isoformat() == "2025-12-31T22:00:00+00:00"
    assert User.objects.get(pk=own["subject"]).created_at.isoformat() == "2025-01-01T00:00:00+00:00"


def test_base_version_detects_a_conflict(formease: api_client.Caller) -> None:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    sent = event("user.updated", key, {"first_name": "Adele"}, baseversion=1)
    problem(structured(formease, sent), 409, "conflict")
    problem(binary(formease, event("user.updated", key, {"first_name": "Adele"}, baseversion=1)), 409, "conflict")
    assert batch(formease, [sent]).json()["results"][0]["problem"]["fields"] == ["first_name"]


def test_base64_data_is_accepted(formease: api_client.Caller) -> None:
    sent = event()
    sent["data_base64"] = base64.b64encode(orjson.dumps(sent.pop("data"))).decode()
    assert structured(formease, sent).json()["status"] == "applied"
    for wrong in ("!", base64.b64encode(b"[]").decode()):
        found = problem(structured(formease, event() | {"data_base64": wrong}), 422, "invalid")
        assert found["errors"].keys() == {"data_base64"}
    sent = event()
    del sent["data"]
    problem(structured(formease, sent | {"data_base64": "AAAA"}), 400, "malformed")


def test_unknown_extensions_are_ignored(formease: api_client.Caller) -> None:
    sent = event(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", partitionkey="7")
    assert structured(formease, sent).json()["status"] == "applied"


# -- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"source": ""}, "source"),
        ({"subject": "x"}, "key"),
        ({"subject": None}, "subject"),
        ({"time": "yesterday"}, "time"),
        ({"time": "9999-12-31T23:59:59-14:00"}, "time"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"data": "text"}, "data"),
        ({"data": {}}, "email"),
        ({"baseversion": "x"}, "baseversion"),
        ({"reason": "x" * 201}, "reason"),
    ],
)
def test_malformed_event_is_refused_by_attribute(
    formease: api_client.Caller, change: dict[str, Any], field: str
) -> None:
    assert problem(structured(formease, event() | change), 422, "invalid")["errors"].keys() == {field}


def test_event_of_another_producer_is_refused(formease: api_client.Caller) -> None:
    problem(structured(formease, event() | {"type": "com.example.user.created"}), 400, "unknown_command")


def test_body_of_another_content_type_is_refused(formease: api_client.Caller) -> None:
    sent = event()
    problem(formease.post("ingest/", sent), 415, "unsupported_media_type")
    problem(binary(formease, sent, b"<a/>", content_type="text/xml"), 415, "unsupported_media_type")
    problem(binary(formease, sent, []), 400, "malformed")
    problem(structured(formease, [sent]), 400, "malformed")
    problem(batch(formease, sent), 400, "malformed")
    problem(structured(formease, b'{"id": 1, "id": 2}'), 400, "duplicate_key")
    problem(binary(formease, sent, **{"ce-subject": "%00"}), 400, "nul_character")
    assert batch(formease, []).json() == {"results": []}


def test_batch_above_the_limit_is_refused(formease: api_client.Caller) -> None:
    problem(batch(formease, [0] * 1001), 413, "too_large")


def test_batch_of_a_thousand_events_is_accepted(formease: api_client.Caller) -> None:
    form = factories.form()
    sent = [event("submission.received", data={"form_id": str(form), "answers": {"q": n}}) for n in range(1000)]
    results = batch(formease, sent).json()["results"]
    assert {one["status"] for one in results} == {"applied"}
    assert Submission.objects.filter(form=form).count() == 1000


def test_ingest_requires_its_scope_and_the_role_of_the_owner() -> None:
    found = problem(structured(api_client.program("users:*", "forms:*"), event()), 403, "missing_scope")
    assert found["missing"] == "ingest:write"
    problem(structured(api_client.program("ingest:write", role="viewer"), event()), 403, "forbidden")
    result = batch(api_client.program("ingest:write", role="agent"), [event()]).json()["results"][0]
    assert result["problem"]["code"] == "forbidden"
    assert not Form.objects.exists()
