"""Dates and times as exports write them. The order of day and month is decided over whole columns. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache

_TIME = (
    r"(?:,?(?:[T ]| at | à | um )\s*(?P<hour>\d{1,2})[:h](?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?\s*(?P<half>[AaPp]\.?\s?[Mm]\.?)?\s*(?P<zone>Z|UTC|(?:UTC|GMT)?[+-]\d{1,2}(?::?\d{2})?|GMT)?)?"
)
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january janv janvier januar enero", "feb february févr fevr fév février fevrier februar febrero",
            "mar march mars märz marzo", "apr april avr avril abril", "may mai mayo", "jun june juin juni junio",
            "jul july juil juillet juli julio", "aug august août aout agosto",
            "sep sept september septembre septiembre",
            "oct october octobre oktober octubre okt", "nov november novembre noviembre",
            "dec december déc décembre decembre dezember dez diciembre",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_NAMES = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAY = r"(?:[^\W\d]{2,9}\.?,? )?"
_SHAPES = tuple(
    re.compile(shape + _TIME, re.IGNORECASE)
    for shape in (
        r"(?P<year>\d{4})(?P<sep>[-/.])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})",
        r"(?P<first>\d{1,2})(?P<sep>[-/.])(?P<then>\d{1,2})(?P=sep)(?P<year>\d{4}|\d{2})",
        _WEEKDAY + rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th|er|\.)?[ -](?P<name>{_NAMES})\.?,?[ -](?P<year>\d{{4}}|\d{{2}})",
        _WEEKDAY + rf"(?P<name>{_NAMES})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})",
    )
)

DAY_FIRST, MONTH_FIRST = "dmy", "mdy"


@lru_cache(maxsize=65_536)  # a column's cells are looked at for type, order and value
def _match(cell: str) -> dict[str, str | None] | None:
    if not 6 <= len(cell) <= 60:
        return None
    for shape in _SHAPES:
        if found := shape.fullmatch(cell):
            return found.groupdict()
    return None


@dataclass(frozen=True, slots=True)
class Style:
    """How a column writes its moments. `timed`: with a time of day."""

    order: str
    timed: bool
    ambiguous: bool

    def value(self, cell: str, zone: tzinfo) -> datetime | date:
        """A date, or an aware datetime: a moment without a zone is taken in `zone`. Raises `ValueError`."""
        return _value(cell, self.order, zone)


@lru_cache(maxsize=65_536)  # once to see whether all cells are real dates, once to use them
def _value(cell: str, order: str, zone: tzinfo) -> datetime | date:
    parts = _match(cell)
    if parts is None:
        raise ValueError(cell)
    day = _day(parts, order)
    return day if parts["hour"] is None else _moment(day, parts, zone)


def study(cells: Collection[str], default: str, zone: tzinfo = UTC) -> Style | None:
    """The one style in which all cells are dates, or all are moments; None for anything else.

    `default` is the order where every cell could be read both ways.
    """
    if not all_dates(cells):
        return None
    matches = [_match(cell) for cell in cells]
    found = [parts for parts in matches if parts]
    timed = {parts["hour"] is not None for parts in found}
    if len(timed) > 1:
        return None
    doubtful = [parts for parts in found if parts.get("first")]
    orders = [default, DAY_FIRST if default == MONTH_FIRST else MONTH_FIRST]
    sure = order_of(doubtful)
    if sure is not None:
        orders = [sure]
    for order in orders:
        if _all_real(cells, order, zone):
            return Style(order, timed.pop(), bool(doubtful) and sure is None)
    return None


def order_of(matches: Iterable[dict[str, str | None]]) -> str | None:
    """Day or month first, where the cells prove it: no month is above 12; AM/PM and dots tell the custom."""
    order, custom = None, None
    for parts in matches:
        if int(parts["first"] or 0) > 12:
            order = DAY_FIRST
        elif int(parts["then"] or 0) > 12:
            order = MONTH_FIRST
        custom = MONTH_FIRST if parts["half"] else DAY_FIRST if parts["sep"] == "." else custom
    return order or custom


def proven_order(cells: Collection[str]) -> str | None:
    """The order that this column proves, if all of it are dates and some can be read one way only."""
    if not all_dates(cells):
        return None
    matches = (_match(cell) for cell in cells)
    return order_of(parts for parts in matches if parts and parts.get("first"))


def all_dates(cells: Collection[str]) -> bool:
    """Whether all cells are shaped like dates or moments; stops at the first that is not."""
    return bool(cells) and all(_match(cell) for cell in cells)


def _all_real(cells: Collection[str], order: str, zone: tzinfo) -> bool:
    try:
        for cell in cells:
            _value(cell, order, zone)
    except ValueError:
        return False
    return True


def _day(parts: dict[str, str | None], order: str) -> date:
    year = int(parts["year"] or 0)
    if len(parts["year"] or "") == 2:
        year += 2000 if year < 69 else 1900  # as POSIX reads two digits
    if name := parts.get("name"):
        return date(year, _MONTHS[name.lower()], int(parts["day"] or 0))
    if first := parts.get("first"):
        day, month = (first, parts["then"]) if order == DAY_FIRST else (parts["then"], first)
        return date(year, int(month or 0), int(day or 0))
    return date(year, int(parts["month"] or 0), int(parts["day"] or 0))


def _moment(day: date, parts: dict[str, str | None], zone: tzinfo) -> datetime:
    hour = int(parts["hour"] or 0)
    if half := parts["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("no such hour on a twelve-hour clock")
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    micro = int((parts["fraction"] or "0").ljust(6, "0")[:6])
    at = (hour, int(parts["minute"] or 0), int(parts["second"] or 0), micro)
    return datetime(day.year, day.month, day.day, *at, tzinfo=_offset(parts["zone"]) or zone)


def _offset(zone: str | None) -> tzinfo | None:
    if zone is None:
        return None
    found = re.search(r"([+-])(\d{1,2}):?(\d{2})?$", zone)
    if found is None:
        return UTC
    minutes = int(found[2]) * 60 + int(found[3] or 0)
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))
