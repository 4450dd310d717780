"""Figures as CSV: the values of a chart with names that do not change with the language."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, Final

from metrics.charts.model import Chart

# A spreadsheet takes a text that begins like this for a formula.
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
ROWS_PER_PIECE: Final = 100


def csv_of(chart: Chart) -> Iterator[bytes]:
    """The rows of a chart, the oldest first, in pieces; UTF-8 with a byte order mark, as spreadsheets need it."""
    text = io.StringIO()
    writer = csv.writer(text)
    text.write("\ufeff")
    writer.writerow([cell(name) for name in ("month" if chart.step == "month" else "date", *_names(chart))])
    for place, moment in enumerate(chart.moments):
        writer.writerow([moment.isoformat(), *(cell(one.values[place]) for one in chart.series)])
        if place % ROWS_PER_PIECE == ROWS_PER_PIECE - 1:
            yield _taken(text)
    yield _taken(text)


def cell(value: Any) -> Any:
    """A value of a cell. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return "" if value is None else value


def _names(chart: Chart) -> list[str]:
    return [one.name for one in chart.series]


def _taken(text: io.StringIO) -> bytes:
    piece = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return piece
