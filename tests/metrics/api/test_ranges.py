"""Ranges of days: `range=7d`, or two dates."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from metrics import ranges
from metrics.ranges import Days

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("1d", "2026-03-29"),
        ("7d", "2026-03-23"),
        ("90d", "2025-12-30"),
        ("1y", "2025-03-30"),
        ("366d", "2025-03-29"),
        ("1m", "2026-03-29"),
        ("12h", "2026-03-29"),
        ("13h", "2026-03-28"),
        ("24h", "2026-03-28"),
    ],
)
def test_range_ends_today(text: str, first: str) -> None:
    assert ranges.days({"range": text}, NOON) == Days(date.fromisoformat(first), date(2026, 3, 29))


def test_week_has_seven_days_and_is_the_default() -> None:
    assert ranges.days({}, NOON) == ranges.days({"range": ""}, NOON) == ranges.days({"range": "7d"}, NOON)
    assert len(ranges.days({}, NOON)) == 7


def test_day_is_a_day_of_utc() -> None:
    evening = datetime.fromisoformat("2026-03-29T01:30:00+02:00")
    assert ranges.days({"range": "1d"}, evening).last == date(2026, 3, 28)


@pytest.mark.parametrize(
    ("first", "last", "length"),
    [("2026-03-29", "2026-03-29", 1), ("2024-01-01", "2024-12-31", 366), ("0001-01-01", "0001-01-02", 2)],
)
def test_both_dates_are_included(first: str, last: str, length: int) -> None:
    found = ranges.days({"from": first, "to": last})
    assert (found.first.isoformat(), found.last.isoformat(), len(found)) == (first, last, length)


@pytest.mark.parametrize(
    "text", ["7", "d", "0d", "-7d", "7 d", "7w", "7D", "٧d", "7d\n", "1.5d", "99999999d", "367d", "2y", "8785h", "x"]
)
def test_other_ranges_are_refused_by_name(text: str) -> None:
    with pytest.raises(ranges.InvalidRange) as refused:
        ranges.days({"range": text}, NOON)
    assert refused.value.parameter == "range"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"from": "2026-01-01"}, "to"),
        ({"to": "2026-01-01"}, "from"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "from"),
        ({"from": "2025-01-01", "to": "2026-01-02"}, "to"),
        ({"from": "2026-02-30", "to": "2026-03-01"}, "from"),
        ({"from": "20260101", "to": "2026-03-01"}, "from"),
        ({"from": "2026-01-01", "to": "2026-W01-1"}, "to"),
        ({"from": "2026-01-01", "to": "2026-01-02T00:00:00Z"}, "to"),
        ({"from": "2026-01-01", "to": "2026-01-02", "range": "7d"}, "range"),
    ],
)
def test_other_dates_are_refused_by_name(query: dict[str, str], parameter: str) -> None:
    with pytest.raises(ranges.InvalidRange) as refused:
        ranges.days(query, NOON)
    assert refused.value.parameter == parameter
