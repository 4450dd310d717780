"""Compares the daily view with the daily counters, in the snapshot of a refresh.

The view is computed from the read tables, the counters are folded from events. In one snapshot, the counters plus the
fold of the events that are visible above their checkpoint must equal the view, day by day and to the unit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from events import store

log = logging.getLogger(__name__)


class Figures(msgspec.Struct, frozen=True):
    """What both sides know about a day. `seconds` is the sum of completion times of `timed` submissions."""

    forms_created: int = 0
    unique_users: int = 0
    submissions: int = 0
    timed: int = 0
    seconds: Decimal = Decimal(0)


class Difference(msgspec.Struct, frozen=True):
    """A day on which the two sides differ."""

    day: date
    view: Figures
    counters: Figures


# (first, last) -> figures of the days that have any, by the counters; None when they cannot be compared now, because
# they have not started or are too far behind. Runs in the caller's snapshot.
Expected: TypeAlias = Callable[[date, date], Mapping[date, Figures] | None]
# Stores the differences; an empty list is a clean comparison.
Record: TypeAlias = Callable[[list[Difference]], None]

VIEW: Final = "select day, total_forms, unique_users, submissions, timed, seconds from mv_daily_metrics order by day"


def compare() -> int | None:
    """The number of days that differ, after recording them; None when the counters cannot be compared now."""
    ours = {day: Figures(*figures) for day, *figures in store.query(VIEW)}
    theirs = expected(min(ours), max(ours))
    if theirs is None:
        return None
    found = [
        Difference(day, figures, theirs.get(day, Figures()))
        for day, figures in ours.items()
        if figures != theirs.get(day, Figures())
    ]
    for difference in found:
        log.error("day %s: the view has %s, the counters %s", difference.day, difference.view, difference.counters)
    record(found)
    return len(found)


def _no_counters(_first: date, _last: date) -> None:
    return None


def _no_record(_differences: list[Difference]) -> None:
    return None


expected: Expected = _no_counters
record: Record = _no_record
