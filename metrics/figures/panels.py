"""Figures on the pages of users and forms: a panel with counts and a chart of submissions."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import section
from backoffice.section import Extension, Panel
from metrics import queries
from metrics.figures import charted
from metrics.figures.numbers import AsOf, Number
from metrics.figures.records import Counts, DayCount, FormCounts, FormDays, UserCounts, UserDays
from metrics.queries import Answer

TEMPLATE: Final = "admin/backoffice/figures/panel.html"
RECENT_NOTE: Final = gettext_lazy("Since the full hour 30 days ago.")
LIVING_NOTE: Final = gettext_lazy("Without those of deleted forms.")


def of_record(category: str, key: UUID, staff: Any, min_position: int = 0) -> dict[str, Any]:
    """The values of the panel. Raises `PermissionDenied`, and `Http404` for a category without figures."""
    asked = {"user": _of_user, "form": _of_form}.get(category)
    if asked is None:
        raise Http404
    counts, days = asked(key, staff, min_position)
    return {
        "url": reverse("admin:figures_record", args=[category, key]),
        "topic": section.kind(category).topic_of(key),
        "position": min(counts.position, days.position),
        "numbers": _numbers(counts, category),
        "chart": charted.record_days(days.value),
        "chart_as_of": AsOf.of(days),
    }


def _of_user(key: UUID, staff: Any, min_position: int) -> tuple[Answer[Counts], Answer[list[DayCount]]]:
    counts = queries.ask(UserCounts(user=key), staff, min_position=min_position)
    return counts, queries.ask(UserDays(user=key), staff, min_position=min_position)


def _of_form(key: UUID, staff: Any, min_position: int) -> tuple[Answer[Counts], Answer[list[DayCount]]]:
    counts = queries.ask(FormCounts(form=key), staff, min_position=min_position)
    return counts, queries.ask(FormDays(form=key), staff, min_position=min_position)


def _numbers(answer: Answer[Counts], category: str) -> list[Number]:
    counts, as_of = answer.value, AsOf.of(answer)
    is_user = category == "user"
    submissions, recent = counts.submission_count, counts.recent_submissions
    note = _("Not counted yet.") if submissions is None else LIVING_NOTE if is_user else ""
    numbers = [
        Number(name="submissions", label=_("Submissions"), value=submissions, as_of=as_of, note=note),
        Number(name="recent", label=_("Last 30 days"), value=recent, as_of=as_of, note=RECENT_NOTE),
        Number(name="last", label=_("Last submission"), value=counts.last_submission_at, as_of=as_of),
    ]
    if is_user:
        numbers.insert(0, Number(name="forms", label=_("Forms"), value=counts.form_count, as_of=as_of))
    return numbers


def _context(row: Any, staff: Any) -> dict[str, Any]:
    try:
        return of_record(row._meta.model_name, row.pk, staff)
    except PermissionDenied:
        return {}


EXTENSIONS: Final = tuple(
    Extension(category=category, panels=(Panel(template=TEMPLATE, context=_context, field="figures"),))
    for category in ("user", "form")
)
