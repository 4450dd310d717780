"""Forms that a script sends: JSON instead of redirects, refusals, sessions, and one command for a repeated input."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from backoffice import models
from events import store
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db

SCRIPT = {"X-Requested-With": "fetch"}


def send(client: Client, address: str, data: Mapping[str, Any], **headers: str) -> HttpResponse:
    return client.post(address, data, headers=SCRIPT | headers)


def user_page(name: str, *args: Any) -> str:
    return reverse(f"admin:backoffice_user_{name}", args=args)


def conflict(caller: api_client.Caller) -> str:
    key = factories.user(first_name="Ada")
    factories.update(key, first_name="Theirs")
    answer = caller.command("user.update", key, {"first_name": "Mine"}, base_version=1)
    found: str = answer.json()["conflict_id"]
    return found


def test_redirect_becomes_json_and_the_next_page_shows_the_message() -> None:
    client, key = api_client.signed_in("manager").client, factories.user()
    page = client.get(user_page("delete", key)).context["form"]
    data = {"base_version": page["base_version"].value(), "command_id": uuid.uuid4(), "reason": "Twice"}
    answer = send(client, user_page("delete", key), data)
    assert (answer.status_code, answer.json()) == (200, {"location": user_page("changelist")})
    assert "was deleted" in client.get(user_page("changelist")).content.decode()


def test_messages_about_the_input_are_the_page() -> None:
    client = api_client.signed_in("manager").client
    answer = send(client, user_page("add"), {"email": "no address", "command_id": uuid.uuid4()})
    assert (answer.status_code, answer["Content-Type"]) == (422, "text/html; charset=utf-8")
    assert 'value="no address"' in answer.content.decode()


def test_error_message_before_a_redirect_is_a_refusal_and_shown_once() -> None:
    caller = api_client.signed_in("manager")
    act = reverse("admin:backoffice_conflict_act", args=[conflict(caller)])
    answer = send(caller.client, act, {"do": "assign", "assignee": "999999"})
    assert answer.status_code == 422
    assert "cannot" in answer.json()["refusal"]
    assert answer.json()["refusal"] not in caller.client.get("/admin/").content.decode()


def test_error_message_of_an_earlier_request_is_no_refusal_and_still_shown() -> None:
    caller = api_client.signed_in("manager")
    key = conflict(caller)
    act = reverse("admin:backoffice_conflict_act", args=[key])
    caller.client.post(act, {"do": "assign", "assignee": "999999"})  # the page with its message was never loaded
    answer = send(caller.client, act, {"do": "dismiss"})
    assert answer.json() == {"location": reverse("admin:backoffice_conflict_change", args=[key])}
    assert "This person cannot resolve this conflict." in caller.client.get("/admin/").content.decode()


def test_selection_that_is_missing_is_a_refusal() -> None:
    caller = api_client.signed_in("manager")
    conflict(caller)
    bulk = reverse("admin:backoffice_conflict_bulk")
    answer = send(caller.client, bulk, {"do": "dismiss", "reason": "All of them"})
    assert (answer.status_code, answer.json()) == (422, {"refusal": "Select at least one conflict."})


def test_answers_name_their_request() -> None:
    caller = api_client.signed_in("manager")
    act = reverse("admin:backoffice_conflict_act", args=[conflict(caller)])
    answers = [
        send(caller.client, act, {"do": "comment", "text": "Once"}),
        send(caller.client, act, {"do": "assign", "assignee": "999999"}),
        send(caller.client, act, {"do": "dismiss"}, **{"X-Person": "999999"}),
        send(Client(), act, {"do": "dismiss"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 409, 401]
    assert len({answer["X-Request-ID"] for answer in answers}) == 4


def test_request_without_a_session_is_no_redirect_to_the_login_page() -> None:
    answer = send(Client(), user_page("add"), {"email": "a@example.org"})
    assert (answer.status_code, answer.json()) == (401, {"code": "signed_out"})


def test_page_of_another_person_changes_nothing() -> None:
    client = api_client.signed_in("manager").client
    data = {"email": "other@example.org", "command_id": uuid.uuid4()}
    answer = send(client, user_page("add"), data, **{"X-Person": "999999"})
    assert (answer.status_code, answer.json()) == (409, {"code": "other_person"})
    assert not models.User.objects.filter(email="other@example.org").exists()


def test_same_comment_sent_twice_is_one_comment() -> None:
    caller = api_client.signed_in("manager")
    key = conflict(caller)
    act = reverse("admin:backoffice_conflict_act", args=[key])
    data = {"do": "comment", "text": "Once", "command_id": str(uuid.uuid4())}
    assert [send(caller.client, act, data).status_code for _time in range(2)] == [200, 200]
    types = [event.type for event in store.read_stream(f"conflict-{key}")]
    assert types.count("conflict.commented") == 1


def test_form_without_a_script_is_redirected() -> None:
    client = api_client.signed_in("manager").client
    data = {"email": "plain@example.org", "plan": "free", "role": "member", "command_id": uuid.uuid4()}
    assert client.post(user_page("add"), data).status_code == 302


def test_reason_for_restoring_a_version_is_kept_when_the_record_changed() -> None:
    client, key = api_client.signed_in("manager").client, factories.user(first_name="Ada")
    factories.update(key, first_name="Augusta")
    address = user_page("rollback", key, 1)
    form = client.get(address).context["form"]
    data = {"base_version": form["base_version"].value(), "command_id": uuid.uuid4(), "reason": "As she asked"}
    factories.update(key, first_name="Augusta Ada")
    page = send(client, address, data)
    assert page.context["form"]["reason"].value() == "As she asked"
    assert send(client, address, {**data, "base_version": page.context["form"]["base_version"].value()}).json() == {
        "location": user_page("change", key)
    }
