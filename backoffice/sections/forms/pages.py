"""Panels on the page of a form: owner and latest submissions."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import ngettext

from backoffice import access, models, section
from backoffice.web import lists

LATEST: Final = 5


def owner(row: models.Form, staff: Any) -> str:
    """Returns the name of a form's owner; empty for staff who may not view users."""
    user = section.kind("user")
    return str(user.title(lists.related(row, "user"), staff)) if access.may(staff, "view", "user") else ""


def row_context(row: models.Form, staff: Any) -> dict[str, Any]:
    return {"owner": section.kind("user").title(lists.related(row, "user"), staff)}


def panels(row: models.Form, staff: Any) -> dict[str, Any]:
    """Returns a form's owner and its latest submissions."""
    owner = lists.related(row, "user")
    context: dict[str, Any] = {"owner": owner, "owner_label": section.kind("user").title(owner, staff)}
    if not access.may(staff, "view", "submission"):
        return context
    found = models.Submission.objects.filter(form_id=row.pk, deleted_at=None).order_by("-created_at", "-id")
    return context | {"submissions": lists.decorated(section.kind("submission"), found[:LATEST], staff)}


def format_questions(value: Any, whole: bool) -> str | None:
    """Formats the questions as their number; None to show them in full (`whole`)."""
    if whole or not isinstance(value, list):
        return None
    return ngettext("%(n)d question", "%(n)d questions", len(value)) % {"n": len(value)}
