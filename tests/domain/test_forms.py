"""Decisions about forms: title, fields with stable ids, deletion and restoring."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from backoffice.sections.forms.domain import (
    AGGREGATE,
    MAX_FIELDS,
    CreateForm,
    DeleteForm,
    FormCreated,
    FormDeleted,
    FormRestored,
    FormUpdated,
    RestoreForm,
    UpdateForm,
)
from events import errors, testing
from events.types import CommandData

NOW = testing.NOW
OWNER = UUID("018f0000-0000-7000-8000-0000000000aa")
NAME, MAIL = {"id": "name", "type": "text", "label": "Name"}, {"id": "mail", "type": "email"}
given = testing.decider(AGGREGATE)


def created(**fields: Any) -> FormCreated:
    usual = {"user_id": OWNER, "title": "Survey", "description": "", "fields": [NAME, MAIL], "created_at": NOW}
    return FormCreated(**usual | fields)


DELETED = FormDeleted(deleted_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_form_is_created_with_its_fields_in_order() -> None:
    given().when(CreateForm(user_id=OWNER, title="  Survey ", fields=[NAME, MAIL])).then(created()).then_state(
        title="Survey", fields=[NAME, MAIL], archived=False
    )


@pytest.mark.parametrize("title", ["", "   ", "\n\t"])
def test_form_without_a_title_is_refused(title: str) -> None:
    given().when(CreateForm(user_id=OWNER, title=title)).then_rejected("needs a title", field="title")
    given(created()).when(UpdateForm(title=title)).then_rejected("needs a title", field="title")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ([{"type": "text"}], "Field 1 needs an id"),
        ([NAME, {"id": "", "type": "text"}], "Field 2 needs an id"),
        ([NAME, {"id": 7, "type": "text"}], "Field 2 needs an id"),
        (["name"], "Field 1 needs an id"),
        ([NAME, {**MAIL, "id": "name"}], "Two fields share the id 'name'"),
        ([{"id": "x"}], "Field 'x' needs a type"),
        ([{"id": "x", "type": 1}], "Field 'x' needs a type"),
        ([{"id": "x", "type": "text", "label": 5}], "label of field 'x' must be text"),
    ],
)
def test_invalid_field_is_named(fields: list, complaint: str) -> None:
    given().when(CreateForm(user_id=OWNER, title="T", fields=fields)).then_rejected(complaint, field="fields")
    given(created()).when(UpdateForm(fields=fields)).then_rejected(complaint, field="fields")


def test_form_with_too_many_fields_is_refused() -> None:
    many = [{"id": f"f{n}", "type": "text"} for n in range(MAX_FIELDS + 1)]
    given(created()).when(UpdateForm(fields=many[:-1])).then_state(fields=many[:-1])
    given(created()).when(UpdateForm(fields=many)).then_rejected("at most", field="fields")


def test_all_errors_are_reported_together() -> None:
    outcome = given().when(CreateForm(user_id=OWNER, title=" ", fields=[{}]))
    outcome.then_rejected(field="title").then_rejected(field="fields")


def test_update_contains_only_changes() -> None:
    given(created()).when(UpdateForm(title="Survey", description="New")).then(FormUpdated(description="New"))
    given(created()).when(UpdateForm(title=" Survey ", fields=[NAME, MAIL])).then_nothing()


def test_order_of_fields_is_a_change() -> None:
    given(created()).when(UpdateForm(fields=[MAIL, NAME])).then(FormUpdated(fields=[MAIL, NAME]))


def test_empty_fields_differ_from_unset_fields() -> None:
    given(created()).when(UpdateForm(fields=[])).then(FormUpdated(fields=[])).then_state(fields=[])
    given(created()).when(UpdateForm(archived=True)).then(FormUpdated(archived=True)).then_state(fields=[NAME, MAIL])


def test_unknown_properties_of_a_field_are_kept() -> None:
    rich = [{**NAME, "options": ["é", {"v": None}], "if": {"field": "mail"}}, MAIL]
    given(created()).when(UpdateForm(fields=rich)).then_state(fields=rich)


@pytest.mark.parametrize("past", [(created(),), (created(), DELETED)])
def test_form_is_not_created_twice(past: tuple) -> None:
    given(*past).when(CreateForm(user_id=OWNER, title="Other")).then_rejected("already exists", error=errors.Rejected)


def test_deleted_form_changes_only_after_a_restore() -> None:
    gone = given(created()).when(DeleteForm()).then(FormDeleted(deleted_at=NOW)).and_given()
    gone.when(DeleteForm()).then_nothing()
    gone.when(UpdateForm(title="X")).then_rejected("restore it first", error=errors.Rejected)
    back = gone.when(RestoreForm()).then(FormRestored()).then_state(deleted_at=None, title="Survey").and_given()
    back.when(RestoreForm()).then_nothing()
    back.when(UpdateForm(title="X")).then(FormUpdated(title="X"))


@pytest.mark.parametrize("command", [UpdateForm(title="X"), DeleteForm(), RestoreForm()])
def test_missing_form_is_not_found(command: CommandData) -> None:
    given().when(command).then_not_found("no such form")
