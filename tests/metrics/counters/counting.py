"""Runs the subscription in this process, and reads counters beside a fresh GROUP BY."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg

from backoffice import health
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from devtools import processes
from events import commands, errors, store
from events.subscriptions import runner as subscriptions
from events.types import CommandData, RecordedEvent, new_id
from metrics.counters import applying, reconcile
from metrics.counters.subscription import SUBSCRIPTION
from tests import factories


def follow(limit: int | None = None) -> None:
    """Handle everything up to the head; with `limit` that many events and no more."""
    owner = subscriptions.owner_name()
    lease = subscriptions.acquire(SUBSCRIPTION, owner)
    assert lease is not None
    try:
        if limit is not None:
            subscriptions.step(declared(batch=limit), owner, lease)
            return
        while subscriptions.step(SUBSCRIPTION, owner, lease):
            pass
    finally:
        subscriptions.release(SUBSCRIPTION, owner)


def declared(**fields: Any) -> subscriptions.Subscription:
    """The subscription of the counters with other values, such as a smaller batch."""
    return msgspec.structs.replace(SUBSCRIPTION, **fields)


def send(data: CommandData, key: Any) -> None:
    """Dispatch a command; one that its record refuses changes nothing."""
    with contextlib.suppress(errors.Rejected, errors.StreamNotFound, errors.Erased, errors.Conflict):
        commands.dispatch(factories.command(data, key))


def receive(form: uuid.UUID, created_at: datetime | None = None, seconds: float | None = None) -> uuid.UUID:
    key = new_id()
    data = submissions.ReceiveSubmission(form_id=form, answers={}, created_at=created_at, completion_time=seconds)
    send(data, key)
    return key


def import_many(form: object, count: int) -> list[uuid.UUID]:
    """Receive submissions as an import does: many commands in one transaction."""
    keys = [new_id() for _ in range(count)]
    received = [
        factories.command(submissions.ReceiveSubmission(form_id=form, answers={}, completion_time=0.1), key)
        for key in keys
    ]
    commands.dispatch_many(received)
    return keys


def erase(user: uuid.UUID) -> None:
    """Erase a user, and their forms with them."""
    commands.dispatch(factories.command(users.EraseUser(), user, reason="asked for it"))


def demand_identity() -> None:
    """Check that counters plus the events above their checkpoint equal the read tables, to the unit."""
    outcome = reconcile.reconcile()
    assert outcome is not None
    assert (outcome.state, outcome.note, outcome.differences) == ("clean", "", [])


FRESH = """
select u.id, count(distinct f.id), count(s.id), count(s.id) filter (where s.created_at >= state.recent_from),
       max(s.created_at)
  from metrics_counters_state state cross join users u
  left join forms f on f.user_id = u.id and f.deleted_at is null
  left join submissions s on s.form_id = f.id and s.deleted_at is null
 group by u.id order by u.id
"""

COUNTED = "select user_id, form_count, submission_count, recent, last_at from metrics_user_stats order by user_id"

FRESH_DAYS = """
select (created_at at time zone 'UTC')::date, count(*), count(completion_time), sum(completion_time::text::numeric)
  from submissions where deleted_at is null group by 1 order by 1
"""

COUNTED_DAYS = """
select day, submissions, timed, case when timed > 0 then seconds end from metrics_day_stats where submissions > 0
 order by 1
"""


def demand_fresh() -> None:
    """Check that the counters equal a GROUP BY over the current read tables."""
    assert store.query(COUNTED) == store.query(FRESH)
    assert store.query(COUNTED_DAYS) == store.query(FRESH_DAYS)


def user_numbers(key: uuid.UUID) -> tuple[int, int, int]:
    """(forms, submissions, recent ones) of one user."""
    row = store.query("select form_count, submission_count, recent from metrics_user_stats where user_id = %s", (key,))
    return tuple(row[0])


def day_numbers(day: datetime) -> tuple[Any, ...]:
    """(forms created, owners, submissions, timed, seconds) of one day."""
    columns = "forms_created, unique_users, submissions, timed, seconds"
    return tuple(store.query(f"select {columns} from metrics_day_stats where day = %s", (day.date(),))[0])


def now() -> datetime:
    return datetime.now(UTC)


def ago(**fields: float) -> datetime:
    return now() - timedelta(**fields)


def eventually(holds: Callable[[], object], seconds: float = 60) -> bool:
    """Wait for another thread or process; True as soon as `holds()` does, False after `seconds`."""
    return processes.wait_until(holds, seconds)


def park(key: uuid.UUID) -> None:
    """Have the subscription fail on this submission, so that its stream is parked."""

    def handle(events: Sequence[RecordedEvent]) -> None:
        if any(event.key == str(key) for event in events):
            raise ValueError("cannot be handled")
        applying.handle(events)

    owner = subscriptions.owner_name()
    failing = declared(handle=handle)
    lease = subscriptions.acquire(failing, owner)
    assert lease is not None
    while subscriptions.step(failing, owner, lease):
        pass
    subscriptions.release(failing, owner)


@contextlib.contextmanager
def lock_in_another_session(statement: str) -> Iterator[None]:
    """Hold a session lock in another session until the block ends; `statement` takes it."""
    with psycopg.connect(**health.parameters(), autocommit=True) as other:
        other.execute(statement)
        yield
        other.execute("select pg_advisory_unlock_all()")


UNREADABLE = """
update events_event set data = '{"created_at": []}' where stream = %s and version = 1
"""


def make_unreadable(key: uuid.UUID, category: str = "submission") -> None:
    """Damage the first event of a record, as a superuser could; its row in the read table stays."""
    with psycopg.connect(**health.parameters(), autocommit=True) as other:
        other.execute("alter table events_event disable trigger user")
        other.execute(UNREADABLE, (f"{category}-{key}",))


def checkpoint() -> int:
    """The position of the subscription."""
    found: int = store.query("select position from events_checkpoint where name = 'counters'")[0][0]
    return found
