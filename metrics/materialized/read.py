"""Reads the materialized views, with the position and instant that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import psycopg

from events import errors, store
from metrics.materialized import views
from metrics.materialized.views import View


class NotComputed(errors.EventsError):
    """These figures are not computed yet. Try again in five minutes."""

    code = "not_computed"
    status = 503


class AsOf(msgspec.Struct, frozen=True):
    """Every event up to `position` is in the figures, which were read at `at`; `number` names the refresh."""

    position: int
    at: datetime
    number: int


class Day(msgspec.Struct, frozen=True):
    """The figures of one UTC day.

    total_forms    created on this day, also those that were deleted since; `unique_users`: their owners
    premium_forms  those whose owner has the plan premium now
    submissions    received on this day and not deleted; `timed`: those with a completion time, `seconds` in total
    """

    day: date
    total_forms: int
    unique_users: int
    premium_forms: int
    submissions: int
    timed: int
    seconds: Decimal

    @property
    def avg_completion_time(self) -> float | None:
        """The average in seconds; None, which is not 0, when no submission of the day has a time."""
        return float(self.seconds / self.timed) if self.timed else None


class Segment(msgspec.Struct, frozen=True):
    """Users who are not deleted, of one plan and one month of sign-up.

    signup_month  its first day
    active_30d    those with a last login on one of the last 30 UTC days or today
    submissions   to forms that are not deleted
    """

    plan: str
    signup_month: date
    users: int
    active_30d: int
    with_forms: int
    with_submissions: int
    forms: int
    submissions: int


class Daily(msgspec.Struct, frozen=True):
    """One row for each of the last 90 UTC days, ascending."""

    items: list[Day]
    as_of: AsOf


class Analytics(msgspec.Struct, frozen=True):
    """One row for each plan and month of sign-up that has users, by month."""

    items: list[Segment]
    as_of: AsOf


# One statement, so that rows and position belong to the same refresh. The outer join keeps the position without rows.
READ: Final = """
select f.position, f.refreshed_at, f.number, {columns}
  from metrics_view f left join {view} v on true
 where f.name = '{view}' and f.refreshed_at is not null
 order by {order}
"""


def _statement(view: View, row: type[msgspec.Struct], order: str) -> str:
    columns = ", ".join(f"v.{name}" for name in row.__struct_fields__)
    return READ.format(columns=columns, view=view.name, order=order)


DAILY: Final = _statement(views.DAILY, Day, "v.day")
ANALYTICS: Final = _statement(views.ANALYTICS, Segment, "v.signup_month, v.plan")


def daily() -> Daily:
    """The last 90 days. Raises `NotComputed` before the first refresh."""
    as_of, rows = _read(DAILY)
    return Daily([Day(*row) for row in rows], as_of)


def analytics() -> Analytics:
    """Users by plan and month of sign-up. Raises `NotComputed` before the first refresh."""
    as_of, rows = _read(ANALYTICS)
    return Analytics([Segment(*row) for row in rows], as_of)


NUMBER: Final = "select number from metrics_view where name = %s and refreshed_at is not null"


def number(view: View) -> int:
    """The number of the last refresh. Raises `NotComputed` before the first one."""
    found = store.query(NUMBER, (view.name,))
    if not found:
        raise NotComputed
    refresh: int = found[0][0]
    return refresh


def _read(statement: str) -> tuple[AsOf, list[Sequence[Any]]]:
    try:
        rows = store.query(statement)
    except psycopg.errors.ObjectNotInPrerequisiteState as error:  # the view has no data
        raise NotComputed from error
    if not rows:
        raise NotComputed
    return AsOf(*rows[0][:3]), [row[3:] for row in rows if row[3] is not None]
