"""Conditions of a rule over a window of samples. Pure.

A window holds one value for each slot of five seconds, the newest last; None is a slot without a value. A condition
holds when at least 80 % of its slots have a value and all values satisfy it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from metrics.monitoring.alerting.rules import Comparison, Rule

SLOT_SECONDS: Final = 5
COVERAGE: Final = 0.8
FRESH: Final = 2  # slots
FLAPPING_KEEP: Final = 3  # times `keep_seconds`
FLAPPING_KEEP_SECONDS: Final = 3600

Severity = Literal["warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning")
Window = Sequence[float | None]


class Calm(msgspec.Struct, frozen=True, kw_only=True):
    """The condition under which a rule is calm: values of the metric that are not beyond `clear`."""

    metric: str
    comparison: Comparison
    clear: float


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A value that is beyond a level, but not yet for long enough."""

    severity: Severity
    seconds: int
    of: int


def slots(seconds: int) -> int:
    """The number of slots that cover `seconds`; at least one."""
    return max(1, math.ceil(seconds / SLOT_SECONDS))


def instant(slot: int) -> datetime:
    """The time at which a slot begins."""
    return datetime.fromtimestamp(slot * SLOT_SECONDS, UTC)


def level(rule: Rule, severity: Severity) -> float | None:
    return rule.critical if severity == "critical" else rule.warn


def duration(rule: Rule, severity: Severity) -> int:
    """The seconds for which a value must be beyond the level of `severity`."""
    if severity == "critical" and rule.critical_for_seconds is not None:
        return rule.critical_for_seconds
    return rule.for_seconds


def beyond(comparison: Comparison, limit: float, value: float) -> bool:
    return value > limit if comparison == "above" else value < limit


def calm_of(rule: Rule) -> Calm:
    """Returns the condition under which the rule is calm; without a clear level, its first level counts."""
    first = rule.warn if rule.warn is not None else rule.critical
    clear = rule.clear if rule.clear is not None else first
    return Calm(metric=rule.metric, comparison=rule.comparison, clear=clear if clear is not None else 0.0)


def keep(rule: Rule, *, flapping: bool) -> int:
    """The seconds for which the value must be calm; while the alert flaps, three times that, up to an hour."""
    if not flapping:
        return rule.keep_seconds
    return max(rule.keep_seconds, min(rule.keep_seconds * FLAPPING_KEEP, FLAPPING_KEEP_SECONDS))


def seconds_needed(rule: Rule, *, flapping: bool = False) -> int:
    """The length in seconds of the window that the rule is judged by."""
    durations = [duration(rule, severity) for severity in SEVERITIES if level(rule, severity) is not None]
    return max(*durations, keep(rule, flapping=flapping), rule.missing_seconds, FRESH * SLOT_SECONDS)


def covered(window: Window, count: int) -> list[float] | None:
    """The values of the last `count` slots; None when fewer than 80 % of the slots have one."""
    present = [value for value in window[-count:] if value is not None]
    return present if len(present) >= math.ceil(COVERAGE * count) else None


def fresh(window: Window) -> bool:
    return any(value is not None for value in window[-FRESH:])


def breached(rule: Rule, window: Window, severity: Severity) -> bool:
    """Returns whether the values have been beyond the level for long enough."""
    limit = level(rule, severity)
    if limit is None:
        return False
    values = covered(window, slots(duration(rule, severity)))
    return values is not None and all(beyond(rule.comparison, limit, value) for value in values)


def worst(rule: Rule, window: Window) -> Severity | None:
    """The highest severity whose condition holds."""
    return next((severity for severity in SEVERITIES if breached(rule, window, severity)), None)


def calm(of: Calm, window: Window, seconds: int) -> bool:
    """Returns whether the values have been calm for `seconds`."""
    return _never_beyond(of.comparison, of.clear, window, seconds)


def under_critical(rule: Rule, window: Window, seconds: int) -> bool:
    """Returns whether no value has been beyond the critical level for `seconds`."""
    return rule.critical is not None and _never_beyond(rule.comparison, rule.critical, window, seconds)


def _never_beyond(comparison: Comparison, limit: float, window: Window, seconds: int) -> bool:
    values = covered(window, slots(seconds))
    return values is not None and not any(beyond(comparison, limit, value) for value in values)


def full(rule: Rule, window: Window) -> bool:
    """Returns whether there are enough values to say that no level is breached."""
    counts = [slots(duration(rule, severity)) for severity in SEVERITIES if level(rule, severity) is not None]
    return all(covered(window, count) is not None for count in counts)


def missing(rule: Rule, window: Window, sampled: Sequence[bool] | None = None) -> bool:
    """Returns whether there was no value for `missing_seconds`, although samples were taken.

    `sampled` says for each slot of the window whether anything was sampled; None: everywhere. While no sampler runs
    nothing is known, so nothing is missing.
    """
    count = slots(rule.missing_seconds)
    if len(window) < count or any(value is not None for value in window[-count:]):
        return False
    taken = sampled[-count:] if sampled is not None else [True] * count
    return bool(taken[-1]) and sum(taken) >= math.ceil(COVERAGE * count)


def newest(window: Window) -> float | None:
    """The newest value."""
    return next((value for value in reversed(window) if value is not None), None)


def since(rule: Rule, window: Window, severity: Severity, slot: int) -> int:
    """The first slot of the latest run of values that are beyond the level."""
    limit, first = level(rule, severity), slot
    for number, value in enumerate(reversed(window)):
        if value is None:
            continue
        if limit is None or not beyond(rule.comparison, limit, value):
            break
        first = slot - number
    return first


def pending(rule: Rule, window: Window) -> Pending | None:
    """The highest severity whose level is exceeded now, but not yet for long enough."""
    if not fresh(window):
        return None
    for severity in SEVERITIES:
        limit, value = level(rule, severity), newest(window)
        if limit is None or value is None or not beyond(rule.comparison, limit, value):
            continue
        first = since(rule, window, severity, len(window) - 1)
        elapsed = (len(window) - max(first, 0)) * SLOT_SECONDS
        whole = duration(rule, severity)
        return Pending(severity=severity, seconds=min(elapsed, whole), of=whole)
    return None
