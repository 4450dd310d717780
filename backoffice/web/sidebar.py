"""What stands beside a record: its facts, its last changes, what belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backoffice import access, models
from backoffice.sections.forms import domain as forms
from backoffice.sections.privacy import erasure
from backoffice.sections.users import domain as users
from backoffice.web import actors, charts, diffs, lists, timeline
from backoffice.web.resources import FORMS, SUBMISSIONS, Resource
from events import types
from events.types import ERASED

LATEST: Final = 5

# What an erased record has nothing of any more; its row has these empty, as if nobody had filled them in.
_GONE: Final = {"user": users.PERSONAL, "form": tuple(forms.PERSONAL)}


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that is shown and not edited."""

    name: str
    label: str
    value: Any
    shown: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answered to a question. `kind` says how to draw it: empty, list, long, yes_no, text."""

    label: str
    type: str
    kind: str
    value: Any


def name_of(resource: Resource, row: Any, staff: Any) -> str:
    """A record's name as this person may see it."""
    match resource.category:
        case "user":
            return actors.user_label(row, staff)
        case "submission":
            form = lists.related(row, "form")
            return str(form) if form else str(row.pk)
        case _:
            return str(row)


def record(resource: Resource, row: Any, staff: Any) -> dict[str, Any]:
    """All panels of a record's page."""
    stream = types.stream_name(resource.category, row.pk)
    hidden = access.hidden_fields(staff, resource.category)
    context: dict[str, Any] = {
        "name": name_of(resource, row, staff),
        "hidden": hidden,
        "facts": facts(resource, row, staff),
        "latest": timeline.latest(stream, staff, LATEST),
    }
    beside = _BESIDE.get(resource.category)
    return context | (beside(row, staff) if beside else {})


def facts(resource: Resource, row: Any, staff: Any) -> list[Fact]:
    """The record's own fields as they are read by who does not edit them."""
    names = resource.form.base_fields if resource.form else {}
    listed = [*names, *(["fields"] if resource.category == "form" else [])]
    values = {name: getattr(row, name) for name in listed}
    if erasure.is_erased(row):
        values |= dict.fromkeys(_GONE.get(resource.category, ()), ERASED)
    return state_facts(resource, values, staff)


def state_facts(resource: Resource, state: Mapping[str, Any], staff: Any) -> list[Fact]:
    """A state field by field as this person may see it."""
    seen = access.redact(staff, resource.category, state)
    return [Fact(name, resource.label(name), value, diffs.shown(resource, name, value)) for name, value in seen.items()]


def _user(row: models.User, staff: Any) -> dict[str, Any]:
    """A user's forms."""
    if not access.may(staff, "view", "form"):
        return {}
    found = models.Form.objects.filter(user_id=row.pk, deleted_at=None).order_by("-created_at")[: LATEST + 1]
    listed = list(found)
    return {
        "forms": lists.decorated(FORMS, listed[:LATEST], staff),
        "more_forms": len(listed) > LATEST,
        "may_add_form": access.may(staff, "create", "form"),
    }


def _form(row: models.Form, staff: Any) -> dict[str, Any]:
    """A form's owner, its latest submissions and how many came each day."""
    owner = lists.related(row, "user")
    context: dict[str, Any] = {"owner": owner, "owner_label": actors.user_label(owner, staff)}
    if not access.may(staff, "view", "submission"):
        return context
    found = models.Submission.objects.filter(form_id=row.pk, deleted_at=None).order_by("-created_at", "-id")
    return context | {
        "submissions": lists.decorated(SUBMISSIONS, found[:LATEST], staff),
        "chart": charts.daily(charts.submissions_per_day(row.pk)),
    }


def _submission(row: models.Submission, staff: Any) -> dict[str, Any]:
    """Answers beside their questions, in the form's order; answers to questions that are gone come last."""
    form = lists.related(row, "form")
    context: dict[str, Any] = {"form_row": form}
    if "answers" in access.hidden_fields(staff, "submission"):
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


_BESIDE: Final[Mapping[str, Callable[[Any, Any], dict[str, Any]]]] = {
    "user": _user,
    "form": _form,
    "submission": _submission,
}
