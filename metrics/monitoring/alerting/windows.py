"""The source of the windows of samples. `metrics.wiring` calls `register` once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from metrics.monitoring.alerting import conditions
from metrics.monitoring.alerting.rules import Rule

# (metric, seconds, until slot, target) -> one value for each slot, oldest first
Read: TypeAlias = Callable[[str, int, int, str], Sequence[float | None]]
# (metric, number of minutes, until minute, target) -> the average of each minute, oldest first
Minutes: TypeAlias = Callable[[str, int, int, str], Sequence[float | None]]
# (slot) -> metric -> target -> value
Targets: TypeAlias = Callable[[int], Mapping[str, Mapping[str, float | None]]]

# A share is judged by what is certain: the lower bound of Wilson's interval, which is 0 for a few errors among few
# requests (E. B. Wilson, JASA 22 (1927) 209-212). 1.96 standard deviations: 97.5 % of the samples lie above the bound.
DEVIATIONS: Final = 1.96
LEAST_COUNTED: Final = 5


class NoSource(RuntimeError):
    """Nothing was registered that reads windows."""


def _unregistered(*_arguments: object) -> Sequence[float | None]:
    raise NoSource


def _no_targets(_slot: int) -> Mapping[str, Mapping[str, float | None]]:
    raise NoSource


_read: Read = _unregistered
_targets: Targets = _no_targets
_minutes: Minutes = _unregistered


def register(read: Read, targets: Targets, minutes: Minutes = _unregistered) -> None:
    """Register the functions that read windows, targets and averages of minutes."""
    global _read, _targets, _minutes
    _read, _targets, _minutes = read, targets, minutes


def targets_of(slot: int) -> Mapping[str, Mapping[str, float | None]]:
    """The targets of each metric at a slot, with their values."""
    return _targets(slot)


def window(rule: Rule, target: str, seconds: int, until_slot: int) -> list[float | None]:
    """The values that a rule judges, one for each slot of `seconds`, oldest first; all None for an unknown metric."""
    try:
        return _window(rule, target, seconds, until_slot)
    except KeyError:
        return [None] * conditions.slots(seconds)


def _window(rule: Rule, target: str, seconds: int, until_slot: int) -> list[float | None]:
    whole = conditions.slots(seconds) * conditions.SLOT_SECONDS
    if not rule.per:
        return list(_read(rule.metric, whole, until_slot, target))
    before = conditions.slots(rule.over_seconds) * conditions.SLOT_SECONDS
    counted = _read(rule.metric, whole + before, until_slot, target)
    totals = _read(rule.per, whole + before, until_slot, target)
    return shares(counted, totals, conditions.slots(rule.over_seconds))[-conditions.slots(seconds) :]


SLOTS_A_MINUTE: Final = 60 // conditions.SLOT_SECONDS


def minutes(rule: Rule, target: str, count: int, until: int) -> list[float | None]:
    """The values that a rule judges by averages of minutes, oldest first; `until` is a minute of the epoch.

    The count of a minute is twelve times its average, which is for one slot. Raises `KeyError` for an unknown metric.
    """
    if not rule.per:
        return list(_minutes(rule.metric, count, until, target))
    before = math.ceil(rule.over_seconds / 60)
    counted, totals = (
        [None if value is None else value * SLOTS_A_MINUTE for value in _minutes(name, count + before, until, target)]
        for name in (rule.metric, rule.per)
    )
    return shares(counted, totals, before)[-count:]


def shares(counted: Sequence[float | None], totals: Sequence[float | None], span: int) -> list[float | None]:
    """The certain share in percent at each slot, over the `span` slots up to it; None where nothing was sampled."""
    found: list[float | None] = []
    part = whole = 0.0
    for slot, (some, total) in enumerate(zip(counted, totals, strict=True)):
        part, whole = part + (some or 0.0), whole + (total or 0.0)
        if slot >= span:
            part, whole = part - (counted[slot - span] or 0.0), whole - (totals[slot - span] or 0.0)
        found.append(None if some is None or total is None else certain_share(part, whole))
    return found


def certain_share(part: float, whole: float) -> float:
    """The lower bound of the share of `part` in `whole`, in percent; 0 when `part` is below five."""
    if part < LEAST_COUNTED or whole <= 0:
        return 0.0
    share, square = min(1.0, part / whole), DEVIATIONS**2
    spread = DEVIATIONS * math.sqrt(share * (1 - share) / whole + square / (4 * whole**2))
    return 100 * max(0.0, (share + square / (2 * whole) - spread) / (1 + square / whole))
