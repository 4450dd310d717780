"""Panels on the page of a submission: its form, and the answers beside their questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backoffice import access, models, section, topics
from backoffice.sections.submissions import domain
from backoffice.web import diffs, lists
from events.types import JsonDict, RecordedEvent


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a question. `kind` is its display type: empty, list, long, yes_no, text."""

    label: str
    type: str
    kind: str
    value: Any


def title(row: models.Submission, _staff: Any) -> str:
    form = lists.related(row, "form")
    return str(form) if form else str(row.pk)


def owner(row: models.Submission, staff: Any) -> str:
    """Returns the name of the owner of a submission's form."""
    form = lists.related(row, "form")
    return section.kind("form").owner(form, staff) if form else ""


def row_context(row: models.Submission, _staff: Any) -> dict[str, Any]:
    return {"form": lists.related(row, "form"), "name": str(row)}


def panels(row: models.Submission, staff: Any) -> dict[str, Any]:
    """Returns the answers beside their questions, in the form's order; answers to removed questions come last."""
    form = lists.related(row, "form")
    hidden = access.hidden_fields(staff, "submission")
    context: dict[str, Any] = {"form_row": form, "times_hidden": "completion_time" in hidden}
    if "answers" in hidden:
        return context | {"answers_hidden": True}
    if row.is_erased:
        return context | {"answers_erased": True}
    questions = [field for field in (form.fields if form else []) if isinstance(field, dict)]
    known = {field.get("id"): field for field in questions}
    rest = [{"id": key} for key in row.answers if key not in known]
    return context | {"answers": [_answer(field, row.answers) for field in [*questions, *rest]]}


def _answer(field: dict[str, Any], answers: dict[str, Any]) -> Answer:
    value = answers.get(field.get("id", ""))
    if value is None or value in ("", []):
        kind = "empty"
    elif isinstance(value, bool):
        kind = "yes_no"
    elif isinstance(value, list):
        kind = "list"
    elif isinstance(value, dict):
        kind, value = "code", diffs.shown(None, "", value)
    else:
        kind = "long" if len(str(value)) > 80 else "text"
    return Answer(str(field.get("label") or field.get("id")), str(field.get("type", "")), kind, value)


def format_answers(value: Any, _whole: bool) -> str | None:
    if value == domain.NO_ANSWERS:
        return _("erased")
    if not isinstance(value, dict | list):
        return None
    return ngettext("%(n)d answer", "%(n)d answers", len(value)) % {"n": len(value)}


def show(event: RecordedEvent, role: str) -> JsonDict | None:
    """Returns the event as JSON; of form events only erasures, which remove the answers from open pages."""
    return topics.show(event, role) if event.category == "submission" or event.type == "form.erased" else None
