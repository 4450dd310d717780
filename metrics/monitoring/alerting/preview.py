"""Replays a rule over samples and shows how often it would have fired. Stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from backoffice.api import shapes as api_shapes
from events.aggregate import Decision
from metrics.monitoring.alerting import conditions, domain, judge, machine, models, rules, windows

MAX_HOURS: Final = 168
# Events that people are notified of.
_NOTIFIED: Final = (domain.AlertRaised, domain.AlertWorsened, domain.AlertResolved)
# A replay carries no acknowledgements, so only these change its state.
Values = Sequence[float | None]


class NoHistory(Exception):
    """No history of this metric can be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """An episode of a replay. `end` is the slot at which it was resolved; None: it still fires."""

    start: int
    end: int | None
    severity: conditions.Severity
    why: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """The result of a replay; `first` is the slot of the first value."""

    rule: rules.Rule
    first: int
    values: Values
    spans: Sequence[Span]
    messages: int

    @property
    def samples(self) -> int:
        return sum(value is not None for value in self.values)

    @property
    def share(self) -> float:
        """The share of the slots that have a value, from 0 to 1."""
        return self.samples / len(self.values) if self.values else 0.0

    @property
    def firing_seconds(self) -> int:
        last = self.first + len(self.values)
        return sum((span.end or last) - span.start for span in self.spans) * conditions.SLOT_SECONDS


def replay(rule: rules.Rule, values: Iterable[float | None], first: int = 1) -> Preview:
    """Judges a rule at every slot, beginning with slot `first`. A slot without a value is one without a sampler."""
    known = list(values)
    state, events = domain.Alert(), []
    for number in range(len(known)):
        slot = first + number
        length = conditions.slots(conditions.seconds_needed(rule, flapping=state.flapping))
        window = known[max(0, number + 1 - length) : number + 1]
        command = domain.JudgeAlert(rule=rule, rule_version=1, target="", window=window, slot=slot)
        for event in machine.judge(command, state):
            state = domain.evolve(state, event)
            events.append(event)
    messages = sum(isinstance(event, _NOTIFIED) for event in events)
    return Preview(rule=rule, first=first, values=known, spans=_spans(events), messages=messages)


def _spans(events: Sequence[Any]) -> list[Span]:
    found: list[Span] = []
    for event in events:
        match event:
            case domain.AlertRaised():
                found.append(Span(start=event.slot, end=None, severity=event.severity, why=None))
            case domain.AlertWorsened() | domain.AlertReasonChanged() if event.severity == "critical":
                found[-1] = _changed(found[-1], severity="critical")
            case domain.AlertResolved():
                found[-1] = _changed(found[-1], end=event.slot, why=event.why)
    return found


def _changed(span: Span, **fields: Any) -> Span:
    given = {"start": span.start, "end": span.end, "severity": span.severity, "why": span.why}
    return Span(**{**given, **fields})


def over_history(rule: rules.Rule, *, hours: int, target: str = "") -> Preview:
    """Replays a rule over the last hours of samples. Raises `NoHistory`."""
    slot, seconds = judge.present_slot() - 1, hours * 3600
    which = target or (rule.target if rule.target != "*" else "")
    try:
        values = windows.window(rule, which, seconds, slot)
    except (KeyError, windows.NoSource) as error:
        raise NoHistory("There is no history of this metric.") from error
    return replay(rule, values, slot - len(values) + 1)


def changed_rule(key: str, data: Mapping[str, Any]) -> rules.Rule:
    """The rule `key` with these fields, or without a key a new rule; checked as when it is saved.

    Raises `models.Rule.DoesNotExist` and `errors.InvalidCommand`.
    """
    state = rules.Rule()
    if key:
        row = models.Rule.objects.get(pk=key)
        state = msgspec.structs.replace(judge.rule_of(row), created_at=row.created_at)
    command: Any
    if key:
        command = api_shapes.checked(rules.UpdateRule, data)
    else:
        command = api_shapes.checked(rules.CreateRule, {"title": "–", **data})
    at = Decision(key=key or "preview", now=datetime(2000, 1, 1, tzinfo=UTC))
    return rules.AGGREGATE.fold(rules.decide(command, state, at), state)  # type: ignore[no-any-return]


def answer(found: Preview, hours: int) -> dict[str, Any]:
    """A preview as the API shows it."""
    return {
        "hours": hours,
        "samples": found.samples,
        "share": round(found.share, 3),
        "raised": len(found.spans),
        "messages": found.messages,
        "firing_seconds": found.firing_seconds,
        "episodes": [
            {
                "raised_at": conditions.instant(span.start),
                "resolved_at": conditions.instant(span.end) if span.end is not None else None,
                "severity": span.severity,
                "why": span.why,
            }
            for span in found.spans
        ],
    }
