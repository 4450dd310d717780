"""Replays a rule over samples and shows how often it would have fired. Stores nothing.

Single samples are kept for 14 days, and long windows are slow. Beyond either limit, averages of minutes are judged:
a peak within a minute is then not seen, and times are exact to a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from backoffice.api import shapes as api_shapes
from events.aggregate import Decision
from metrics.monitoring.alerting import conditions, domain, judge, machine, models, rules, windows

SAMPLE_HOURS: Final = 14 * 24
MOST_VALUES: Final = 30_000_000  # looked at by a replay of single samples: slots times the length of the window
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
    """The result of a replay; `first` is the slot of the first value, `step` the number of slots for each value."""

    rule: rules.Rule
    first: int
    values: Values
    spans: Sequence[Span]
    messages: int
    step: int = 1

    @property
    def samples(self) -> int:
        return sum(value is not None for value in self.values)

    @property
    def share(self) -> float:
        """The share of the slots that have a value, from 0 to 1."""
        return self.samples / len(self.values) if self.values else 0.0

    @property
    def firing_seconds(self) -> int:
        last = self.first + len(self.values) * self.step
        return sum((span.end or last) - span.start for span in self.spans) * conditions.SLOT_SECONDS


def replay(rule: rules.Rule, values: Iterable[float | None], first: int = 1, step: int = 1) -> Preview:
    """Judges a rule at every value, beginning with slot `first`. A slot without a value counts as not sampled."""
    known, judged = list(values), _by_values_of(rule, step)
    state, events = domain.Alert(), []
    for number, value in enumerate(known):
        if not state.is_open and value is not None and not _is_beyond(rule, value):
            continue  # nothing can be raised: the newest value is not beyond any level
        length = conditions.slots(conditions.seconds_needed(judged, flapping=state.flapping))
        window = known[max(0, number + 1 - length) : number + 1]
        slot = first + number * step
        command = domain.JudgeAlert(rule=judged, rule_version=1, target="", window=window, slot=slot)
        for event in machine.judge(command, state):
            state = domain.evolve(state, event)
            events.append(event)
    messages = sum(isinstance(event, _NOTIFIED) for event in events)
    return Preview(rule=rule, first=first, values=known, spans=_spans(events), messages=messages, step=step)


def _is_beyond(rule: rules.Rule, value: float) -> bool:
    limits = (rule.warn, rule.critical)
    return any(limit is not None and conditions.beyond(rule.comparison, limit, value) for limit in limits)


def _by_values_of(rule: rules.Rule, step: int) -> rules.Rule:
    """The rule with its durations scaled to windows in which each value stands for `step` slots."""
    if step == 1:
        return rule
    names = ("for_seconds", "critical_for_seconds", "keep_seconds", "missing_seconds")
    given = {name: getattr(rule, name) for name in names}
    shorter = {name: None if value is None else math.ceil(value / step) for name, value in given.items()}
    return msgspec.structs.replace(rule, **shorter)


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
    """Replays a rule over the last hours of samples, or of averages of minutes. Raises `NoHistory`."""
    slot = judge.present_slot() - 1
    which = target or (rule.target if rule.target != "*" else "")
    window = conditions.slots(conditions.seconds_needed(rule, flapping=True))
    try:
        if hours <= SAMPLE_HOURS and conditions.slots(hours * 3600) * window <= MOST_VALUES:
            values = windows.window(rule, which, hours * 3600, slot)
            return replay(rule, values, slot - len(values) + 1)
        last = slot // windows.SLOTS_A_MINUTE - 1  # the newest minute that is complete
        values = windows.minutes(rule, which, hours * 60, last)
    except (KeyError, windows.NoSource) as error:
        raise NoHistory("There is no history of this metric.") from error
    first = (last - len(values) + 1) * windows.SLOTS_A_MINUTE
    return replay(rule, values, first, windows.SLOTS_A_MINUTE)


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
    at = Decision(key=key or "tried", now=datetime(2000, 1, 1, tzinfo=UTC))
    return rules.AGGREGATE.fold(rules.decide(command, state, at), state)  # type: ignore[no-any-return]


def answer(found: Preview, hours: int) -> dict[str, Any]:
    """A preview as the API shows it."""
    return {
        "hours": hours,
        "resolution": found.step * conditions.SLOT_SECONDS,
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
