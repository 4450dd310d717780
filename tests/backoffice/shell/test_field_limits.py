"""The domain's size limits apply at every entry point, with one message that names the field."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from backoffice import bounds
from backoffice.sections.forms import domain as forms
from events import commands, errors, store
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db

LONG = "x" * (bounds.DESCRIPTION + 1)
WORDS = "20,001 characters; at most 20,000"


@pytest.fixture
def manager() -> api_client.Caller:
    return api_client.signed_in("manager")


@pytest.fixture
def form() -> str:
    return str(factories.form())


def versions(form: str) -> int:
    return store.version_of(f"form-{form}")


def test_command_above_a_limit_is_refused(manager: api_client.Caller, form: str) -> None:
    refusal = api_client.problem(manager.command("form.update", form, {"description": LONG}), 422, "invalid")
    assert WORDS in refusal["errors"]["description"]
    assert versions(form) == 1


def test_patch_above_a_limit_is_refused(manager: api_client.Caller, form: str) -> None:
    answer = manager.patch(f"forms/{form}/", {"description": LONG}, **{"If-Match": '"v1"'})
    assert WORDS in api_client.problem(answer, 422, "invalid")["errors"]["description"]


def test_queued_edit_above_a_limit_is_rejected(manager: api_client.Caller, form: str) -> None:
    each = {"id": str(uuid.uuid4()), "type": "form.update", "key": form, "data": {"description": LONG}}
    (result,) = manager.post("sync/", {"client_id": "x", "mutations": [{"seq": 1, **each}]}).json()["results"]
    assert (result["status"], result["code"]) == ("rejected", "invalid")
    assert WORDS in result["problem"]["errors"]["description"]


def test_event_of_a_batch_above_a_limit_is_rejected_alone(form: str) -> None:
    attributes = {"specversion": "1.0", "source": "test", "type": "formease.form.updated", "subject": form}
    batch = [
        {**attributes, "id": "1", "data": {"description": LONG}},
        {**attributes, "id": "2", "data": {"description": "short"}},
    ]
    answer = api_client.program("ingest:write").post(
        "ingest/", batch, content_type="application/cloudevents-batch+json"
    )
    first, second = answer.json()["results"]
    assert (first["status"], second["status"]) == ("rejected", "applied")
    assert WORDS in first["problem"]["errors"]["description"]


def test_page_shows_the_message_beside_the_field(manager: api_client.Caller, form: str) -> None:
    address = f"/admin/backoffice/form/{form}/change/"
    fields = {field.name: field.value() for field in manager.client.get(address).context["form"]}
    typed = {name: value for name, value in fields.items() if value not in (None, False)} | {"description": LONG}
    answer = manager.client.post(address, typed)
    assert answer.status_code == 422
    assert WORDS in answer.content.decode()
    assert LONG in answer.content.decode(), "nothing typed is lost"
    assert versions(form) == 1


def test_set_of_commands_is_refused_as_a_whole(form: str) -> None:
    wanted = [factories.command(forms.UpdateForm(description=text), form) for text in ("short", LONG)]
    with pytest.raises(errors.InvalidCommand) as refusal:
        commands.dispatch_many(wanted)
    assert WORDS in refusal.value.fields["description"]
    assert versions(form) == 1


def test_record_stored_before_the_limits_can_be_read_and_edited(
    manager: api_client.Caller, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: dict[str, Any] = {"description": LONG, "fields": [{"id": "q", "type": "choice", "options": ["a"] * 2_000}]}
    with monkeypatch.context() as earlier:
        earlier.setattr(bounds, "check", lambda *_: None)
        commands.dispatch(factories.command(forms.UpdateForm(**before), form))
    for page in ("change/", "history/", "compare/?a=1&b=2"):
        assert manager.client.get(f"/admin/backoffice/form/{form}/{page}").status_code == 200
    assert manager.get(f"forms/{form}/").json()["description"] == LONG
    assert manager.command("form.update", form, {"title": "New", **before}).status_code == 200
    assert versions(form) == 3
