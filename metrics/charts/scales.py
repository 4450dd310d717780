"""Scales of charts: round ticks of the value axis, and the few labels of the time axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

Unit = Literal["count", "seconds", "milliseconds", "share"]

MAX_STEPS: Final = 4
MAX_LABELS: Final = 5  # so many fit on a phone

# Seconds that people read as round: up to an hour, then multiples of hours.
_SECONDS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)


def ticks(highest: float, unit: Unit = "count") -> list[float]:
    """Round values from 0 to the first one that is not below `highest`; at most `MAX_STEPS` steps."""
    step = _step(max(highest, 0.0) / MAX_STEPS, unit)
    count = max(1, math.ceil(highest / step - 1e-9))
    return [number * step for number in range(count + 1)]


def _step(least: float, unit: Unit) -> float:
    """The smallest round step that is not below `least`."""
    if unit == "seconds":
        if least <= _SECONDS[-1]:
            return next(step for step in _SECONDS if step >= least)
        return _decimal_step(least / 3_600) * 3_600
    if unit in ("count", "milliseconds"):
        return max(1.0, _decimal_step(least))
    return _decimal_step(least) if least else 0.25


def _decimal_step(least: float) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that is not below `least`."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least - 1e-9 * power)


def label_places(count: int) -> Sequence[int]:
    """The indices that get a label: the last one, and others at equal distances before it."""
    step = max(1, math.ceil((count - 1) / (MAX_LABELS - 1)))
    return range((count - 1) % step, count, step)
