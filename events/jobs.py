"""Long jobs that a person requests and a worker runs: rebuilding a read table, verifying the log.

Each request is an event in a stream of its own (`rebuild-<table>`, `verification-log`), with its actor and time. The
task carries the version of its request, and does nothing once the stream has a later event or the job is done. So a
task that is delivered twice, a cancelled request and a repeated request need no further care.

A worker that is stopped puts its tasks back into the queue (`backoffice.celery`). One that is killed cannot, and the
message stays hidden for hours; `resume` sends the tasks of such jobs again, every minute.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import kombu.exceptions
import msgspec
import redis
from celery import current_app
from django.conf import settings
from django.db import transaction

from events import errors, store, types, valkey
from events.db import driver_errors
from events.integrity import verify
from events.rebuild import builder as rebuild
from events.rebuild import cancellation, read_tables
from events.rebuild.read_tables import RebuildProgress
from events.types import Event, RecordedEvent, event_type

VERIFICATION: Final = types.stream_name("verification", "log")
MAX_FINDINGS: Final = 20  # kept in the event; `manage.py verify_events` prints all

# Its name, and its arguments as in JSON.
Task: TypeAlias = tuple[str, list[Any]]


@event_type("rebuild.requested")
class RebuildRequested(Event, frozen=True):
    """A rebuild of a read table was requested; see `rebuild.rebuild` for the two options."""

    table: str
    fresh: bool = False
    take_over: bool = False


@event_type("rebuild.cancelled")
class RebuildCancelled(Event, frozen=True):
    """A rebuild was cancelled; its progress is kept and can be resumed."""

    table: str


@event_type("verification.requested")
class VerificationRequested(Event, frozen=True):
    """A verification of every event against its chain and its seal was requested."""


@event_type("verification.finished")
class VerificationFinished(Event, frozen=True):
    """The result: `total` findings, of which `findings` are the first; positions as in `report.VerificationReport`."""

    ok: bool
    events: int
    seals: int
    head: int
    sealed_upto: int
    unsealed: int
    total: int
    findings: list[str]
    seconds: float
    unreadable: int = 0


@event_type("verification.failed")
class VerificationFailed(Event, frozen=True):
    """The verification ended without a result; `error` is the kind of the error, the log of the worker has the rest."""

    error: str


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The latest request or cancellation of a job, and whether it still waits for a worker."""

    event: RecordedEvent
    waits: bool


class QueueUnavailable(errors.EventsError):
    """The task queue does not respond; nothing was started. Try again when it is back."""

    code = "queue_away"
    status = 503


# -- rebuilding -------------------------------------------------------------------------------------------------------


def stream_of(table: str) -> str:
    return types.stream_name("rebuild", table)


# Only the owner of a table may replace it; the application may run as another role (`events.db.grants`).
OWNED = """
select bool_and(coalesce(pg_has_role(c.relowner, 'usage'), false))
  from unnest(%s::text[]) as wanted(name) left join pg_class c on c.oid = to_regclass(quote_ident(wanted.name))
"""


def may_rebuild(table: str) -> bool:
    """True when this application's role, which is also its workers' role, owns the table."""
    return bool(store.query(OWNED, (list(read_tables.stored_in(read_tables.find(table))),))[0][0])


def request_rebuild(table: str, *, fresh: bool = False, take_over: bool = False) -> RecordedEvent:
    """Request a rebuild of a read table by a worker.

    Raises `RebuildRefused` for an unknown table, for one the application does not own, and while a builder runs (unless
    `take_over`); `QueueUnavailable`.
    """
    progress = progress_of(table)
    if progress.running and not take_over:
        raise errors.RebuildRefused(f"{table} is being rebuilt by {progress.owner}.")
    if not may_rebuild(table):
        raise errors.RebuildRefused(
            f"This application does not own {table}: its owner runs rebuild_projection {table}."
        )
    request = RebuildRequested(table=table, fresh=fresh, take_over=take_over)
    return _request(stream_of(table), request, "events.tasks.rebuild", table)


def progress_of(table: str) -> RebuildProgress:
    """The latest rebuild of a table. Raises `RebuildRefused` for an unknown table."""
    found = next((one for one in read_tables.progress() if one.name == table), None)
    if found is None:
        raise errors.RebuildRefused(f"No read table is called {table!r}.")
    return found


def cancel_rebuild(table: str) -> None:
    """Cancel a waiting request, or stop the builder. Raises `RebuildRefused` when there is nothing to cancel."""
    progress_of(table)
    waits = (last := last_rebuild(table)) is not None and last.waits
    if not cancellation.cancel(table) and not waits:
        raise errors.RebuildRefused(f"No rebuild of {table} can be stopped now.")
    store.append(stream_of(table), [RebuildCancelled(table=table)])


def last_rebuild(table: str) -> JobRequest | None:
    """The latest request for a table, None when there was none."""
    event = _last(stream_of(table))
    if event is None:
        return None
    begun = next((one.resumed_at for one in read_tables.progress() if one.name == table), None)
    waits = event.type == "rebuild.requested" and (begun is None or begun < event.recorded_at)
    return JobRequest(event=event, waits=waits)


def do_rebuild(table: str, version: int) -> RebuildProgress | None:
    """Run the request of that version, unless the stream has a later event or the rebuild is done; for the task."""
    event = _last(stream_of(table))
    if event is None or event.version != version or not isinstance(event.event, RebuildRequested):
        return None
    if _is_done(progress_of(table), event):
        return None
    request = event.event
    return rebuild.rebuild(table, fresh=request.fresh and _not_begun(table, event), take_over=request.take_over)


def _is_done(progress: RebuildProgress, request: RecordedEvent) -> bool:
    """True when a rebuild of this table was completed after the request."""
    return progress.phase == "done" and bool(progress.finished_at and progress.finished_at > request.recorded_at)


def is_unfinished(progress: RebuildProgress, latest: RecordedEvent) -> bool:
    """True when the latest event of a table's stream is a request that no builder works on.

    It waits, or its worker was killed. False for a rebuild that failed, because a person has to look at the error.
    """
    if latest.type != "rebuild.requested" or progress.running or _is_done(progress, latest):
        return False
    begun = progress.resumed_at is not None and progress.resumed_at >= latest.recorded_at
    return not (begun and progress.error)


def _not_begun(table: str, event: RecordedEvent) -> bool:
    """True when this request has not begun yet. A task redelivered after a crash resumes, even with `fresh`."""
    found = progress_of(table)
    return found.started_at is None or found.started_at < event.recorded_at


# -- verifying the log ------------------------------------------------------------------------------------------------


def request_verification() -> RecordedEvent:
    """Request a verification of the whole log by a worker. Raises `QueueUnavailable`."""
    return _request(VERIFICATION, VerificationRequested(), "events.tasks.verify_log")


def last_verification() -> tuple[RecordedEvent | None, RecordedEvent | None]:
    """The latest result, and a later request that has none yet."""
    recent = store.read_stream(VERIFICATION, max(0, store.version_of(VERIFICATION) - 20))
    results = [event for event in recent if event.type == "verification.finished"]
    requested = recent[-1] if recent and recent[-1].type == "verification.requested" else None
    return (results[-1] if results else None), requested


def failed_verification() -> RecordedEvent | None:
    """The failure of the latest request; None when it has a result, or none yet."""
    event = _last(VERIFICATION)
    return event if event is not None and event.type == "verification.failed" else None


# A session's advisory lock: it ends with a worker that is killed.
VERIFYING: Final = (17782, 3)
TRY_VERIFYING: Final = f"select pg_try_advisory_lock{VERIFYING}"
END_VERIFYING: Final = f"select pg_advisory_unlock{VERIFYING}"
IS_VERIFYING: Final = f"""
select exists (select from pg_locks l join pg_database d on d.oid = l.database and d.datname = current_database()
                where l.locktype = 'advisory' and l.objsubid = 2 and l.granted
                  and (l.classid, l.objid) = {VERIFYING})
"""  # noqa: S608 - constants


def is_verifying() -> bool:
    """True while a worker verifies the log."""
    return bool(store.query(IS_VERIFYING)[0][0])


def do_verification(version: int) -> bool | None:
    """Verify and record the result, for the task.

    None when the stream has an event after the request, or while another worker verifies the log: its result answers
    this request.
    """
    event = _last(VERIFICATION)
    if event is None or event.version != version or not store.query(TRY_VERIFYING)[0][0]:
        return None
    try:
        return _verify()
    except Exception as error:
        if not isinstance(error, errors.StoreUnavailable) and not driver_errors.is_temporary(error):
            store.append(VERIFICATION, [VerificationFailed(error=type(error).__name__)])
        raise
    finally:
        store.query(END_VERIFYING)


def _verify() -> bool:
    started = time.monotonic()
    report = verify.verify()
    done = VerificationFinished(
        ok=report.ok,
        events=report.events,
        seals=report.seals,
        head=report.head,
        sealed_upto=report.sealed_upto,
        unsealed=report.unsealed,
        total=report.total,
        findings=[str(finding)[:500] for finding in report.findings()[:MAX_FINDINGS]],
        seconds=round(time.monotonic() - started, 1),
        unreadable=report.unreadable,
    )
    store.append(VERIFICATION, [done])
    return report.ok


# -- requests ---------------------------------------------------------------------------------------------------------


def send(task: str, *arguments: Any) -> None:
    """Have a worker run a task. Raises `QueueUnavailable`."""
    try:
        current_app.send_task(task, arguments, retry=False)
    except (kombu.exceptions.OperationalError, OSError) as error:
        raise QueueUnavailable from error


def send_again(lost: Sequence[Task]) -> list[Task]:
    """Have workers run the tasks of unfinished jobs, except those that wait in the queue; returns those sent.

    The queue is read once, however many tasks there are. Raises `QueueUnavailable`.
    """
    if not lost:
        return []
    try:
        messages = valkey.shared_client("queue").lrange(valkey.broker_key(settings.LONG_QUEUE), 0, -1)
    except (redis.RedisError, OSError) as error:
        raise QueueUnavailable from error
    waiting = {_task_in(message) for message in messages}
    missing = [task for task in lost if json.dumps(task) not in waiting]
    for name, arguments in missing:
        send(name, *arguments)
    return missing


def _task_in(raw: bytes | str) -> str:
    """The task in a message, as Celery and Kombu store it in Valkey, as JSON; empty for a malformed message."""
    try:
        message = json.loads(raw)
        return json.dumps([message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0]])
    except (ValueError, LookupError, TypeError):
        return ""


def resume() -> list[str]:
    """Send the tasks of jobs that were requested and whose worker was killed; returns what is resumed.

    A job that failed is not repeated, because a person has to look at its error. A task that is sent although its job
    has just begun does nothing. Raises `QueueUnavailable`.
    """
    lost: list[Task] = []
    for progress in read_tables.progress():
        event = _last(stream_of(progress.name))
        if event is not None and is_unfinished(progress, event):
            lost.append(("events.tasks.rebuild", [progress.name, event.version]))
    event = _last(VERIFICATION)
    if event is not None and event.type == "verification.requested" and not is_verifying():
        lost.append(("events.tasks.verify_log", [event.version]))
    return [" ".join(map(str, [name, *arguments])) for name, arguments in send_again(lost)]


def _last(stream: str) -> RecordedEvent | None:
    found = store.read_stream(stream, store.version_of(stream) - 1)
    return found[-1] if found else None


def _request(stream: str, request: Event, task: str, *arguments: Any) -> RecordedEvent:
    """Record the request, then send the task, which must find the request committed.

    Without the queue the request stays and waits; a repeated request replaces it.
    """
    with transaction.atomic():
        version = store.append(stream, [request]).version
    send(task, *arguments, version)
    return store.read_stream(stream, version - 1, upto=version)[0]
