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
from django.utils.translation import ngettext

from backoffice.templatetags import display
from metrics.charts import scales, svg
from metrics.charts.scales import Unit

Kind = Literal["line", "bar", "band"]
Step = Literal["time", "hour", "day", "month"]
Moment = date | datetime
Values = Sequence[float | None]

# How a moment is written in a table and under an axis.
LONG_FORMATS: dict[Step, str] = {
    "time": "DATETIME_FORMAT",
    "hour": "DATETIME_FORMAT",
    "day": "DATE_FORMAT",
    "month": "YEAR_MONTH_FORMAT",
}
SHORT_FORMATS: dict[Step, str] = {"time": "H:i", "hour": "j M", "day": "j M", "month": "M Y"}


@dataclass(frozen=True, slots=True)
class Series:
    """One value per moment. `low` and `high` are the range of a band.

    name    of its column in downloads
    colour  an index of the palette, 0 to 4
    """

    label: str
    name: str
    values: Values
    colour: int = 0
    low: Values = ()
    high: Values = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A shaded part of a chart, such as an episode of an alert; without `end` it goes on."""

    start: datetime
    end: datetime | None
    severity: str
    label: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """A chart with its title and unit.

    id      unique on the page; letters, digits and dashes
    step    the length of time that a moment stands for; days and months are UTC. `hour`: times within several days
    sums    values of a series add up, so that the summary names their sum
    spans   shaded parts, behind the series; of charts with moments of type `datetime`
    """

    id: str
    title: str
    kind: Kind
    moments: Sequence[Moment]
    series: Sequence[Series]
    step: Step = "day"
    unit: Unit = "count"
    sums: bool = True
    spans: Sequence[Span] = ()

    def text(self, value: float | None) -> str:
        """A value in words: a grouped number, a duration or a percentage; a dash for None."""
        if value is None:
            return "–"
        if self.unit == "seconds":
            return display.seconds(value)
        if self.unit == "milliseconds":
            return display.milliseconds(value / 1000)
        if self.unit == "share":
            return _("%(n)s%%") % {"n": _plain(value * 100)}
        return _plain(value)

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
        """The table: for each moment its name and the value of each series, as texts; newest first."""
        listed = [
            (self.moment_text(moment), [self.text(one.values[place]) for one in self.series])
            for place, moment in enumerate(self.moments)
        ]
        return listed[::-1]

    @property
    def summary(self) -> str:
        """The chart in a sentence per series, and one for the shaded parts."""
        return " ".join([*(self._sentence(one) for one in self.series), *self._said_spans()])

    def _said_spans(self) -> list[str]:
        if not self.spans:
            return []
        named = ", ".join(dict.fromkeys(one.label for one in self.spans))
        count = len(self.spans)
        return [
            ngettext("Shaded: %(n)s alert (%(named)s).", "Shaded: %(n)s alerts (%(named)s).", count)
            % {"n": count, "named": named}
        ]

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
            **({"spans": self.span_data} if self.spans else {}),
        }

    @property
    def span_data(self) -> list[dict[str, Any]]:
        """The shaded parts for `chart.js`."""
        return [
            {"start": _epoch(one.start), "end": _epoch(one.end) if one.end else None, "severity": one.severity}
            for one in self.spans
        ]

    @property
    def svg(self) -> SafeString:
        """The chart drawn by the server: for printing, and for browsers without scripts."""
        highest = max((value for values in self._extents() for value in values if value is not None), default=0.0)
        steps = scales.ticks(highest, self.unit)
        named = self.kind == "bar"  # only bars have a text of their own
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
                titles=[self.moment_text(moment) for moment in self.moments] if named else [],
                spans=[svg.DrawnSpan(*_extent(one, self.moments), one.severity, one.label) for one in self.spans],
                texts=[[self.text(value) for value in one.values] for one in self.series] if named else [],
            )
        )

    def _extents(self) -> Sequence[Values]:
        if self.kind == "bar":
            return [[sum(value or 0 for value in column) for column in zip(*self._values(), strict=True)]]
        return [*self._values(), *(one.high for one in self.series)]

    def _values(self) -> list[Values]:
        return [one.values for one in self.series]


def _plain(value: float) -> str:
    """A grouped number with at most one decimal; a decimal that is zero is left out."""
    rounded = round(value, 1)
    return str(number_format(int(rounded) if rounded == int(rounded) else rounded, force_grouping=True))


def _epoch(moment: Moment) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return int(moment.timestamp())


def _extent(span: Span, moments: Sequence[Moment]) -> tuple[float, float]:
    """The left and right end of a shaded part, from 0 to 1, cut off at the chart's ends."""
    if len(moments) < 2:
        return 0.0, 0.0
    first, last = _epoch(moments[0]), _epoch(moments[-1])
    ends = (_epoch(span.start), _epoch(span.end) if span.end else last)
    left, right = (min(max((at - first) / (last - first), 0.0), 1.0) for at in ends)
    return left, right


def _places(moments: Sequence[Moment], kind: Kind) -> list[float]:
    """The place of each moment from 0 (left) to 1 (right): bars in columns of equal width, points by time."""
    count = len(moments)
    if kind == "bar" or count < 2:
        return [(number + 0.5) / count for number in range(count)]
    first, last = _epoch(moments[0]), _epoch(moments[-1])
    return [(_epoch(moment) - first) / (last - first) for moment in moments]
