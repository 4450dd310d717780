"""Alerts on the dashboard: the widget of those that are open, and their episodes as spans of charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import Q
from django.urls import reverse

from backoffice import access
from metrics.charts.model import Span
from metrics.dashboard.asked import Asked
from metrics.dashboard.lists import ROWS
from metrics.monitoring import metric_types, units
from metrics.monitoring.alerting import dispatching, domain, models, report
from metrics.monitoring.metric_types import Metric

MAX_SPANS: Final = 50


def now(asked: Asked) -> dict[str, Any]:
    """The open alerts, the most urgent first. Their values are for those who may see how the system runs."""
    details = access.may(asked.staff, "view", "system")
    found = report.alerts()
    rules = models.by_id(models.Rule.objects.filter(pk__in={row.rule_id for row in found}))
    return {
        "count": sum(1 for row in found if row.state == "firing"),
        "rows": [
            {
                "title": dispatching.title_of(rule.title) if rule else row.rule_id,
                "target": row.target if details else "",
                "value": _value(row, rule) if details else "",
                "row": row,
                "url": reverse("admin:alerts_alert", args=[row.pk]),
            }
            for row in found[: ROWS[asked.h]]
            for rule in (rules.get(row.rule_id),)
        ],
    }


def _value(row: models.Alert, rule: models.Rule | None) -> str:
    metric = metric_types.METRICS.get(rule.metric) if rule else None
    return units.text(row.value, metric.unit) if metric and row.value is not None else ""


def spans(asked: Asked, metric: Metric, start: datetime, end: datetime) -> Sequence[Span]:
    """The episodes of the alerts about a metric between two instants, the newest ones."""
    if not access.may(asked.staff, "view", domain.CATEGORY):
        return ()
    rules = {rule.pk: rule for rule in models.Rule.objects.filter(metric=metric.name)}
    if not rules:
        return ()
    about = Q(alert__in=rules)
    for key in rules:
        about |= Q(alert__startswith=f"{key}:")
    episodes = models.Episode.objects.filter(about, raised_at__lt=end)
    open_then = episodes.filter(Q(resolved_at=None) | Q(resolved_at__gt=start)).order_by("-raised_at")[:MAX_SPANS]
    return [
        Span(
            start=episode.raised_at,
            end=episode.resolved_at,
            severity=episode.severity,
            label=str(dispatching.title_of(rules[domain.parts_of(episode.alert)[0]].title)),
        )
        for episode in open_then
    ]
