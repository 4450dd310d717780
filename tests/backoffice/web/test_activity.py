"""The latest activity of the overview: form title, owner and source, by role, with one query for each kind."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backoffice import access, section
from backoffice.models import Staff
from backoffice.sections.submissions import domain as submissions
from backoffice.web import event_rows
from events import commands, context, head, store
from tests import factories
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db(transaction=True)

ADDRESS = "ada.lovelace@example.org"


def receive(form: Any, actor: str) -> None:
    with context.acting(context.Context(actor=actor, actor_name="Somebody")):
        commands.dispatch(factories.command(submissions.ReceiveSubmission(form_id=form, answers={"q": "secret"})))


def shown(person: Staff) -> str:
    page = api_client.Caller(person).get("/admin/").content.decode()
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))


@pytest.mark.parametrize(
    ("actor", "source"),
    [("staff:7", "Backoffice"), ("key:abc", "API"), ("command:import", "Command line"), ("system", "System")],
)
def test_submission_is_shown_with_form_owner_and_source(actor: str, source: str) -> None:
    form = factories.form(factories.user(first_name="Ada", last_name="Lovelace"), title="Feedback")
    receive(form, actor)
    assert f"submission Feedback Ada Lovelace · {source}" in shown(api_client.staff("manager"))


@pytest.mark.parametrize("role", api_client.ROLES)
def test_activity_shows_no_field_that_the_role_may_not_see(role: str) -> None:
    form = factories.form(factories.user(email=ADDRESS), title="Feedback")
    receive(form, "system")
    person = api_client.staff(role)
    text = shown(person)
    assert (ADDRESS in text) is ("email" not in access.hidden_fields(person, "user"))
    assert ("Unnamed user · System" in text) is ("email" in access.hidden_fields(person, "user"))
    assert "secret" not in text


def test_owner_is_left_out_for_a_role_that_may_not_view_users(monkeypatch: pytest.MonkeyPatch) -> None:
    form = factories.form(factories.user(first_name="Ada"), title="Feedback")
    receive(form, "system")
    monkeypatch.setitem(section._rights, "user", {})
    text = shown(api_client.staff("viewer"))
    assert "submission Feedback System" in text
    assert "Ada" not in text


def test_batch_of_events_takes_one_query_for_each_kind() -> None:
    person = api_client.staff("manager")

    def queries(count: int) -> int:
        before = head.safe()
        for _ in range(count):
            receive(factories.form(), "system")
        events = store.read_all(before, 1_000, upto=head.safe())
        with CaptureQueriesContext(connection) as captured:
            rows = event_rows.rows(events, person)
        assert all(row.owner for row in rows if row.event.category != "user")
        return len(captured)

    assert queries(1) == queries(30) == len({"user", "form", "submission"})


def test_event_of_a_submission_carries_neither_title_nor_owner() -> None:
    form = factories.form(factories.user(first_name="Ada"), title="Feedback")
    before = head.safe()
    receive(form, "system")
    (event,) = store.read_all(before, 10, upto=head.safe())
    assert set(event.data) == {"form_id", "answers", "created_at"}
