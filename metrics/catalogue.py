"""The queries of this product, which `queries.ask` answers."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

import msgspec

from backoffice import access
from events import head, store
from events.subscriptions import status
from metrics import queries
from metrics.counters import applying, read
from metrics.materialized import read as materialized
from metrics.materialized import views
from metrics.queries import Answer, Query, define
from metrics.ranges import Days

# The lifetimes of the specification: user figures, form figures and the state of the system, in seconds.
USER_SECONDS, FORM_SECONDS, HEALTH_SECONDS = 300.0, 60.0, 30.0


# -- totals -----------------------------------------------------------------------------------------------------------


@define
class Totals(Query[read.Totals], frozen=True, kw_only=True):
    """Numbers of users, forms and submissions, at most 30 s old."""

    name: ClassVar[str] = "totals"
    result: ClassVar[Any] = read.Totals
    right: ClassVar[tuple[str, str]] = ("view", "submission")
    tags: ClassVar[tuple[str, ...]] = ("user", "form", "submission")
    within: ClassVar[float | None] = 30.0
    shared: ClassVar[bool] = True

    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def load(self) -> read.Totals:
        return read.totals()


@define
class Uncounted(Query[int], frozen=True, kw_only=True):
    """The number of parked streams, whose events are not in the counters. Not cached: it is one small read."""

    name: ClassVar[str] = "uncounted"
    result: ClassVar[Any] = int
    right: ClassVar[tuple[str, str]] = ("view", "form")
    seconds: ClassVar[float] = 0.0
    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def load(self) -> int:
        return read.as_of().not_counted


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


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Users of one plan and one month of sign-up; `metrics.materialized.read.Segment` explains the numbers."""

    plan: Literal["free", "premium", "enterprise"]
    signup_month: date
    users: int
    active_30d: int
    with_forms: int
    with_submissions: int
    forms: int
    submissions: int


class Analytics(msgspec.Struct, frozen=True, kw_only=True):
    """All segments, and the position and time that their refresh describes."""

    items: list[Segment]
    position: int
    at: datetime


@define
class UserAnalytics(Query[Analytics], frozen=True, kw_only=True):
    """Users by plan and month of sign-up.

    The number of the refresh is part of the key, so a value never changes.
    """

    number: int

    name: ClassVar[str] = "user-analytics"
    result: ClassVar[Any] = Analytics
    right: ClassVar[tuple[str, str]] = ("view", "user")
    within: ClassVar[float | None] = USER_SECONDS
    seconds: ClassVar[float] = USER_SECONDS
    shared: ClassVar[bool] = True

    def load(self) -> Analytics:
        found = materialized.analytics()
        items = [msgspec.convert(msgspec.structs.asdict(row), Segment) for row in found.items]
        return Analytics(items=items, position=found.as_of.position, at=found.as_of.at)


def user_analytics(staff: Any) -> Analytics:
    """Users by plan and month of sign-up. Raises `NotComputed` before the first refresh."""
    return queries.ask(UserAnalytics(number=materialized.number(views.ANALYTICS)), staff).value


class UserFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one user, None before the first. `recent_submissions`: since the full hour 30 days ago."""

    id: UUID
    form_count: int | None
    submission_count: int | None
    recent_submissions: int | None


@define
class UserStats(Query[list[UserFigures]], frozen=True, kw_only=True):
    """The counts of some users, as for a page of the list. Not cached: they are read by their keys."""

    ids: tuple[UUID, ...]

    name: ClassVar[str] = "user-stats"
    result: ClassVar[Any] = list[UserFigures]
    right: ClassVar[tuple[str, str]] = ("view", "user")
    seconds: ClassVar[float] = 0.0

    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def load(self) -> list[UserFigures]:
        return [
            UserFigures(
                id=key,
                form_count=one.form_count,
                submission_count=one.submission_count,
                recent_submissions=one.recent_submissions,
            )
            for key, one in read.users(self.ids).items()
        ]


class FormCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A user's forms by state, and the submissions to those that are not deleted; None before the first count."""

    live: int
    archived: int
    deleted: int
    submissions: int | None


FORMS = """
select count(*) filter (where deleted_at is null and not archived),
       count(*) filter (where deleted_at is null and archived), count(*) filter (where deleted_at is not null)
  from forms where user_id = %s
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

    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def own_tags(self) -> tuple[str, ...]:
        return (f"user-{self.user}",)

    def load(self) -> FormCounts:
        ((live, archived, deleted),) = store.query(FORMS, (self.user,))
        submissions = read.users([self.user])[self.user].submission_count
        return FormCounts(live=live, archived=archived, deleted=deleted, submissions=submissions)


# -- forms ------------------------------------------------------------------------------------------------------------


class FormDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day (UTC). The average is in seconds, over the `timed` submissions that have a time; None where none has."""

    date: date
    users_created: int
    forms_created: int
    unique_users: int
    submissions: int
    timed: int
    avg_completion_time: float | None


@define
class FormStats(Query[list[FormDay]], frozen=True, kw_only=True):
    """Users, forms and submissions of every day from `first` to `last`, at most a second old."""

    first: date
    last: date

    name: ClassVar[str] = "form-stats"
    result: ClassVar[Any] = list[FormDay]
    right: ClassVar[tuple[str, str]] = ("view", "form")
    tags: ClassVar[tuple[str, ...]] = ("user", "form", "submission")
    within: ClassVar[float | None] = 1.0
    seconds: ClassVar[float] = FORM_SECONDS
    shared: ClassVar[bool] = True

    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def until(self, now: datetime) -> datetime | None:
        return queries.next_midnight(now)

    def load(self) -> list[FormDay]:
        return [
            FormDay(
                date=day.date,
                users_created=day.users_created,
                forms_created=day.forms_created,
                unique_users=day.unique_users,
                submissions=day.submissions,
                timed=day.timed,
                avg_completion_time=day.avg_completion_time,
            )
            for day in read.days(self.first, self.last)
        ]


def sees_timing(staff: Any) -> bool:
    """True for roles that may see how long a single submission took: those that see its answers."""
    hidden = access.hidden_fields(staff, "submission")
    return access.sees("submission", staff) and hidden.isdisjoint(("answers", "completion_time"))


# An average of fewer submissions, or two averages of a day that goes on, would reveal the time of a single one.
FEWEST_TIMED = 5


def form_days(days: Days, staff: Any, *, min_position: int = 0, consistent: bool = False) -> Answer[list[FormDay]]:
    """The days of `FormStats` as this person may see them.

    Roles that do not see how long a single submission took get averages of past days only, of at least
    `FEWEST_TIMED` submissions.
    """
    query = FormStats(first=days.first, last=days.last)
    answer = queries.ask(query, staff, min_position=min_position, consistent=consistent)
    if sees_timing(staff):
        return answer
    today = datetime.now(UTC).date()
    rows = [
        msgspec.structs.replace(row, avg_completion_time=None) if row.timed < FEWEST_TIMED or row.date >= today else row
        for row in answer.value
    ]
    return Answer(rows, msgspec.json.encode(rows), answer.position, answer.at)


# -- the system -------------------------------------------------------------------------------------------------------


class SystemState(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of running and other subscriptions and of parked streams, the longest backlog in events, and the head."""

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
            parked=sum(one.checkpoint.parked for one in found),
            head=head.safe(),
        )
