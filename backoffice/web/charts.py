"""Bar charts drawn by the server: no script, printable, and a table for screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

WIDTH: Final = 600
HEIGHT: Final = 96


@dataclass(frozen=True, slots=True)
class Bar:
    day: date
    value: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars in a box of `width` x `height`; `top` is the largest value."""

    bars: Sequence[Bar]
    top: int
    total: int
    width: int = WIDTH
    height: int = HEIGHT


def daily(values: Sequence[tuple[date, int]]) -> Chart:
    """Draws one bar per day. Small values keep a visible minimum height; zero is a dot on the baseline."""
    top = max((value for _, value in values), default=0)
    step = WIDTH / max(1, len(values))
    bars = []
    for number, (day, value) in enumerate(values):
        height = max(3.0, round(value / top * HEIGHT, 1)) if value else 1.0
        bars.append(
            Bar(day, value, round(number * step + 1.5, 1), round(HEIGHT - height, 1), round(step - 3, 1), height)
        )
    return Chart(bars, top, sum(value for _, value in values))
