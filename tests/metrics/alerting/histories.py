"""Random histories of a metric with everything that happens to its alert, and an independent model of the alert.

The model knows the whole history as ``slot -> value`` and restates the rules of `docs/monitoring.md` in its own words;
it shares no code with the state machine.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from metrics.monitoring.alerting import domain
from metrics.monitoring.alerting.rules import Rule

START = 1_000


@dataclass
class Moment:
    """One slot: its sample, the rule at that time, and the action of a person after the slot."""

    slot: int
    sampled: bool
    value: float | None
    rule: Rule
    rule_version: int
    person: str = ""


def rule(**fields: Any) -> Rule:
    given: dict[str, Any] = {
        "title": "CPU",
        "metric": "cpu.percent",
        "warn": 80.0,
        "critical": 95.0,
        "clear": 70.0,
        "for_seconds": 20,
        "critical_for_seconds": 30,
        "keep_seconds": 25,
        "missing_seconds": 40,
    }
    return Rule(**given | fields)


def random_rule(chance: random.Random) -> Rule:
    warn = chance.choice([75.0, 80.0, 85.0, None])
    critical = chance.choice([90.0, 95.0]) if warn is None else chance.choice([90.0, 95.0, None])
    return rule(
        warn=warn,
        critical=critical,
        clear=chance.choice([60.0, 70.0, None]),
        for_seconds=chance.choice([0, 10, 20, 40]),
        critical_for_seconds=chance.choice([None, 0, 15, 30]),
        keep_seconds=chance.choice([0, 15, 25]),
        on_missing=chance.choice(["keep", "raise", "resolve"]),
        missing_seconds=chance.choice([20, 40]),
    )


def history(chance: random.Random, length: int) -> Iterator[Moment]:
    """Periods of calm, noisy, high and critical values, gaps, stopped samplers, edits and actions of people."""
    now, version, left, regime = random_rule(chance), 1, 0, "calm"
    for slot in range(START, START + length):
        if left == 0:
            left, regime = chance.randint(1, 25), chance.choice(["calm", "noise", "high", "critical", "gap", "dead"])
        left -= 1
        if chance.random() < 0.01:
            now, version = random_rule(chance), version + 1
        middle = {"calm": 50, "noise": 78, "high": 87, "critical": 99}.get(regime)
        value = None if middle is None or chance.random() < 0.1 else round(chance.gauss(middle, 4), 1)
        person = chance.choice(["acknowledge", "unacknowledge", "close", "comment"]) if chance.random() < 0.03 else ""
        yield Moment(slot, regime != "dead", None if regime == "dead" else value, now, version, person)


@dataclass
class Model:
    """The alert as `docs/monitoring.md` describes it, computed from the whole history."""

    values: dict[int, float] = field(default_factory=dict)
    sampled: set[int] = field(default_factory=set)
    status: str = "quiet"
    episode: int = 0
    severity: str = ""
    reason: str = ""
    owned_until: int | None = None  # slot at which the acknowledgement ends
    raised_with: Any = None  # metric's clear level and the version of the rule at the raise
    raises: list[int] = field(default_factory=list)
    flaps: bool = False

    def see(self, moment: Moment) -> None:
        if moment.sampled:
            self.sampled.add(moment.slot)
            if moment.value is not None:
                self.values[moment.slot] = moment.value

    def step(self, moment: Moment) -> str | None:
        """The event expected at this slot: its name and severity or reason."""
        expected = self._by_values(moment)
        owned = self.status == "firing" and self.owned_until is not None and moment.slot >= self.owned_until
        if expected is None and owned:
            self.owned_until = None
            return "unacknowledged expired"
        return expected

    def _by_values(self, moment: Moment) -> str | None:
        slot, known = moment.slot, moment.rule
        fresh = slot in self.values or slot - 1 in self.values
        lost = self._lost(known, slot)
        severity = next((name for name in ("critical", "warning") if self._breached(known, name, slot)), None)
        if self.status == "quiet":
            if fresh and severity:
                return self._raise(moment, severity, "threshold")
            if not fresh and lost and known.on_missing == "raise":
                return self._raise(moment, "critical" if known.warn is None else "warning", "no_data")
            return None
        if not fresh:
            return self._resolve("no_data") if lost and known.on_missing == "resolve" else None
        if self.reason == "no_data":
            if severity:
                self.reason, self.severity = "threshold", severity
                return f"reason_changed {severity}"
            return self._resolve("data_returned") if self._full(known, slot) else None
        if self.status == "firing" and severity == "critical" and self.severity == "warning":
            self.severity, self.owned_until = "critical", None
            return "worsened critical"
        seconds = known.keep_seconds if not self.flaps else max(known.keep_seconds, min(3 * known.keep_seconds, 3600))
        if self._at_most(self._clear(known), slot, seconds):
            clear, version = self.raised_with
            edited = version != moment.rule_version and not self._at_most(clear, slot, seconds)
            return self._resolve("rule_changed" if edited else "recovered")
        eases = self.status == "firing" and self.severity == "critical" and known.warn is not None
        if eases and known.critical is not None and self._at_most(known.critical, slot, seconds):
            self.severity = "warning"
            return "eased warning"
        if self.status == "firing" and len(self.raises) >= 3 and not self.flaps:
            self.flaps = True
            return "flapping"
        return None

    def _raise(self, moment: Moment, severity: str, reason: str) -> str:
        self.status, self.severity, self.reason, self.owned_until = "firing", severity, reason, None
        self.episode += 1
        self.raises = [slot for slot in self.raises if moment.slot - slot < 720] + [moment.slot]
        self.flaps = self.flaps and len(self.raises) >= 3
        self.raised_with = (self._clear(moment.rule), moment.rule_version)
        return f"raised {severity} {reason}"

    def _resolve(self, why: str) -> str:
        self.status, self.owned_until = "quiet", None
        return f"resolved {why}"

    @staticmethod
    def _clear(known: Rule) -> float:
        levels = (known.clear, known.warn, known.critical)
        return next(level for level in levels if level is not None)

    def _span(self, slot: int, seconds: int) -> tuple[list[float], int]:
        """The values of the last `seconds`, and the number of slots in that time."""
        count = max(1, -(-seconds // 5))
        return [self.values[at] for at in range(slot - count + 1, slot + 1) if at in self.values], count

    def _breached(self, known: Rule, severity: str, slot: int) -> bool:
        limit = known.critical if severity == "critical" else known.warn
        if limit is None:
            return False
        own = known.critical_for_seconds if severity == "critical" else None
        found, count = self._span(slot, known.for_seconds if own is None else own)
        return 10 * len(found) >= 8 * count and min(found, default=limit) > limit

    def _at_most(self, limit: float, slot: int, seconds: int) -> bool:
        found, count = self._span(slot, seconds)
        return 10 * len(found) >= 8 * count and max(found) <= limit

    def _full(self, known: Rule, slot: int) -> bool:
        spans = []
        if known.warn is not None:
            spans.append(known.for_seconds)
        if known.critical is not None:
            spans.append(known.for_seconds if known.critical_for_seconds is None else known.critical_for_seconds)
        return all(10 * len(found) >= 8 * count for found, count in (self._span(slot, each) for each in spans))

    def _lost(self, known: Rule, slot: int) -> bool:
        found, count = self._span(slot, known.missing_seconds)
        taken = sum(at in self.sampled for at in range(slot - count + 1, slot + 1))
        return not found and slot in self.sampled and 10 * taken >= 8 * count


def short(event: Any) -> str:
    """An event as the model writes it."""
    match event:
        case domain.AlertRaised():
            return f"raised {event.severity} {event.reason}"
        case domain.AlertWorsened():
            return f"worsened {event.severity}"
        case domain.AlertEased():
            return f"eased {event.severity}"
        case domain.AlertReasonChanged():
            return f"reason_changed {event.severity}"
        case domain.AlertResolved():
            return f"resolved {event.why}"
        case domain.AlertFlapping():
            return "flapping"
        case domain.AlertUnacknowledged():
            return f"unacknowledged {event.why}"
        case _:
            return type(event).__name__
