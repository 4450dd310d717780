"""Small charts of the last hours beside the numbers of a page, drawn by the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from metrics.monitoring import metric_types, units
from metrics.monitoring.history import read, tables

WIDTH: Final = 600
HEIGHT: Final = 72
HOURS: Final = 6
FRESH_SLOTS: Final = 6  # a page asks every two seconds, and minutes change slowly

# Page -> the metrics that are drawn on it.
METRICS: Final[dict[str, tuple[str, ...]]] = {
    "health": ("cpu.percent", "memory.percent", "errors.rate", "requests.p95"),
    "subscriptions": ("subscription.lag", "subscriptions.parked"),
    "head": ("log.head_lag", "log.events"),
    "rebuilds": ("log.events", "db.commits"),
    "sockets": ("sockets.open", "sockets.lag_p99", "sockets.delivered"),
    "cache": ("cache.hit", "valkey.latency"),
}


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A chart: the line of averages, the area between extremes, and the numbers beside it."""

    name: str
    label: str | Promise
    line: str
    area: str
    now: str
    lowest: str
    average: str
    highest: str
    start: datetime
    is_empty: bool
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def summary(self) -> str:
        """The chart in a sentence."""
        values = {
            "metric": self.label,
            "since": date_format(timezone.localtime(self.start), "H:i"),
            "now": self.now,
            "lowest": self.lowest,
            "average": self.average,
            "highest": self.highest,
        }
        if self.is_empty:
            return _("%(metric)s since %(since)s: no values") % values
        return (
            _("%(metric)s since %(since)s: now %(now)s, from %(lowest)s to %(highest)s, on average %(average)s")
            % values
        )


_kept: dict[str, tuple[int, read.History]] = {}  # metric -> (slot, points), read at most once in 30 seconds


def of_page(page: str) -> list[Sparkline]:
    """The charts of a page, empty for a page without any."""
    names = METRICS.get(page, ())
    if not names:
        return []
    slot, (_newest, values) = tables.present_slot(), read.latest()
    return [draw(name, _points(name, slot), values[name]) for name in names]


def _points(name: str, slot: int) -> read.History:
    at, found = _kept.get(name, (0, None))
    if found is None or not 0 <= slot - at < FRESH_SLOTS:
        found = read.last_hours(name, HOURS)
        _kept[name] = (slot, found)
    return found


def draw(name: str, history: read.History, now: float | None) -> Sparkline:
    """Draw the points beside the newest value. A gap stays empty; a single point between two gaps is a dot."""
    metric = metric_types.metric(name)
    known = [(at, low, mean, high, n) for at, low, mean, high, n in history.points if mean is not None]
    samples = sum(point[4] for point in known)
    highest = max((high or 0.0 for _at, _low, _mean, high, _n in known), default=0.0)
    lowest = min((low or 0.0 for _at, low, _mean, _high, _n in known), default=0.0)
    top = 100.0 if metric.unit == "percent" else highest or 1.0
    runs = list(_runs(history.points))
    return Sparkline(
        name=name,
        label=metric.label,
        line=" ".join(_path(history, run, top) for run in runs),
        area=" ".join(_area(history, run, top) for run in runs),
        now=units.text(now, metric.unit),
        lowest=units.text(lowest if known else None, metric.unit),
        average=units.text(
            sum((mean or 0.0) * n for _at, _low, mean, _high, n in known) / samples if samples else None, metric.unit
        ),
        highest=units.text(highest if known else None, metric.unit),
        start=datetime.fromtimestamp(history.points[0][0], UTC),
        is_empty=not known,
    )


def _runs(points: Sequence[read.Point]) -> list[list[int]]:
    """The indices of points that follow each other without a gap."""
    runs: list[list[int]] = [[]]
    for number, point in enumerate(points):
        if point[2] is not None:
            runs[-1].append(number)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(history: read.History, run: Sequence[int], top: float) -> str:
    corners = [_corner(history, number, history.points[number][2], top) for number in run]
    return f"M{'L'.join(corners)}" + ("h0.1" if len(corners) == 1 else "")


def _area(history: read.History, run: Sequence[int], top: float) -> str:
    there = [_corner(history, number, history.points[number][3], top) for number in run]
    back = [_corner(history, number, history.points[number][1], top) for number in reversed(run)]
    return f"M{'L'.join([*there, *back])}Z"


def _corner(history: read.History, number: int, value: float | None, top: float) -> str:
    x = number / max(1, len(history.points) - 1) * WIDTH
    y = HEIGHT - 2 - min(1.0, max(0.0, (value or 0.0) / top)) * (HEIGHT - 4)
    return f"{x:.1f} {y:.1f}"
