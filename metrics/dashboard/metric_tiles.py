"""Widgets of metrics: numbers of the newest sample, and a chart of the first metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.utils.translation import gettext as _

from backoffice import access
from metrics.charts.model import Chart, Series, Span, Step
from metrics.charts.scales import Unit
from metrics.dashboard import alerts
from metrics.dashboard.asked import Asked, zone
from metrics.monitoring import metric_types, units
from metrics.monitoring.history import read, tables
from metrics.monitoring.history.read import History, Point
from metrics.monitoring.metric_types import SLOT_SECONDS, Metric

STALE_SLOTS: Final = 3  # older samples are marked
SILENT_SECONDS: Final = 30  # older samples are hatched
TABLE_ROWS: Final = 30  # with scripts up to 60
LONG_SECONDS: Final = 2 * 86_400  # from here on the axis shows days


@dataclass(frozen=True, slots=True)
class Number:
    """The newest value of a metric."""

    metric: Metric
    value: float | None
    slot: int

    @property
    def text(self) -> str:
        return value_text(self.metric, self.value)


@dataclass(frozen=True, slots=True)
class Freshness:
    """The age of the newest sample: fresh, late (more than three slots) or silent (more than 30 seconds)."""

    slot: int | None
    seconds: int | None

    @property
    def state(self) -> str:
        if self.seconds is None or self.seconds > SILENT_SECONDS:
            return "silent"
        return "late" if self.seconds > STALE_SLOTS * SLOT_SECONDS else "fresh"


def value_text(metric: Metric, value: float | None) -> str:
    """A value with its unit; `numbers.js` writes the same."""
    if metric.kind == "flag" and value is not None:
        return _("yes") if value else _("no")
    return units.text(value, metric.unit)


# -- loading ----------------------------------------------------------------------------------------------------------


def loader(names: Sequence[str]) -> Callable[[Asked], dict[str, Any]]:
    """The `load` of a widget of these metrics; those that the reader may not see are left out."""

    def load(asked: Asked) -> dict[str, Any]:
        metrics = [metric_types.metric(name) for name in names]
        seen = [one for one in metrics if access.may(asked.staff, "view", one.right)]
        fresh, numbers = _numbers(asked, seen)
        content = {"numbers": numbers[: 2 + 3 * asked.h] if asked.w > 1 else numbers[: 1 + asked.h], "fresh": fresh}
        return content | (_chart(asked, seen[0], "") if asked.h > 1 else {})

    return load


def any_metric(asked: Asked) -> dict[str, Any]:
    """A metric that the person chose, as a chart, a number or a table."""
    found = metric_types.METRICS.get(asked.options.metric)
    if found is None:
        return {"unknown": asked.options.metric}
    fresh, numbers = _numbers(asked, [found], asked.options.target)
    title = f"{found.label} · {asked.options.target}" if asked.options.target else found.label
    content = {"title": title, "numbers": numbers, "fresh": fresh}
    if asked.options.view == "number" or (asked.h == 1 and asked.options.view == "chart"):
        return content
    return content | _chart(asked, found, asked.options.target) | {"only_table": asked.options.view == "table"}


def _numbers(asked: Asked, metrics: Sequence[Metric], target: str = "") -> tuple[Freshness, list[Number]]:
    present = asked.once("present", tables.present_slot)
    slot, values = asked.once("latest", read.latest)
    if target and slot is not None:
        values = {name: found.get(target) for name, found in asked.once("targets", lambda: read.targets(slot)).items()}
    fresh = Freshness(slot, None if slot is None else (present - slot) * SLOT_SECONDS)
    return fresh, [Number(metric, values.get(metric.name), slot or 0) for metric in metrics]


def _chart(asked: Asked, metric: Metric, target: str) -> dict[str, Any]:
    range_ = asked.span.resolved()
    found = read.points(metric.name, range_, zone=zone(), target=target)
    chart = drawn(f"chart-{asked.tile}", metric, found, alerts.spans(asked, metric, range_.start, range_.end))
    return {
        "chart": chart,
        "rows": table(metric, found.points),
        "live": live_data(metric, found, live=asked.span.live) | {"spans": chart.span_data},
        "live_id": f"live-{asked.tile}",
    }


def live_data(metric: Metric, found: History, *, live: bool) -> dict[str, Any]:
    """The data that `slots.js` needs to join frames to the history."""
    return {
        "metric": metric.name,
        "target": found.target,
        "unit": metric.unit,
        "kind": metric.kind,
        "step": found.step,
        "slot": found.slot,
        "live": live and not found.target,
        "points": found.points,
    }


# -- drawing ----------------------------------------------------------------------------------------------------------


def drawn(name: str, metric: Metric, found: History, spans: Sequence[Span] = ()) -> Chart:
    """The chart of a metric: its average, the range from lowest to highest behind it, and episodes of alerts."""
    factor = _factor(metric)
    points = found.points
    seconds = points[-1][0] - points[0][0] if points else 0
    step: Step = "hour" if seconds > LONG_SECONDS else "time"
    return Chart(
        id=name,
        title=str(metric.label),
        kind="band" if found.step > SLOT_SECONDS else "line",
        moments=[datetime.fromtimestamp(point[0], UTC).astimezone(zone()) for point in points],
        series=[
            Series(
                label=str(metric.label),
                name=metric.name,
                values=_scaled(points, 2, factor),
                low=_scaled(points, 1, factor),
                high=_scaled(points, 3, factor),
            )
        ],
        step=step,
        unit=chart_unit(metric),
        sums=False,
        spans=spans,
    )


def chart_unit(metric: Metric) -> Unit:
    if metric.unit == "percent":
        return "share"
    if metric.unit == "s":
        return "seconds" if metric.kind == "age" else "milliseconds"
    return "count"


def _factor(metric: Metric) -> float:
    return {"share": 0.01, "milliseconds": 1000.0}.get(chart_unit(metric), 1.0)


def _scaled(points: Sequence[Point], place: int, factor: float) -> list[float | None]:
    values: list[float | None] = [point[place] for point in points]
    return [None if value is None else value * factor for value in values]


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of the table behind a chart."""

    at: datetime
    low: str
    average: str
    high: str


def table(metric: Metric, points: Sequence[Point]) -> list[TableRow]:
    """The points as at most `TABLE_ROWS` rows, the newest first; several points become one row."""
    size = -(-len(points) // TABLE_ROWS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    rows = []
    for group in groups:
        known = [point for point in group if point[4]]
        count = sum(point[4] for point in known)
        average = sum((point[2] or 0) * point[4] for point in known) / count if count else None
        rows.append(
            TableRow(
                datetime.fromtimestamp(group[0][0], UTC).astimezone(zone()),
                value_text(metric, min((point[1] or 0 for point in known), default=None)),
                value_text(metric, average),
                value_text(metric, max((point[3] or 0 for point in known), default=None)),
            )
        )
    return rows[::-1]
