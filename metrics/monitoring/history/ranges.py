"""Ranges and steps of a chart: parses the parameters of a request, and computes the bounds of the buckets.

A range is ``<n>`` followed by m, h, d or y, up to now, or `start` and `end` as instants or dates; an end date includes
that day. Steps up to six hours are counted from 1970 in UTC; days are those of the time zone, so one has 23 or 25 hours
when the clocks change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from metrics.monitoring.metric_types import SLOT_SECONDS

DEFAULT_POINTS: Final = 600
MOST_POINTS: Final = 2000
DAY: Final = 86_400
# The steps to choose from for a request without a step.
STEPS: Final = (5, 15, 60, 300, 900, 3600, 6 * 3600, DAY)
LONGEST: Final = timedelta(days=5 * 366)

_RANGE: Final = re.compile(r"([1-9][0-9]{0,5})([mhdy])")
_STEP: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY}


class BadRange(ValueError):
    """A range or step that cannot be used; `parameter` is the one to correct."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Range:
    """A range of time from `start` to `end` (exclusive)."""

    start: datetime
    end: datetime


def parse(text: str, now: datetime, zone: ZoneInfo) -> Range:
    """The range of this length up to now.

    Days are those of the zone: ``7d`` is today and the six days before.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise BadRange("range", "range is a number followed by m, h, d or y, such as 24h.")
    number, unit = int(found[1]), found[2]
    if unit in "mh":
        return _checked(now - timedelta(seconds=number * _UNITS[unit]), now, "range")
    today = now.astimezone(zone).date()
    try:
        first = today - timedelta(days=number - 1) if unit == "d" else _years_before(today, number)
    except (OverflowError, ValueError):
        raise BadRange("range", "range is at most five years.") from None
    return _checked(midnight(first, zone), now, "range")


def between(start: str, end: str, zone: ZoneInfo) -> Range:
    """The range between two instants or dates; an instant without a time zone is local to `zone`."""
    return _checked(_instant(start, zone, "from", 0), _instant(end, zone, "to", 1), "to")


def _instant(text: str, zone: ZoneInfo, parameter: str, days: int) -> datetime:
    try:
        if len(text) == 10:
            return midnight(date.fromisoformat(text) + timedelta(days=days), zone)
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRange(parameter, f"{parameter} is a date or an instant, such as 2026-03-29T02:00:00Z.") from None


def _checked(start: datetime, end: datetime, parameter: str) -> Range:
    if end <= start:
        raise BadRange(parameter, "The range ends before it begins.")
    if end - start > LONGEST:
        raise BadRange(parameter, "A range is at most five years.")
    return Range(start, end)


def _years_before(day: date, years: int) -> date:
    if years > 5:
        raise ValueError(years)
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return day.replace(year=day.year - years, day=28)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which a day begins in the zone; where no clock shows midnight, the instant of the change."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def parse_step(text: str) -> int:
    """A step in seconds: ``5s``, ``1m``, ``6h``, ``1d``, or a number of seconds."""
    found = _STEP.fullmatch(text if not text.isdecimal() else f"{text}s")
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not seconds or seconds % SLOT_SECONDS or (seconds > DAY and seconds % DAY):
        raise BadRange("step", "step is a multiple of 5 seconds such as 5s, 1m or 6h, or a number of days such as 1d.")
    return seconds


def default_step(wanted: Range) -> int:
    """The smallest of `STEPS` that gives at most `DEFAULT_POINTS` points."""
    seconds = (wanted.end - wanted.start).total_seconds()
    return next((step for step in STEPS if seconds / step <= DEFAULT_POINTS), _days(seconds))


def _days(seconds: float) -> int:
    return DAY * -(-int(seconds) // (DAY * DEFAULT_POINTS))


def bounds(wanted: Range, step: int, zone: ZoneInfo) -> Sequence[datetime]:
    """The bounds of all buckets that begin in the range: one more than there are buckets.

    Raises `BadRange` for more than `MOST_POINTS` buckets.
    """
    if (wanted.end - wanted.start).total_seconds() / step > MOST_POINTS:
        raise BadRange("step", f"That is more than {MOST_POINTS:,} points: use a longer step or a shorter range.")
    if step < DAY:
        first = int(wanted.start.timestamp()) // step * step
        last = -(-int(wanted.end.timestamp()) // step) * step
        return [datetime.fromtimestamp(at, UTC) for at in range(first, last + step, step)]
    days, found = timedelta(days=step // DAY), [wanted.start.astimezone(zone).date()]
    while midnight(found[-1], zone) < wanted.end:
        found.append(found[-1] + days)
    return [midnight(day, zone) for day in found]
