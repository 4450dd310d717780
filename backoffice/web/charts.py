"""Bars drawn by the server: no script, printable, read aloud as a table by screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone

DAYS: Final = 30
WIDTH, HEIGHT = 600, 96

PER_DAY = """
select (created_at at time zone 'UTC')::date as day, count(*)
  from submissions
 where form_id = %s and created_at >= %s and deleted_at is null
 group by day
"""


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


def submissions_per_day(form_id: Any, days: int = DAYS) -> list[tuple[date, int]]:
    """Submissions of each of the last days, today included, days without any too."""
    today = timezone.now().date()
    first = today - timedelta(days=days - 1)
    with connection.cursor() as cursor:
        cursor.execute(PER_DAY, [form_id, first])
        found = dict(cursor.fetchall())
    return [(day, found.get(day, 0)) for day in (first + timedelta(days=n) for n in range(days))]


def daily(values: Sequence[tuple[date, int]]) -> Chart:
    """A bar a day. A day with few is still a hair high; one with none is a dot on the line."""
    top = max((value for _, value in values), default=0)
    step = WIDTH / max(1, len(values))
    bars = []
    for number, (day, value) in enumerate(values):
        height = max(3.0, round(value / top * HEIGHT, 1)) if value else 1.0
        bars.append(
            Bar(day, value, round(number * step + 1.5, 1), round(HEIGHT - height, 1), round(step - 3, 1), height)
        )
    return Chart(bars, top, sum(value for _, value in values))
