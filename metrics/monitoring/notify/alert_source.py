"""Answers the questions of notifications (`sources`) from the read tables of alerts, rules and silences."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.urls import reverse

from metrics.monitoring import metric_types, units
from metrics.monitoring.alerting import dispatching, inhibition, models, report
from metrics.monitoring.notify import sources
from metrics.monitoring.notify.sources import FiringAlert, Rule


def connect() -> None:
    """Connect notifications with the alerts; called once from `ready()`."""
    found = sources.SOURCES
    found.rule, found.firing = _rule, _firing
    found.silence, found.inhibitor, found.path = report.silence_of, _inhibitor, _path
    found.value = _value


def _rule(rule: str) -> Rule:
    row = models.Rule.objects.filter(pk=rule).first()
    if row is None:
        return Rule(id=rule, title=rule)
    return Rule(
        id=rule,
        title=dispatching.title_of(row.title),
        metric=row.metric,
        channels=row.channels,
        escalation=[step["channels"] for step in row.escalation],
    )


def _firing() -> Sequence[FiringAlert]:
    return [
        FiringAlert(
            alert=row.pk,
            episode=row.episode,
            severity=row.severity,
            facts={"reason": row.reason, "value": row.value, "since": row.since and row.since.isoformat()},
        )
        for row in report.firing()
    ]


def _inhibitor(rule: str, firing: Collection[str]) -> str:
    return next(iter(inhibition.inhibitors(rule, firing)), "")


def _path(alert: str) -> str:
    return reverse("admin:alerts_alert", args=[alert]) if alert else reverse("admin:alerts_list")


def _value(metric: str, value: float) -> str:
    known = metric_types.METRICS.get(metric)
    return units.text(value, known.unit if known else "1")
