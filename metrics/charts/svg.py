"""Draws charts as SVG: no script, no inline style, printable. Colours and dashes come from the style sheet.

The width follows the page. Places in time are percentages of it; heights and texts are in pixels, so that texts stay
readable on a phone. Lines are drawn in a nested `svg` that is stretched, with strokes that are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

ABOVE: Final = 18  # space for the label of the highest tick
PLOT: Final = 150
BELOW: Final = 22
HEIGHT: Final = ABOVE + PLOT + BELOW
STRETCHED: Final = 1000  # width of the nested drawing, in its own units
BAR_SHARE: Final = 0.72  # of a column
PALETTE: Final = 5

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class DrawnSeries:
    colour: int
    values: Values
    low: Values = ()
    high: Values = ()


@dataclass(frozen=True, slots=True)
class DrawnSpan:
    """A shaded part from `left` to `right`, each from 0 to 1."""

    left: float
    right: float
    severity: str
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """The elements of a drawing: `ticks` and `labels` are (value or index, text); `places` are from 0 to 1."""

    id: str
    title: str
    summary: str
    kind: str
    top: float
    ticks: Sequence[tuple[float, str]]
    places: Sequence[float]
    labels: Sequence[tuple[int, str]]
    series: Sequence[DrawnSeries]
    titles: Sequence[str]
    texts: Sequence[Sequence[str]]
    spans: Sequence[DrawnSpan] = ()


def draw(drawing: Drawing) -> SafeString:
    """The whole picture, with its title and summary for screen readers."""
    content = {"line": _lines, "band": _bands, "bar": _bars}[drawing.kind](drawing)
    return format_html(
        '<div class="plot"><svg class="plot-ticks" width="46" height="{height}" aria-hidden="true">{ticks}</svg>'
        '<svg class="plot-area" height="{height}" overflow="visible" role="img"'
        ' aria-labelledby="{id}-title {id}-summary"><title id="{id}-title">{title}</title>'
        '<desc id="{id}-summary">{summary}</desc>{spans}{grid}{content}{labels}</svg></div>',
        id=drawing.id,
        height=HEIGHT,
        title=drawing.title,
        summary=drawing.summary,
        spans=_spans(drawing),
        grid=_grid(drawing),
        content=content,
        labels=_labels(drawing),
        ticks=_tick_texts(drawing),
    )


def _spans(drawing: Drawing) -> SafeString:
    """Shaded parts; a short one is still visible."""
    rect = '<rect class="span span-{}" x="{}%" y="{}" width="{}%" height="{}"><title>{}</title></rect>'
    rows = []
    for one in drawing.spans:
        left, width = f"{one.left * 100:.2f}", f"{max(0.4, (one.right - one.left) * 100):.2f}"
        rows.append((one.severity, left, ABOVE, width, PLOT, one.label))
    return format_html_join("", rect, rows)


def _height_of(value: float, top: float) -> float:
    return value / top * PLOT if top else 0.0


def _y(value: float, top: float) -> str:
    return f"{ABOVE + PLOT - _height_of(value, top):.1f}"


def _grid(drawing: Drawing) -> SafeString:
    line = '<line class="grid-line" x1="0" x2="100%" y1="{0}" y2="{0}"></line>'
    return format_html_join("", line, ((_y(value, drawing.top),) for value, _text in drawing.ticks))


def _tick_texts(drawing: Drawing) -> SafeString:
    """The labels of the value axis, in a picture of their own width left of the area."""
    rows = ((_y(value, drawing.top), text) for value, text in drawing.ticks)
    return format_html_join("", '<text class="tick" x="0" y="{}" dy="4">{}</text>', rows)


def _labels(drawing: Drawing) -> SafeString:
    return format_html_join(
        "",
        '<text class="tick {}" x="{}%" y="{}">{}</text>',
        (
            (_anchor(drawing.places[place]), f"{drawing.places[place] * 100:.2f}", HEIGHT - 5, text)
            for place, text in drawing.labels
        ),
    )


def _anchor(place: float) -> str:
    return "start" if place < 0.05 else "end" if place > 0.95 else "middle"


# -- lines and bands --------------------------------------------------------------------------------------------------


def _lines(drawing: Drawing) -> SafeString:
    paths = format_html_join(
        "",
        '<path class="series-line series-{}" d="{}"></path>',
        ((one.colour % PALETTE, _path(drawing, one.values)) for one in drawing.series),
    )
    return _stretched(paths)


def _bands(drawing: Drawing) -> SafeString:
    areas = format_html_join(
        "",
        '<path class="series-band series-{}" d="{}"></path>',
        ((one.colour % PALETTE, _area(drawing, one)) for one in drawing.series),
    )
    return format_html("{}{}", _stretched(areas), _lines(drawing))


def _stretched(content: SafeString) -> SafeString:
    return format_html(
        '<svg x="0" y="{}" width="100%" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none"'
        ' overflow="visible" aria-hidden="true">{}</svg>',
        ABOVE,
        PLOT,
        STRETCHED,
        PLOT,
        content,
    )


def _path(drawing: Drawing, values: Values) -> str:
    """A line with gaps; a value between two gaps becomes a dot, as a line of no length."""
    return " ".join(
        "M" + "L".join(_point(drawing, place, values[place] or 0) for place in run) + ("h0" if len(run) == 1 else "")
        for run in _runs(values)
    )


def _area(drawing: Drawing, one: DrawnSeries) -> str:
    """The range between `low` and `high`, closed for each run without gaps."""
    parts = []
    for run in _runs(
        [None if low is None or high is None else 0.0 for low, high in zip(one.low, one.high, strict=True)]
    ):
        there = [_point(drawing, place, one.high[place] or 0) for place in run]
        back = [_point(drawing, place, one.low[place] or 0) for place in reversed(run)]
        parts.append("M" + "L".join([*there, *back]) + "Z")
    return " ".join(parts)


def _point(drawing: Drawing, place: int, value: float) -> str:
    return f"{drawing.places[place] * STRETCHED:.1f} {PLOT - _height_of(value, drawing.top):.1f}"


def _runs(values: Values) -> Iterator[list[int]]:
    """Indices of consecutive values that are not None."""
    run: list[int] = []
    for place, value in enumerate(values):
        if value is not None:
            run.append(place)
        elif run:
            yield run
            run = []
    if run:
        yield run


# -- bars -------------------------------------------------------------------------------------------------------------


def _bars(drawing: Drawing) -> SafeString:
    """Stacked columns; each series has a pattern of its own besides its colour."""
    width = 100 / max(1, len(drawing.places)) * BAR_SHARE
    base = [0.0] * len(drawing.places)
    parts = [_patterns(drawing)]
    for number, one in enumerate(drawing.series):
        colour = one.colour % PALETTE
        fill = mark_safe(f' fill="url(#{drawing.id}-pattern-{number})"') if number else SafeString("")  # noqa: S308
        rows = []
        for place, value in enumerate(one.values):
            if value:
                y, base[place] = base[place] + value, base[place] + value
                x = drawing.places[place] * 100 - width / 2
                height = max(1.0, _height_of(value, drawing.top))
                text = f"{drawing.titles[place]}: {drawing.texts[number][place]}"
                rows.append((colour, f"{x:.2f}", _y(y, drawing.top), f"{width:.2f}", f"{height:.1f}", fill, text))
        bar = '<rect class="series-bar series-{}" x="{}%" y="{}" width="{}%" height="{}"{}><title>{}</title></rect>'
        parts.append(format_html_join("", bar, rows))
    return format_html_join("", "{}", ((part,) for part in parts))


# Background and marks of the second, third … series of a stack.
_MARKS: Final = (
    '<path class="pattern-mark" d="M0 6L6 0"></path>',
    '<circle class="pattern-mark" cx="3" cy="3" r="1"></circle>',
    '<path class="pattern-mark" d="M0 3H6"></path>',
    '<path class="pattern-mark" d="M3 0V6"></path>',
)


def _patterns(drawing: Drawing) -> SafeString:
    rows = [
        (drawing.id, number, one.colour % PALETTE, mark_safe(_MARKS[(number - 1) % len(_MARKS)]))  # noqa: S308
        for number, one in enumerate(drawing.series)
        if number
    ]
    if not rows:
        return SafeString("")
    pattern = (
        '<pattern id="{}-pattern-{}" class="series-{}" width="6" height="6" patternUnits="userSpaceOnUse">'
        '<rect class="pattern-ground" width="6" height="6"></rect>{}</pattern>'
    )
    return format_html("<defs>{}</defs>", format_html_join("", pattern, rows))
