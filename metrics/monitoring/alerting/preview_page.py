"""The page that shows how often a rule would have fired, with other levels and times when they are given."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from backoffice import access, error_messages
from events import errors
from metrics.monitoring import metric_types
from metrics.monitoring.alerting import chart, models, preview, rules

HOURS: Final = (1, 6, 24, 72, 168, 336, 720, 2160)
_FIELDS: Final = ("warn", "critical", "clear", "for_seconds", "critical_for_seconds", "keep_seconds")


def may_see_metrics(staff: Any, rule: models.Rule | rules.Rule) -> bool:
    """Whether this person may see the history of the metrics that a rule judges; an unknown metric has none."""
    known = [metric_types.METRICS[name] for name in (rule.metric, rule.per) if name in metric_types.METRICS]
    return all(access.may(staff, "view", metric.right) for metric in known)


class PreviewPage:
    """The page under ``alerts/preview/``."""

    def __init__(self, site: AdminSite) -> None:
        self.site = site

    def view(self, request: HttpRequest) -> HttpResponse:
        """Shows how often the rule `?rule=` would have fired, with other levels and times when given."""
        if not access.may(request.user, "view", rules.CATEGORY):
            raise PermissionDenied
        row = models.Rule.objects.filter(pk=request.GET.get("rule", "").replace("\0", "")).first()
        if row is None:
            raise Http404
        asked = request.GET.get("hours", "")
        hours = int(asked) if asked in [str(each) for each in HOURS] else 24
        data: dict[str, Any] = {"title": _("Preview of a rule"), "rule": row, "hours": hours, "choices": HOURS}
        try:
            rule = preview.changed_rule(row.pk, _given(request))
            if not may_see_metrics(request.user, rule):
                problem = _("Your role may not see the history of this metric.")
                return self._render(request, {**data, "problem": problem}, 403)
            found = preview.over_history(rule, hours=hours)
        except errors.EventsError as error:
            return self._render(request, {**data, "problem": error_messages.in_one_line(error)}, 422)
        except preview.NoHistory:
            return self._render(request, {**data, "problem": _("There is no history of this metric yet.")})
        spans = [(span.start, span.end, span.severity) for span in found.spans]
        drawn = chart.draw(rule, found.values, found.first, spans, found.step)
        result = preview.answer(found, hours)
        minutes = round(found.firing_seconds / 60)
        shown = {"tried": rule, "chart": drawn, "found": result, "minutes": minutes, "share": found.share}
        return self._render(request, data | shown)

    def _render(self, request: HttpRequest, data: dict[str, Any], status: int = 200) -> HttpResponse:
        whole = {**self.site.each_context(request), "fields": _FIELDS, **data}
        return TemplateResponse(request, "admin/backoffice/alerts/preview.html", whole, status=status)


def _given(request: HttpRequest) -> dict[str, Any]:
    """The fields of the preview's form. Raises `InvalidCommand` for one that is no number."""
    found: dict[str, Any] = {}
    for name in _FIELDS:
        text = request.GET.get(name)
        if text is None:
            continue
        try:
            number = float(text) if text.strip() else None
            found[name] = int(number) if number is not None and name.endswith("_seconds") else number
        except (ValueError, OverflowError):  # no number, or no finite one
            raise errors.InvalidCommand(fields={name: "Enter a number."}) from None
    return found
