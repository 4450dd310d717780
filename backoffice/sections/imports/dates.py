"""Dates and times in exports; whole columns decide the order of day and month. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache

from backoffice.sections.imports import zones

_HALF = r"[AaPp]\.?\s?[Mm]\b\.?|오전|오후|上午|下午|午前|午後"
_LATER = ("p", "오후", "下午", "午後")
_LINK = r",?(?:T|\s+(?:(?:at|à|um|às|a las|alle|ore|kl\.?|klo|om|o|в|-)\s+)?|(?<=[日일])\s*)"
_TIME = (
    rf"(?:{_LINK}(?P<early>{_HALF})?\s*(?P<hour>\d{{1,2}})(?P<mark>[:.h])(?P<minute>\d{{2}})"
    rf"(?:(?:(?P=mark)|:)(?P<second>\d{{2}})(?:[.,](?P<fraction>\d{{1,9}}))?)?\s*(?P<half>{_HALF})?"
    r"(?:\s*(?P<zone>[^\d\s].{0,70}))?)?"
)
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january janv janvier januar januari enero ene gennaio gen janeiro stycznia sty января янв ledna ocak",
            "feb february févr fév février fevrier februar februari febrero febbraio fevereiro fev lutego февраля",
            "mar march mars märz mär marzo maart mrt março marts marca марта мар března mart",
            "apr april avr avril abril abr aprile kwietnia kwi апреля апр dubna nisan",
            "may mai mayo mei maggio mag maio maj maja мая května mayıs",
            "jun june juin juni junio giugno giu junho czerwca cze июня июн června haziran",
            "jul july juil juillet juli julio luglio lug julho lipca lip июля июл července temmuz",
            "aug august août aout agosto ago augustus augusti sierpnia sie августа авг srpna ağustos",
            "sep sept september septembre septiembre settembre set setembro września wrz сентября сен сент září eylül",
            "oct october octobre oktober octubre okt ottobre ott outubro out października paź октября окт října ekim",
            "nov november novembre noviembre novembro listopada lis ноября ноя нояб listopadu kasım",
            "dec december déc décembre decembre dezember dez diciembre dic dicembre dezembro grudnia декабря",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_NAMES = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAY = r"(?:[^\W\d][\w-]{1,14}\.?,? )?"
_SHAPES = tuple(
    re.compile(shape + _TIME, re.IGNORECASE)
    for shape in (
        r"(?P<year>\d{4})(?P<sep>[-/.])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})",
        r"(?P<first>\d{1,2})(?P<sep>[-/.])\s?(?P<then>\d{1,2})(?P=sep)\s?(?P<year>\d{4}|\d{2})",
        _WEEKDAY + rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th|er|º|\.)?(?:[ -]| de )(?P<name>{_NAMES})\.?,?(?:[ -]| del? )"
        r"(?P<year>\d{4}|\d{2})(?: г\.)?",
        _WEEKDAY + rf"(?P<name>{_NAMES})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})",
        r"(?P<year>\d{4})\s?[.年년]\s?(?P<month>\d{1,2})\s?[.月월]\s?(?P<day>\d{1,2})\s?[.日일]?",
    )
)
_LONGEST = 120
# Year, and day and month in either order, of the epochs of clocks and databases, which replace unknown times.
_FILLERS = {
    (0, frozenset((0,))), (1, frozenset((1,))), (1601, frozenset((1,))), (1753, frozenset((1,))),
    (1899, frozenset((12, 30))), (1899, frozenset((12, 31))), (1900, frozenset((1,))), (1900, frozenset((0, 1))),
    (1904, frozenset((1,))), (1969, frozenset((12, 31))), (1970, frozenset((1,))), (1980, frozenset((1,))),
}  # fmt: skip

DAY_FIRST, MONTH_FIRST = "dmy", "mdy"


@lru_cache(maxsize=65_536)  # cells are parsed for type, order and value
def _match(cell: str) -> dict[str, str | None] | None:
    parts = _parts(cell)
    return parts if parts and (parts["zone"] is None or zones.find(parts["zone"])) else None


def _parts(cell: str) -> dict[str, str | None] | None:
    if not 6 <= len(cell) <= _LONGEST:
        return None
    for shape in _SHAPES:
        if found := shape.fullmatch(cell):
            return found.groupdict()
    return None


def zone_of(cell: str) -> str:
    """Returns the zone as written in the cell, known or not; "" without one."""
    parts = _parts(cell)
    return (parts["zone"] or "").strip() if parts else ""


def is_filler(cell: str) -> bool:
    """Returns whether the cell is the epoch of some clock (1970-01-01, 1980-01-01, 0000-00-00) instead of a time."""
    parts = _parts(cell)
    if parts is None or "name" in parts:
        return False
    day, month = (parts.get("first") or parts.get("month"), parts.get("then") or parts.get("day"))
    return (_year(parts), frozenset((int(day or 0), int(month or 0)))) in _FILLERS


@dataclass(frozen=True, slots=True)
class Style:
    """The format of a column's times; `timed`: with a time of day."""

    order: str
    timed: bool
    ambiguous: bool

    def value(self, cell: str, zone: tzinfo) -> datetime | date:
        """Returns a date, or an aware datetime: a time without a zone is in `zone`. Raises `ValueError`."""
        return _value(cell, self.order, zone)


@lru_cache(maxsize=65_536)  # once to check that all cells are real dates, once to convert them
def _value(cell: str, order: str, zone: tzinfo) -> datetime | date:
    parts = _match(cell)
    if parts is None:
        raise ValueError(cell)
    day = _day(parts, order)
    return day if parts["hour"] is None else _moment(day, parts, zone)


def study(cells: Collection[str], default: str, zone: tzinfo = UTC) -> Style | None:
    """Returns the one style in which all cells are dates, or all are times; None for anything else.

    `default` is the order if every cell is ambiguous.
    """
    if not all_dates(cells):
        return None
    matches = [_match(cell) for cell in cells]
    found = [parts for parts in matches if parts]
    timed = {parts["hour"] is not None for parts in found}
    if len(timed) > 1:
        return None
    doubtful = [parts for parts in found if parts.get("first")]
    if doubtful and all(parts["sep"] == "-" for parts in doubtful):
        default = DAY_FIRST  # no country writes month-day-year with hyphens
    orders = [default, DAY_FIRST if default == MONTH_FIRST else MONTH_FIRST]
    sure = order_of(doubtful)
    if sure is not None:
        orders = [sure]
    for order in orders:
        if _all_real(cells, order, zone):
            return Style(order, timed.pop(), bool(doubtful) and sure is None)
    return None


def order_of(matches: Iterable[dict[str, str | None]]) -> str | None:
    """Returns the order of day and month, if the cells prove it.

    A number above 12 is a day; AM/PM and dots indicate the usual order of their countries.
    """
    order, custom = None, None
    for parts in matches:
        if int(parts["first"] or 0) > 12:
            order = DAY_FIRST
        elif int(parts["then"] or 0) > 12:
            order = MONTH_FIRST
        custom = MONTH_FIRST if parts["half"] else DAY_FIRST if parts["sep"] == "." else custom
    return order or custom


def proven_order(cells: Collection[str]) -> str | None:
    """Returns the order that this column proves: all cells are dates and some can be read one way only."""
    if not all_dates(cells):
        return None
    matches = (_match(cell) for cell in cells)
    return order_of(parts for parts in matches if parts and parts.get("first"))


def all_dates(cells: Collection[str]) -> bool:
    """Returns whether all cells look like dates or times; stops at the first other cell."""
    return bool(cells) and all(_match(cell) for cell in cells)


def _all_real(cells: Collection[str], order: str, zone: tzinfo) -> bool:
    try:
        for cell in cells:
            _value(cell, order, zone)
    except ValueError:
        return False
    return True


def _year(parts: dict[str, str | None]) -> int:
    year = int(parts["year"] or 0)
    if len(parts["year"] or "") == 2:
        year += 2000 if year < 69 else 1900  # as POSIX reads two digits
    return year


def _day(parts: dict[str, str | None], order: str) -> date:
    year = _year(parts)
    if name := parts.get("name"):
        return date(year, _MONTHS[name.lower()], int(parts["day"] or 0))
    if first := parts.get("first"):
        day, month = (first, parts["then"]) if order == DAY_FIRST else (parts["then"], first)
        return date(year, int(month or 0), int(day or 0))
    return date(year, int(parts["month"] or 0), int(parts["day"] or 0))


def _moment(day: date, parts: dict[str, str | None], zone: tzinfo) -> datetime:
    hour = int(parts["hour"] or 0)
    if half := parts["half"] or parts["early"]:
        if not 1 <= hour <= 12:
            raise ValueError("no such hour on a twelve-hour clock")
        hour = hour % 12 + (12 if half.lower().startswith(_LATER) else 0)
    micro = int((parts["fraction"] or "0").ljust(6, "0")[:6])
    at = (hour, int(parts["minute"] or 0), int(parts["second"] or 0), micro)
    named = zones.find(parts["zone"]) if parts["zone"] else None
    return datetime(day.year, day.month, day.day, *at, tzinfo=named or zone)
