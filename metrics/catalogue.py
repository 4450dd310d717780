"""The queries of this product: what `queries.ask` can answer."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from events import head, store
from events.subscriptions import status
from metrics import queries
from metrics.queries import Query, define

# The lifetimes of the specification: user figures, form figures and the state of the system, in seconds.
USER_SECONDS, FORM_SECONDS, HEALTH_SECONDS = 300.0, 60.0, 30.0


# -- totals -----------------------------------------------------------------------------------------------------------


class TotalCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of records that are not deleted."""

    users: int
    forms: int
    submissions: int


TOTALS = """
select (select count(*) from users where deleted_at is null), (select count(*) from forms where deleted_at is null),
       (select count(*) from submissions where deleted_at is null)
"""


@define
class Totals(Query[TotalCounts], frozen=True, kw_only=True):
    """Numbers of users, forms and submissions, at most 30 s old."""

    name: ClassVar[str] = "totals"
    result: ClassVar[Any] = TotalCounts
    right: ClassVar[tuple[str, str]] = ("view", "submission")
    tags: ClassVar[tuple[str, ...]] = ("user", "form", "submission")
    within: ClassVar[float | None] = 30.0
    shared: ClassVar[bool] = True

    def load(self) -> TotalCounts:
        ((users, forms, submissions),) = store.query(TOTALS)
        return TotalCounts(users=users, forms=forms, submissions=submissions)


# -- users ------------------------------------------------------------------------------------------------------------


class PlanCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Users by plan; deleted ones are left out."""

    free: int = 0
    premium: int = 0
    enterprise: int = 0


PLANS = "select plan, count(*) from users where deleted_at is null group by plan"


@define
class UsersByPlan(Query[PlanCounts], frozen=True, kw_only=True):
    """Numbers of users by plan; exact."""

    name: ClassVar[str] = "metrics:users"
    result: ClassVar[Any] = PlanCounts
    right: ClassVar[tuple[str, str]] = ("view", "user")
    tags: ClassVar[tuple[str, ...]] = ("user",)
    seconds: ClassVar[float] = USER_SECONDS
    shared: ClassVar[bool] = True

    def load(self) -> PlanCounts:
        return msgspec.convert(dict(store.query(PLANS)), PlanCounts)


class UserCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one user: forms and submissions to them that are not deleted; `recent`: of the last 30 days."""

    id: UUID
    forms: int
    submissions: int
    recent: int


COUNTS = """
select u.id, count(distinct f.id), count(s.id), count(s.id) filter (where s.created_at >= now() - interval '30 days')
  from unnest(%s::uuid[]) u(id)
  left join forms f on f.user_id = u.id and f.deleted_at is null
  left join submissions s on s.form_id = f.id and s.deleted_at is null
 group by u.id
"""


@define
class UserStats(Query[list[UserCounts]], frozen=True, kw_only=True):
    """The counts of some users, as for a page of the list. Not cached: they are read by their keys."""

    ids: tuple[UUID, ...]

    name: ClassVar[str] = "user-stats"
    result: ClassVar[Any] = list[UserCounts]
    right: ClassVar[tuple[str, str]] = ("view", "user")
    seconds: ClassVar[float] = 0.0

    def load(self) -> list[UserCounts]:
        found = {row[0]: row for row in store.query(COUNTS, (list(self.ids),))}
        rows = (found[key] for key in self.ids if key in found)
        return [UserCounts(id=key, forms=forms, submissions=many, recent=recent) for key, forms, many, recent in rows]


class FormCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A user's forms by state, and the submissions to those that are not deleted."""

    live: int
    archived: int
    deleted: int
    submissions: int


FORMS = """
select count(*) filter (where deleted_at is null and not archived),
       count(*) filter (where deleted_at is null and archived), count(*) filter (where deleted_at is not null),
       (select count(*) from forms f join submissions s on s.form_id = f.id
         where f.user_id = %(user)s and f.deleted_at is null and s.deleted_at is null)
  from forms where user_id = %(user)s
"""


@define
class UserForms(Query[FormCounts], frozen=True, kw_only=True):
    """Numbers of a user's forms and submissions, at most a second old."""

    user: UUID

    name: ClassVar[str] = "user-forms"
    result: ClassVar[Any] = FormCounts
    right: ClassVar[tuple[str, str]] = ("view", "form")
    tags: ClassVar[tuple[str, ...]] = ("form", "submission")
    within: ClassVar[float | None] = 1.0
    seconds: ClassVar[float] = USER_SECONDS
    shared: ClassVar[bool] = True

    def own_tags(self) -> tuple[str, ...]:
        return (f"user-{self.user}",)

    def load(self) -> FormCounts:
        ((live, archived, deleted, submissions),) = store.query(FORMS, {"user": self.user})
        return FormCounts(live=live, archived=archived, deleted=deleted, submissions=submissions)


# -- forms ------------------------------------------------------------------------------------------------------------


class FormDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day (UTC). The average is in seconds; None where no submission has a time."""

    date: date
    forms_created: int
    unique_users: int
    submissions: int
    avg_completion_time: float | None


DAYS = """
with days as (select d::date as day, d at time zone 'UTC' as begins, (d + interval '1 day') at time zone 'UTC' as ends
                from generate_series(%(first)s::date::timestamp, %(last)s::date::timestamp, interval '1 day') d)
select day, f.created, f.owners, s.received, s.seconds
  from days
  cross join lateral (select count(*) as created, count(distinct user_id) as owners from forms
                       where created_at >= begins and created_at < ends) f
  cross join lateral (select count(*) as received, avg(completion_time) as seconds from submissions
                       where created_at >= begins and created_at < ends and deleted_at is null) s
 order by day
"""


@define
class FormStats(Query[list[FormDay]], frozen=True, kw_only=True):
    """Forms and submissions of every day from `first` to `last`, at most a second old."""

    first: date
    last: date

    name: ClassVar[str] = "form-stats"
    result: ClassVar[Any] = list[FormDay]
    right: ClassVar[tuple[str, str]] = ("view", "form")
    tags: ClassVar[tuple[str, ...]] = ("form", "submission")
    within: ClassVar[float | None] = 1.0
    seconds: ClassVar[float] = FORM_SECONDS
    shared: ClassVar[bool] = True

    def until(self, now: datetime) -> datetime | None:
        return queries.next_midnight(now)

    def load(self) -> list[FormDay]:
        return [
            FormDay(
                date=day, forms_created=created, unique_users=owners, submissions=received, avg_completion_time=seconds
            )
            for day, created, owners, received, seconds in store.query(DAYS, {"first": self.first, "last": self.last})
        ]


# -- the system -------------------------------------------------------------------------------------------------------


class SystemState(msgspec.Struct, frozen=True, kw_only=True):
    """Subscriptions that run and that do not, the furthest behind in events, parked streams, and the head."""

    running: int
    not_running: int
    behind: int
    parked: int
    head: int


@define
class SystemHealth(Query[SystemState], frozen=True, kw_only=True):
    """The state of the subscriptions, at most five seconds old."""

    name: ClassVar[str] = "system-health"
    result: ClassVar[Any] = SystemState
    right: ClassVar[tuple[str, str]] = ("view", "system")
    within: ClassVar[float | None] = 5.0
    seconds: ClassVar[float] = HEALTH_SECONDS

    def load(self) -> SystemState:
        found = status.statuses()
        running = sum(1 for one in found if one.state == "running")
        return SystemState(
            running=running,
            not_running=len(found) - running,
            behind=max((one.behind for one in found), default=0),
            parked=sum(one.status.parked for one in found),
            head=head.safe(),
        )
