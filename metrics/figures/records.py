"""The figures of one user and of one form: counts, and submissions of each of the last 90 days."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from metrics import queries
from metrics.catalogue import FORM_SECONDS, USER_SECONDS
from metrics.counters import applying, read
from metrics.queries import Query, define


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Living forms (of a user), living submissions, those of the last 30 days, and the latest time.

    None: not counted yet.
    """

    form_count: int | None = None
    submission_count: int | None
    recent_submissions: int | None
    last_submission_at: datetime | None


class DayCount(msgspec.Struct, frozen=True, kw_only=True):
    """The living submissions of one day (UTC)."""

    date: date
    submissions: int


@define
class UserCounts(Query[Counts], frozen=True, kw_only=True):
    """The counts of one user. Not cached: they are read by key."""

    user: UUID

    name: ClassVar[str] = "user-record"
    result: ClassVar[Any] = Counts
    right: ClassVar[tuple[str, str]] = ("view", "user")
    seconds: ClassVar[float] = 0.0
    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def load(self) -> Counts:
        return msgspec.convert(msgspec.structs.asdict(read.users([self.user])[self.user]), Counts)


@define
class FormCounts(Query[Counts], frozen=True, kw_only=True):
    """The counts of one form. Not cached: they are read by key."""

    form: UUID

    name: ClassVar[str] = "form-record"
    result: ClassVar[Any] = Counts
    right: ClassVar[tuple[str, str]] = ("view", "form")
    seconds: ClassVar[float] = 0.0
    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def load(self) -> Counts:
        found = read.forms([self.form])[self.form]
        return Counts(
            submission_count=found.submission_count,
            recent_submissions=None if found.submission_count is None else read.form_recent(self.form),
            last_submission_at=found.last_submission_at,
        )


class RecordDays(Query[list[DayCount]], frozen=True, kw_only=True):
    """Submissions of each of the last 90 days, today included; at most a second old."""

    result: ClassVar[Any] = list[DayCount]
    tags: ClassVar[tuple[str, ...]] = ("form", "submission")
    within: ClassVar[float | None] = 1.0
    shared: ClassVar[bool] = True
    fed_by: ClassVar[tuple[str, ...]] = (applying.NAME,)

    def until(self, now: datetime) -> datetime | None:
        return queries.next_midnight(now)


@define
class UserDays(RecordDays, frozen=True, kw_only=True):
    """Submissions to the living forms of a user by day."""

    user: UUID

    name: ClassVar[str] = "user-days"
    right: ClassVar[tuple[str, str]] = ("view", "user")
    seconds: ClassVar[float] = USER_SECONDS

    def load(self) -> list[DayCount]:
        return [DayCount(date=day, submissions=count) for day, count in read.user_days(self.user)]


@define
class FormDays(RecordDays, frozen=True, kw_only=True):
    """Submissions to a form by day."""

    form: UUID

    name: ClassVar[str] = "form-days"
    right: ClassVar[tuple[str, str]] = ("view", "form")
    seconds: ClassVar[float] = FORM_SECONDS

    def load(self) -> list[DayCount]:
        return [DayCount(date=day, submissions=count) for day, count in read.form_days(self.form)]
