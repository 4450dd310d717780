"""A time series as SVG: the values, the levels of a rule, and episodes as shaded spans. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from metrics.monitoring.alerting import conditions
from metrics.monitoring.alerting.rules import Rule

WIDTH: Final = 720
HEIGHT: Final = 160
POINTS: Final = 240
TABLE_ROWS: Final = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Shade:
    """An episode: its severity and its place."""

    severity: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """A level of the rule; `side` is the side on which values raise an alert: ``above`` or ``below``."""

    name: str
    value: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of the table that shows the chart as text."""

    at: datetime
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A drawn chart; `lines` are the points of polylines, interrupted where values are missing."""

    lines: Sequence[str]
    levels: Sequence[Level]
    shades: Sequence[Shade]
    rows: Sequence[Row]
    start: datetime
    end: datetime
    top: float
    bottom: float
    newest: float | None
    low: float | None
    high: float | None
    average: float | None
    stale_since: datetime | None  # of the newest value, when it is not fresh
    width: int = WIDTH
    height: int = HEIGHT


def draw(
    rule: Rule, values: Sequence[float | None], first: int, spans: Iterable[tuple[int, int | None, str]]
) -> Chart | None:
    """Draws the values from slot `first` on, with spans of (first slot, end slot, severity). None without values."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    limits = [("critical", rule.critical), ("warning", rule.warn), ("clear", rule.clear)]
    known = [limit for _, limit in limits if limit is not None]
    bottom, top = min(0.0, *present, *known), max(*present, *known) * 1.08
    top = top if top > bottom else bottom + 1.0
    scale = _Scale(first, len(values), bottom, top)
    return Chart(
        lines=scale.lines(values),
        levels=[Level(name=name, value=limit, y=scale.y(limit)) for name, limit in limits if limit is not None],
        shades=[shade for span in spans if (shade := scale.shade(*span))],
        rows=_rows(values, first),
        start=conditions.instant(first),
        end=conditions.instant(first + len(values)),
        top=top,
        bottom=bottom,
        newest=conditions.newest(values),
        low=min(present),
        high=max(present),
        average=sum(present) / len(present),
        stale_since=_stale_since(values, first),
    )


def _stale_since(values: Sequence[float | None], first: int) -> datetime | None:
    if conditions.fresh(values):
        return None
    last = max(number for number, value in enumerate(values) if value is not None)
    return conditions.instant(first + last)


class _Scale:
    """Places slots and values in the box of the chart."""

    def __init__(self, first: int, count: int, bottom: float, top: float) -> None:
        self._first, self._count, self._bottom, self._top = first, count, bottom, top

    def x(self, slot: float) -> float:
        return round((slot - self._first) / self._count * WIDTH, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - (value - self._bottom) / (self._top - self._bottom) * HEIGHT, 1)

    def lines(self, values: Sequence[float | None]) -> list[str]:
        """Polylines over at most `POINTS` buckets. Each shows its lowest and highest value, so no peak is lost."""
        size = max(1, math.ceil(len(values) / POINTS))
        found: list[list[str]] = [[]]
        for start in range(0, len(values), size):
            bucket = [value for value in values[start : start + size] if value is not None]
            if not bucket:
                if found[-1]:
                    found.append([])
                continue
            x = self.x(self._first + start + size / 2)
            found[-1] += [f"{x},{self.y(value)}" for value in dict.fromkeys((min(bucket), max(bucket)))]
        return [" ".join(line if len(line) > 1 else line * 2) for line in found if line]

    def shade(self, start: int, end: int | None, severity: str) -> Shade | None:
        """The place of a span; None when it lies outside."""
        last = self._first + self._count
        begin, stop = max(start, self._first), min(last if end is None else end, last)
        if begin >= last or stop < self._first:
            return None
        return Shade(severity=severity, x=self.x(begin), width=max(2.0, round(self.x(stop) - self.x(begin), 1)))


def _rows(values: Sequence[float | None], first: int) -> list[Row]:
    size = max(1, math.ceil(len(values) / TABLE_ROWS))
    found = []
    for start in range(0, len(values), size):
        bucket = [value for value in values[start : start + size] if value is not None]
        low, high = (min(bucket), max(bucket)) if bucket else (None, None)
        found.append(Row(at=conditions.instant(first + start), low=low, high=high))
    return found
