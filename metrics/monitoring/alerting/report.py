"""The alerts as pages, the API, `check_alerts` and `doctor` list them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Case, IntegerField, Q, Value, When

from events import store
from metrics.monitoring.alerting import dispatching, domain, inhibition, judge, models, silences, windows

NOW = "select clock_timestamp()"
OPEN = ("firing", "acknowledged", "closed")

_RANK = Case(
    When(Q(state="firing", severity="critical"), then=Value(0)),
    When(Q(state="firing"), then=Value(1)),
    When(Q(state="acknowledged"), then=Value(2)),
    When(Q(state="closed"), then=Value(3)),
    default=Value(4),
    output_field=IntegerField(),
)


def now() -> datetime:
    """The time of the database."""
    found: datetime = store.query(NOW)[0][0]
    return found


def alerts(states: Collection[str] = OPEN, limit: int = 500) -> list[models.Alert]:
    """Alerts in these states, the most urgent and newest first."""
    rows = models.Alert.objects.filter(state__in=states).annotate(rank=_RANK)
    return list(rows.order_by("rank", "-raised_at", "id")[:limit])


def firing() -> list[models.Alert]:
    """The alerts that fire, acknowledged ones included."""
    return alerts(("firing", "acknowledged"))


def counts() -> dict[str, int]:
    """The number of firing alerts by severity, for the bell."""
    rows = models.Alert.objects.filter(state="firing").values_list("severity", flat=True)
    found = list(rows)
    return {name: found.count(name) for name in ("critical", "warning")}


class Muted:
    """The silences and firing rules that mute messages now. A muted alert still fires."""

    def __init__(self, rows: Sequence[models.Alert]) -> None:
        at = now()
        self._firing = {row.rule_id for row in rows if row.state in ("firing", "acknowledged")}
        self._silences = [row for row in models.Silence.objects.filter(deleted_at=None) if silences.covers(row, at)]

    def inhibited_by(self, row: models.Alert) -> list[str]:
        return inhibition.inhibitors(row.rule_id, self._firing - {row.rule_id})

    def silenced_by(self, row: models.Alert) -> list[models.Silence]:
        return [one for one in self._silences if silences.matches(one, row.rule_id, row.target, row.severity)]


def silence_of(alert: str, severity: str, at: datetime) -> str:
    """The id of a silence that covers an alert at that time; empty when none does."""
    rule, target = domain.parts_of(alert)
    for row in models.Silence.objects.filter(deleted_at=None):
        if silences.matches(row, rule, target, severity) and silences.covers(row, at):
            return str(row.pk)
    return ""


def shown(rows: Sequence[models.Alert]) -> list[dict[str, Any]]:
    """Alerts as the API shows them."""
    known = models.by_id(models.Rule.objects.filter(pk__in={row.rule_id for row in rows}))
    muted = Muted(rows if rows and all(row.is_open for row in rows) else firing())
    return [_shown(row, known.get(row.rule_id), muted) for row in rows]


def _shown(row: models.Alert, rule: models.Rule | None, muted: Muted) -> dict[str, Any]:
    names = ("state", "severity", "reason", "episode", "value", "since", "raised_at", "resolved_at", "why", "owner")
    more = ("note", "acknowledged_until", "step", "flapping", "version")
    metric = rule.metric if rule else ""
    return {
        "id": row.pk,
        "rule": row.rule_id,
        "target": row.target,
        "title": rule.title if rule else row.rule_id,
        "metric": metric,
        "group": metric.partition(".")[0],
        **{name: getattr(row, name) for name in (*names, *more)},
        "inhibited_by": muted.inhibited_by(row) if row.is_open else [],
        "silenced_by": [one.pk for one in muted.silenced_by(row)] if row.is_open else [],
    }


def states() -> list[dict[str, Any]]:
    """Every alert and every rule that is pending, for `check_alerts --json`."""
    found = shown(alerts(("quiet", *OPEN)))
    try:
        waiting = list(judge.pending(judge.present_slot() - 1))
    except windows.NoSource:
        waiting = []
    found_pending = [
        {
            "id": subject.key,
            "rule": subject.rule_id,
            "target": subject.target,
            "title": subject.rule.title,
            "metric": subject.rule.metric,
            "state": "pending",
            "severity": one.severity,
            "seconds": one.seconds,
            "of": one.of,
        }
        for subject, one in waiting
    ]
    keys = {each["id"] for each in found_pending}
    return [*found_pending, *(each for each in found if each["id"] not in keys)]


def pending(slot: int) -> dict[str, dict[str, Any]]:
    """The rules that are pending at a slot, by alert, for the frame `system.metrics`."""
    return {
        subject.key: {"severity": one.severity, "seconds": one.seconds, "of": one.of}
        for subject, one in judge.pending(slot)
    }


def summary(rows: Sequence[models.Alert]) -> str:
    """Alerts in one line, for `doctor`."""
    named = dispatching.titles()
    return "; ".join(dispatching.describe(row, named.get(row.rule_id, row.rule_id)) for row in rows)
