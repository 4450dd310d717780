"""Silences: once, every day and on weekdays, by the wall clock of their time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from events import testing
from metrics.monitoring.alerting import silences
from metrics.monitoring.alerting.silences import Silence

PARIS = ZoneInfo("Europe/Paris")
given = testing.decider(silences.AGGREGATE)


def window(**fields: Any) -> Silence:
    return Silence(**{"repeat": "daily", "from_time": "02:30", "to_time": "03:30", "zone": "Europe/Paris", **fields})


def covered_minutes(silence: Silence, day: str) -> int:
    """Returns the minutes of a local day that the silence covers."""
    start = datetime.fromisoformat(day).replace(tzinfo=PARIS).astimezone(UTC)
    end = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=PARIS).astimezone(UTC)
    minutes = int((end - start).total_seconds()) // 60
    return sum(silences.covers(silence, start + timedelta(minutes=minute)) for minute in range(minutes))


@pytest.mark.parametrize(
    ("day", "minutes"),
    [("2026-03-28", 60), ("2026-03-29", 30), ("2026-03-30", 60), ("2026-10-24", 60), ("2026-10-25", 90)],
)
def test_daily_window_keeps_the_wall_clock_across_daylight_saving(day: str, minutes: int) -> None:
    """uptime-kuma#6233: the window shifts by an hour. 02:30 to 03:00 is missing on 2026-03-29, double on 2026-10-25."""
    assert covered_minutes(window(), day) == minutes


def test_window_past_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday = window(repeat="weekly", weekdays=[5], from_time="23:00", to_time="01:00")
    assert silences.covers(friday, datetime(2026, 1, 2, 23, 30, tzinfo=PARIS))
    assert silences.covers(friday, datetime(2026, 1, 3, 0, 30, tzinfo=PARIS))
    assert not silences.covers(friday, datetime(2026, 1, 3, 23, 30, tzinfo=PARIS))
    assert not silences.covers(friday, datetime(2026, 1, 2, 0, 30, tzinfo=PARIS))


def test_silence_covers_from_its_beginning_until_before_its_end() -> None:
    begin, end = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 13, tzinfo=UTC)
    once = Silence(starts_at=begin, ends_at=end)
    assert [silences.covers(once, at) for at in (begin - timedelta(seconds=1), begin, end)] == [False, True, False]
    assert not silences.covers(Silence(starts_at=begin, ends_at=end, deleted_at=begin), begin)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"rules": ["high_cpu"]}, True),
        ({"rules": ["other"]}, False),
        ({"targets": ["web-1"]}, True),
        ({"targets": ["web-2"]}, False),
        ({"severity": "warning"}, False),
    ],
)
def test_silence_matches_by_rule_target_and_severity(fields: dict[str, Any], expected: bool) -> None:
    assert silences.matches(Silence(**fields), "high_cpu", "web-1", "critical") is expected


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "ends_at"),
        ({"ends_at": datetime(2020, 1, 1, tzinfo=UTC)}, "ends_at"),
        ({"repeat": "daily", "from_time": "2:30", "to_time": "03:30"}, "from_time"),
        ({"repeat": "daily", "from_time": "02:30", "to_time": "02:30"}, "to_time"),
        ({"repeat": "weekly", "from_time": "02:30", "to_time": "03:30", "weekdays": [8]}, "weekdays"),
        ({"repeat": "daily", "from_time": "02:30", "to_time": "03:30", "zone": "Mars/Base"}, "zone"),
        ({"repeat": "daily", "from_time": "02:30", "to_time": "03:30", "rules": ["a b"]}, "rules"),
    ],
)
def test_silence_that_covers_nothing_is_rejected(fields: dict[str, Any], wrong: str) -> None:
    given().when(silences.CreateSilence(title="Upgrade", **fields)).then_rejected("", field=wrong)
