"""Reads counters: of users, forms and days, totals, and 90 days of one record.

Every number is as of the checkpoint (`as_of`). Days and hours are UTC. A user's `submission_count` leaves out deleted
forms; the figures of a day keep their submissions. Recent: since the full hour 30 days ago (`Window.recent_from`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Final

import msgspec

from events import store
from events.db import arrays
from metrics.counters.applying import NAME


class AsOf(msgspec.Struct, frozen=True):
    """The position that all counters include, and when they reached it; parked streams are not counted."""

    position: int
    at: datetime | None
    not_counted: int = 0


class UserCounts(msgspec.Struct, frozen=True):
    """Living forms, their living submissions, those of the last 30 days, and the time of the last one.

    Counts are None until the user is counted for the first time.
    """

    form_count: int | None = None
    submission_count: int | None = None
    recent_submissions: int | None = None
    last_submission_at: datetime | None = None


class FormCounts(msgspec.Struct, frozen=True):
    """Living submissions of a form, which may be deleted itself, and the time of the last one.

    The count is None until the form is counted for the first time.
    """

    submission_count: int | None = None
    last_submission_at: datetime | None = None


class Day(msgspec.Struct, frozen=True):
    """The figures of one day. `seconds` is the sum over the `timed` submissions that have a completion time."""

    date: date
    users_created: int
    forms_created: int
    unique_users: int
    submissions: int
    timed: int
    seconds: Decimal

    @property
    def avg_completion_time(self) -> float | None:
        """The average in seconds; None where no submission has a time."""
        return float(self.seconds / self.timed) if self.timed else None


class Totals(msgspec.Struct, frozen=True):
    """Users who are not deleted, living forms, and their living submissions."""

    user_count: int = 0
    form_count: int = 0
    submission_count: int = 0


class Window(msgspec.Struct, frozen=True):
    """`recent_from`: the hour since which submissions are recent. `kept_from`: the first day with hours."""

    recent_from: datetime
    kept_from: datetime


AS_OF: Final = """
select c.position, c.updated_at, (select count(distinct stream) from events_parked where subscription = c.name)
  from events_checkpoint c where c.name = %s
"""


def as_of() -> AsOf:
    """The position that the counters include; 0 before the subscription has run.

    Read it before the numbers, so that they can only be newer.
    """
    found = store.query(AS_OF, (NAME,))
    return AsOf(*found[0]) if found else AsOf(0, None)


WINDOW: Final = "select recent_from, kept_from from metrics_counters_state"


def window() -> Window | None:
    """The bounds of the moving windows; None before the first event."""
    found = store.query(WINDOW)
    return Window(*found[0]) if found else None


# -- records ----------------------------------------------------------------------------------------------------------

USERS: Final = """
select user_id, form_count, submission_count, recent, last_at from metrics_user_stats where user_id = any(%s)
"""


def users(keys: Iterable[uuid.UUID]) -> dict[uuid.UUID, UserCounts]:
    """The counts of every user asked for; None for one that is not counted yet."""
    listed = list(keys)
    found = {row[0]: UserCounts(*row[1:]) for row in store.query(USERS, (arrays.Uuids(listed),))}
    return {key: found.get(key, UserCounts()) for key in listed}


FORMS: Final = "select form_id, submissions, last_at from metrics_form_stats where form_id = any(%s)"


def forms(keys: Iterable[uuid.UUID]) -> dict[uuid.UUID, FormCounts]:
    """The counts of every form asked for; None for one that is not counted yet."""
    listed = list(keys)
    found = {row[0]: FormCounts(*row[1:]) for row in store.query(FORMS, (arrays.Uuids(listed),))}
    return {key: found.get(key, FormCounts()) for key in listed}


FORM_RECENT: Final = """
select coalesce(sum(h.n), 0)::bigint from metrics_form_hours h, metrics_counters_state s
 where h.form_id = %s and h.hour >= s.recent_from
"""


def form_recent(form: uuid.UUID) -> int:
    """The number of living submissions of a form since `Window.recent_from`."""
    count: int = store.query(FORM_RECENT, (form,))[0][0]
    return count


TOTALS: Final = "select user_count, form_count, submission_count from metrics_counters_state"


def totals() -> Totals:
    found = store.query(TOTALS)
    return Totals(*found[0]) if found else Totals()


# -- days -------------------------------------------------------------------------------------------------------------

DAYS: Final = """
select d::date, coalesce(s.users_created, 0), coalesce(s.forms_created, 0), coalesce(s.unique_users, 0),
       coalesce(s.submissions, 0), coalesce(s.timed, 0), coalesce(s.seconds, 0)
  from generate_series(%s::date::timestamp, %s::date::timestamp, interval '1 day') d
  left join metrics_day_stats s on s.day = d::date order by 1
"""


def days(first: date, last: date) -> list[Day]:
    """One row for every day from `first` to `last`."""
    return [Day(*row) for row in store.query(DAYS, (first, last))]


OWNERS: Final = "select count(distinct user_id) from metrics_day_owners where day >= %s and day <= %s"


def unique_owners(first: date, last: date) -> int:
    """The number of users who created a form within the days; the numbers of single days do not add up."""
    count: int = store.query(OWNERS, (first, last))[0][0]
    return count


# -- one record, by day -----------------------------------------------------------------------------------------------

# Hours are kept for 90 days, so that charts of one record need neither a table per day nor the submissions themselves.
FORM_DAYS: Final = """
select d::date, coalesce(h.n, 0)::bigint
  from generate_series(date_trunc('day', now() at time zone 'UTC') - interval '89 days', now() at time zone 'UTC',
                       interval '1 day') d
  left join (select (hour at time zone 'UTC')::date as day, sum(n) as n from metrics_form_hours where form_id = %s
              group by 1) h on h.day = d::date
 order by 1
"""

# `offset 0`: a user of very many forms would make PostgreSQL read the hours of everybody.
USER_DAYS: Final = """
select d::date, coalesce(h.n, 0)::bigint
  from generate_series(date_trunc('day', now() at time zone 'UTC') - interval '89 days', now() at time zone 'UTC',
                       interval '1 day') d
  left join (select (hour at time zone 'UTC')::date as day, sum(n) as n
               from (select h.hour, sum(h.n) as n
                       from metrics_form_stats s
                      cross join lateral (select f.hour, f.n from metrics_form_hours f
                                           where f.form_id = s.form_id offset 0) h
                      where s.user_id = %s and s.alive group by h.hour) h
              group by 1) h on h.day = d::date
 order by 1
"""


def form_days(form: uuid.UUID) -> list[tuple[date, int]]:
    """Living submissions of a form for each of the last 90 days, today included."""
    return [(row[0], row[1]) for row in store.query(FORM_DAYS, (form,))]


def user_days(user: uuid.UUID) -> list[tuple[date, int]]:
    """Living submissions of a user's living forms for each of the last 90 days, today included."""
    return [(row[0], row[1]) for row in store.query(USER_DAYS, (user,))]
