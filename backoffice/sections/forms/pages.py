"""Panels on the page of a form: owner, latest submissions and submissions per day."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone
from django.utils.translation import ngettext

from backoffice import access, models, section
from backoffice.web import charts, lists

LATEST: Final = 5
DAYS: Final = 30

PER_DAY = """
select (created_at at time zone 'UTC')::date as day, count(*)
  from submissions
 where form_id = %s and created_at >= %s and deleted_at is null
 group by day
"""


def owner(row: models.Form, staff: Any) -> str:
    """Returns the name of a form's owner, nothing for staff who may not view users."""
    user = section.kind("user")
    return str(user.title(lists.related(row, "user"), staff)) if access.may(staff, "view", "user") else ""


def row_context(row: models.Form, staff: Any) -> dict[str, Any]:
    return {"owner": section.kind("user").title(lists.related(row, "user"), staff)}


def panels(row: models.Form, staff: Any) -> dict[str, Any]:
    """Returns a form's owner, its latest submissions and the number of submissions per day."""
    owner = lists.related(row, "user")
    context: dict[str, Any] = {"owner": owner, "owner_label": section.kind("user").title(owner, staff)}
    if not access.may(staff, "view", "submission"):
        return context
    found = models.Submission.objects.filter(form_id=row.pk, deleted_at=None).order_by("-created_at", "-id")
    return context | {
        "submissions": lists.decorated(section.kind("submission"), found[:LATEST], staff),
        "chart": charts.daily(submissions_per_day(row.pk)),
    }


def submissions_per_day(form_id: Any, days: int = DAYS) -> list[tuple[date, int]]:
    """Counts the submissions of each of the last days, including today and days without any."""
    today = timezone.now().date()
    first = today - timedelta(days=days - 1)
    with connection.cursor() as cursor:
        cursor.execute(PER_DAY, [form_id, first])
        found = dict(cursor.fetchall())
    return [(day, found.get(day, 0)) for day in (first + timedelta(days=n) for n in range(days))]


def format_questions(value: Any, whole: bool) -> str | None:
    """Formats the questions as their number, or in full if requested."""
    if whole or not isinstance(value, list):
        return None
    return ngettext("%(n)d question", "%(n)d questions", len(value)) % {"n": len(value)}
