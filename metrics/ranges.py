"""Ranges of days in a query: `range=7d`, or `from=` and `to=`. Days are UTC days.

range  a whole number of m (minutes), h (hours), d (days) or y (years of 365 days), at most a year. Days and years
       end today and count it: `7d` is today and the six days before. Minutes and hours reach back from now, and
       every day they touch is included
from   with `to`: two dates, both included, at most a year (366 days, so that a leap year fits)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec

from events import errors

DEFAULT: Final = "7d"
PARAMETERS: Final = ("range", "from", "to")
YEAR_DAYS: Final = 365
MAX_DAYS: Final = 366

UNITS: Final[Mapping[str, timedelta]] = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "y": timedelta(days=YEAR_DAYS),
}
RANGE: Final = re.compile(r"([0-9]{1,7})([mhdy])")
DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class InvalidRange(errors.EventsError):
    """This is not a range. `parameter` names the part that is wrong."""

    code = "invalid_range"
    status = 400

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class Days(msgspec.Struct, frozen=True):
    """The days from `first` to `last`, both included."""

    first: date
    last: date

    def __len__(self) -> int:
        return (self.last - self.first).days + 1


def days(query: Mapping[str, str], now: datetime | None = None) -> Days:
    """The days that a query asks for, `DEFAULT` where it names none. Raises `InvalidRange`."""
    given = {name: query[name] for name in PARAMETERS if query.get(name, "") != ""}
    dates = [name for name in ("from", "to") if name in given]
    if not dates:
        return _until_today(given.get("range", DEFAULT), (now or datetime.now(UTC)).astimezone(UTC))
    if "range" in given:
        raise InvalidRange("Send either range, or from and to.", "range")
    if len(dates) == 1:
        missing = "to" if dates == ["from"] else "from"
        raise InvalidRange("from and to belong together: send both dates.", missing)
    return _between(_date(given["from"], "from"), _date(given["to"], "to"))


def duration(text: str) -> timedelta:
    """The length of a range such as `7d`. Raises `InvalidRange`."""
    found = RANGE.fullmatch(text)
    if found is None or not int(found[1]):
        raise InvalidRange("range is a whole number from 1 and m, h, d or y, such as 90m, 24h, 7d or 1y.", "range")
    if int(found[1]) > timedelta(days=MAX_DAYS) / UNITS[found[2]]:
        raise InvalidRange("range is at most a year.", "range")
    return int(found[1]) * UNITS[found[2]]


def _until_today(text: str, now: datetime) -> Days:
    length = duration(text)
    back = length - timedelta(days=1) if text[-1] in "dy" else length
    return Days((now - back).date(), now.date())


def _between(first: date, last: date) -> Days:
    if first > last:
        raise InvalidRange("from is after to.", "from")
    if len(found := Days(first, last)) > MAX_DAYS:
        raise InvalidRange("from and to are at most a year apart.", "to")
    return found


def _date(text: str, parameter: str) -> date:
    try:
        if DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidRange(f"{parameter} is a date such as 2026-01-31.", parameter)
