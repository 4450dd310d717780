"""Alert events and channels for tests of notifications, and the passing of time in the tables."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from django.db import transaction

from events import projections, store, types
from events.types import Event, NewEvent
from metrics.monitoring.notify import changes, sources
from metrics.monitoring.notify.models import Attempt, Delivery
from metrics.monitoring.notify.sources import FiringAlert, Rule

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


DEFAULTS: dict[str, Any] = {
    "severity": "critical",
    "reason": "threshold",
    "value": 97.5,
    "since": SINCE,
    "rule_version": 1,
    "target": "",
    "calm": {"metric": "cpu.percent", "comparison": "above", "clear": 70.0},
    "slot": 1,
    "at": SINCE,
    "lasted": 120,
    "count": 3,
    "step": 1,
    "by": "staff:1",
    "note": "",
}
WHY = {"resolved": "recovered", "unacknowledged": "expired", "closed": ""}


def event(name: str, episode: int = 1, **fields: Any) -> Event:
    """An alert event of that name; fields that are not given have some valid value."""
    given = {**DEFAULTS, "episode": episode, "why": WHY.get(name, ""), **fields}
    return msgspec.convert(msgspec.to_builtins(given), types.event_type_of(f"alert.{name}").cls)


def happen(alert: str, *events: Event) -> None:
    """Append events of an alert, with their deliveries, as a command does."""
    stream = f"alert-{alert}"
    with transaction.atomic():
        version = store.version_of(stream)
        now = store.query("select clock_timestamp()")[0][0]
        new = [
            NewEvent(stream=stream, version=version + n, data=one, event_id=types.new_id(), recorded_at=now)
            for n, one in enumerate(events, start=1)
        ]
        projections.project(new)
        store.append(stream, list(events), expected=version)


def raised(alert: str = "high_cpu", episode: int = 1, **fields: Any) -> None:
    happen(alert, event("raised", episode, **fields))


def resolved(alert: str = "high_cpu", episode: int = 1, **fields: Any) -> None:
    happen(alert, event("resolved", episode, **fields))


def channel(kind: str = "webhook", name: str = "", **fields: Any) -> uuid.UUID:
    given = {"kind": kind, "name": name or f"{kind} {uuid.uuid4().hex[:6]}", **fields}
    return changes.write(None, given).channel.pk


def deliveries(**wanted: Any) -> list[Delivery]:
    return list(Delivery.objects.filter(**wanted).order_by("id"))


def states(**wanted: Any) -> list[tuple[str, str, str]]:
    """(kind, state, why) of each delivery, in order."""
    return [(one.kind, one.state, one.why.partition(":")[0]) for one in deliveries(**wanted)]


def attempts(delivery: Delivery) -> list[Attempt]:
    return list(Attempt.objects.filter(delivery=delivery).order_by("number"))


def pass_time(seconds: float) -> None:
    """Let time pass for notifications: move all times that they have stored into the past."""
    by = timedelta(seconds=seconds)
    store.execute(
        """update metrics_delivery set decided_at = decided_at - %(by)s, due = due - %(by)s,
           expires_at = expires_at - %(by)s, leased_until = leased_until - %(by)s""",
        {"by": by},
    )
    store.execute(
        "update metrics_channel set group_until = group_until - %(by)s, urgent_until = urgent_until - %(by)s",
        {"by": by},
    )


class World:
    """Replaces the rules, silences and alerts that notifications ask."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self.firing: list[FiringAlert] = []
        self.silenced: set[str] = set()
        self.inhibits: dict[str, set[str]] = {}

    def rule(self, rule: str) -> Rule:
        return self.rules.get(rule) or Rule(id=rule, title=rule.replace("_", " ").capitalize())

    def fires(self, alert: str = "high_cpu", episode: int = 1, severity: str = "critical") -> None:
        facts = {"reason": "threshold", "value": 97.5, "since": SINCE.isoformat()}
        self.firing.append(FiringAlert(alert=alert, episode=episode, severity=severity, facts=facts))

    def calm(self, alert: str) -> None:
        self.firing = [one for one in self.firing if one.alert != alert]

    def silence(self, alert: str, _severity: str, _at: datetime) -> str:
        return "s1" if alert in self.silenced else ""

    def inhibitor(self, rule: str, firing: Collection[str]) -> str:
        return next((cause for cause in sorted(firing) if rule in self.inhibits.get(cause, ())), "")

    def answer(self) -> None:
        """Makes notifications ask this object."""
        found = sources.SOURCES
        found.rule, found.firing = self.rule, self._firing
        found.silence, found.inhibitor = self.silence, self.inhibitor
        found.value = lambda _metric, value: f"{value:g} %"

    def _firing(self) -> Sequence[FiringAlert]:
        return list(self.firing)
