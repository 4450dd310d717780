"""Charts as data: series over time, with the table, the summary and the JSON that belong to them.

kind   line   values over time; None is a gap
       bar    values side by side in time, stacked where there are several series
       band   a line with the range from `low` to `high` behind it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from django.utils.formats import date_format, number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from backoffice.templatetags import display
from metrics.charts import scales, svg
from metrics.charts.scales import Unit

Kind = Literal["line", "bar", "band"]
Step = Literal["time", "day", "month"]
Moment = date | datetime
Values = Sequence[float | None]

# How a moment is written in a table and under an axis.
LONG_FORMATS: dict[Step, str] = {"time": "DATETIME_FORMAT", "day": "DATE_FORMAT", "month": "YEAR_MONTH_FORMAT"}
SHORT_FORMATS: dict[Step, str] = {"time": "H:i", "day": "j M", "month": "M Y"}


@dataclass(frozen=True, slots=True)
class Series:
    """One value per moment. `low` and `high` are of a band.

    name    of its column in downloads
    colour  an index of the palette, 0 to 4
    """

    label: str
    name: str
    values: Values
    colour: int = 0
    low: Values = ()
    high: Values = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """A chart with its title and unit.

    id      unique on the page; letters, digits and dashes
    step    what a moment stands for; days and months are UTC
    sums    values of a series add up, so that the summary names their sum
    """

    id: str
    title: str
    kind: Kind
    moments: Sequence[Moment]
    series: Sequence[Series]
    step: Step = "day"
    unit: Unit = "count"
    sums: bool = True

    def text(self, value: float | None) -> str:
        """A value in words: a grouped number, a duration or a percentage; a dash for None."""
        if value is None:
            return "–"
        if self.unit == "seconds":
            return display.seconds(value)
        if self.unit == "share":
            return display.percent(value)
        return str(number_format(int(value) if value == int(value) else value, force_grouping=True))

    def tick_text(self, value: float) -> str:
        """A round value at the axis, shorter than `text` for durations."""
        if self.unit != "seconds":
            return self.text(value)
        if value < 60:
            return _("%(n)s s") % {"n": number_format(value, 0)}
        if value < 3_600:
            return _("%(n)s min") % {"n": number_format(value / 60, 0)}
        return _("%(n)s h") % {"n": number_format(value / 3_600, 0)}

    def moment_text(self, moment: Moment, formats: dict[Step, str] = LONG_FORMATS) -> str:
        return str(date_format(moment, formats[self.step]))

    @property
    def is_empty(self) -> bool:
        """True when no series has a value other than zero."""
        return not any(value for one in self.series for value in one.values)

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table: per moment its name and the value of each series, as texts. The newest is first."""
        listed = [
            (self.moment_text(moment), [self.text(one.values[place]) for one in self.series])
            for place, moment in enumerate(self.moments)
        ]
        return listed[::-1]

    @property
    def summary(self) -> str:
        """The chart in a sentence per series."""
        return " ".join(self._sentence(one) for one in self.series)

    def _sentence(self, one: Series) -> str:
        known = [(value, place) for place, value in enumerate(one.values) if value is not None]
        if not known:
            return _("%(label)s: no data.") % {"label": one.label}
        highest, place = max(known, key=lambda each: each[0])
        values = {
            "label": one.label,
            "highest": self.text(highest),
            "when": self.moment_text(self.moments[place]),
            "lowest": self.text(min(known)[0]),
            "total": self.text(sum(value for value, _place in known)),
        }
        if self.sums:
            return _("%(label)s: %(total)s in total, at most %(highest)s (%(when)s).") % values
        return _("%(label)s: from %(lowest)s to %(highest)s (%(when)s).") % values

    @property
    def data_id(self) -> str:
        return f"{self.id}-data"

    @property
    def data(self) -> dict[str, Any]:
        """The values for `chart.js`, with moments as seconds since the epoch."""
        bands = {"low": [list(one.low) for one in self.series], "high": [list(one.high) for one in self.series]}
        return {
            "kind": self.kind,
            "unit": self.unit,
            "step": self.step,
            "moments": [_epoch(moment) for moment in self.moments],
            "series": [{"label": one.label, "colour": one.colour} for one in self.series],
            "values": [list(one.values) for one in self.series],
            **(bands if self.kind == "band" else {}),
        }

    @property
    def svg(self) -> SafeString:
        """The drawing of the server: for paper, and without scripts."""
        highest = max((value for values in self._extents() for value in values if value is not None), default=0.0)
        steps = scales.ticks(highest, self.unit)
        return svg.draw(
            svg.Drawing(
                id=self.id,
                title=self.title,
                summary=self.summary,
                kind=self.kind,
                top=steps[-1],
                ticks=[(step, self.tick_text(step)) for step in steps],
                places=_places(self.moments, self.kind),
                labels=[
                    (place, self.moment_text(self.moments[place], SHORT_FORMATS))
                    for place in scales.label_places(len(self.moments))
                ],
                series=[svg.DrawnSeries(one.colour, one.values, one.low, one.high) for one in self.series],
                titles=[name for name, _values in self.rows[::-1]],
                texts=[[self.text(value) for value in one.values] for one in self.series],
            )
        )

    def _extents(self) -> Sequence[Values]:
        if self.kind == "bar":
            return [[sum(value or 0 for value in column) for column in zip(*self._values(), strict=True)]]
        return [*self._values(), *(one.high for one in self.series)]

    def _values(self) -> list[Values]:
        return [one.values for one in self.series]


def _epoch(moment: Moment) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return int(moment.timestamp())


def _places(moments: Sequence[Moment], kind: Kind) -> list[float]:
    """The place of each moment from 0 (left) to 1 (right): bars in columns of equal width, points by time."""
    count = len(moments)
    if kind == "bar" or count < 2:
        return [(number + 0.5) / count for number in range(count)]
    first, last = _epoch(moments[0]), _epoch(moments[-1])
    return [(_epoch(moment) - first) / (last - first) for moment in moments]
