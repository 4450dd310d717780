"""Compares the daily view with the daily counters, in the snapshot of a refresh: a second opinion on both.

The view is computed from the read tables, the counters are folded from events. In one snapshot, the counters plus the
fold of the events that are visible above their checkpoint must equal the view, day by day and to the unit. A difference
is stored and logged like those of `reconcile_counters`, and never repaired silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

import msgspec
from django.db import transaction

from events import store
from metrics.counters import applying, reconcile, truth
from metrics.counters.reconcile import Difference, Outcome, Slice


class Figures(msgspec.Struct, frozen=True):
    """The numbers of a day that both sides have. `seconds` is the sum of completion times of `timed` submissions."""

    forms_created: int = 0
    unique_users: int = 0
    submissions: int = 0
    timed: int = 0
    seconds: Decimal = Decimal(0)


VIEW: Final = "select day, total_forms, unique_users, submissions, timed, seconds from mv_daily_metrics order by day"

COUNTED: Final = """
select day, forms_created, unique_users, submissions, timed, seconds from metrics_day_stats
 where day between %s and %s
"""


def compare() -> int | None:
    """The number of days that differ, after storing them; None when the counters cannot be compared now.

    Runs in the transaction of the refresh, which has one snapshot.
    """
    began = applying.clock()
    ours = {day: Figures(*figures) for day, *figures in store.query(VIEW)}
    found = _counted(min(ours), max(ours))
    if found is None:
        return None
    position, uncounted, theirs = found
    different = {day for day, figures in ours.items() if figures != theirs.get(day, Figures())}
    if different:
        differences = [one for day in sorted(different) for one in _differences(day, ours[day], theirs)]
        reconcile._store(
            Outcome(
                at=began,
                position=position,
                everything=True,  # it is no slice: those go on where they are
                state="different",
                seconds=(applying.clock() - began).total_seconds(),
                note="mv_daily_metrics",
                checked=len(ours),
                uncounted=uncounted,
                differences=differences,
            )
        )
    return len(different)


def _differences(day: date, ours: Figures, theirs: Mapping[date, Figures]) -> Iterator[Difference]:
    counted = theirs.get(day, Figures())
    for name in Figures.__struct_fields__:
        mine, other = getattr(ours, name), getattr(counted, name)
        if mine != other:
            yield Difference(f"day:{day}", name, str(other), str(mine))


def _counted(first: date, last: date) -> tuple[int, int, dict[date, Figures]] | None:
    """Checkpoint, parked streams and the days' figures with every visible event; None when they are not available.

    The handler of the counters itself runs on copies of its tables, which end with the savepoint.
    """
    no_user = Slice(truth.LAST, truth.FIRST, (first, last + timedelta(days=1)))
    with transaction.atomic():
        try:
            position, uncounted = reconcile.bring_up_to_date(no_user)
            rows = store.query(COUNTED, (first, last))
        except reconcile.Incomplete:
            return None
        finally:
            transaction.set_rollback(True)
    return position, uncounted, {day: Figures(*figures) for day, *figures in rows}
