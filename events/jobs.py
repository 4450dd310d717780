"""Long work that a person asks for and a worker does: rebuilding a read table, checking the log.

Each wish is an event in a stream of its own (`rebuild-<table>`, `verification-log`), so it is known who asked and when.
A task carries the version its wish got, and does nothing once a later event stands in the stream: a task that is
delivered twice, a wish that was taken back and a wish that was asked again are all settled by that.
"""

from __future__ import annotations

import time
from typing import Any, Final

import kombu.exceptions
import msgspec
from celery import current_app
from django.db import transaction

from events import errors, store, types
from events.integrity import verify
from events.rebuild import builder as rebuild
from events.rebuild.builder import Progress
from events.types import Event, RecordedEvent, event_type

VERIFICATION: Final = types.stream_name("verification", "log")
TOLD: Final = 20  # findings kept in the event; `manage.py verify_events` tells all


@event_type("rebuild.requested")
class RebuildRequested(Event, frozen=True):
    """Somebody wants a read table built anew; see `rebuild.rebuild` for the two wishes."""

    table: str
    fresh: bool = False
    take_over: bool = False


@event_type("rebuild.cancelled")
class RebuildCancelled(Event, frozen=True):
    """Somebody stopped it; what is built so far is kept and can be gone on with."""

    table: str


@event_type("verification.requested")
class VerificationRequested(Event, frozen=True):
    """Somebody wants every event read again and held against its chain and its seal."""


@event_type("verification.finished")
class VerificationFinished(Event, frozen=True):
    """What that came to. `total` findings, of which `findings` are the first; positions as in `verify.Report`."""

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


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The last wish about something: by whom, and whether it still waits for a worker to begin."""

    event: RecordedEvent
    waits: bool


class QueueAway(errors.EventsError):
    """The task queue does not respond; nothing was started. Try again when it is back."""

    code = "queue_away"
    status = 503


# -- rebuilding -----------------------------------------------------------------------------------------------------


def stream_of(table: str) -> str:
    return types.stream_name("rebuild", table)


# Only who owns a table may put another in its place; the application may run as a role that does not (`events.db.grants`).
OWNED = "select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass(quote_ident(%s))"


def may_rebuild(table: str) -> bool:
    """Does the login of this application, and so of its workers, own the table?"""
    found = store.query(OWNED, (table,))
    return bool(found and found[0][0])


def request_rebuild(table: str, *, fresh: bool = False, take_over: bool = False) -> RecordedEvent:
    """Have a worker rebuild a read table. Raises `RebuildRefused` for a table nobody knows, for one the application
    does not own, and while a builder is at it (unless it is to be relieved); `QueueAway`.
    """
    now = progress_of(table)
    if now.running and not take_over:
        raise errors.RebuildRefused(f"{table} is being rebuilt by {now.owner}.")
    if not may_rebuild(table):
        raise errors.RebuildRefused(
            f"This application does not own {table}: its owner runs rebuild_projection {table}."
        )
    wish = RebuildRequested(table=table, fresh=fresh, take_over=take_over)
    return _ask(stream_of(table), wish, "events.tasks.rebuild", table)


def progress_of(table: str) -> Progress:
    """Raises `RebuildRefused` for a table nobody knows."""
    found = next((one for one in rebuild.progress() if one.name == table), None)
    if found is None:
        raise errors.RebuildRefused(f"No read table is called {table!r}.")
    return found


def cancel_rebuild(table: str) -> None:
    """Take a wish back, or stop the builder. Raises `RebuildRefused` when there is nothing to stop any more."""
    progress_of(table)
    waits = (wish := last_rebuild(table)) is not None and wish.waits
    if not rebuild.cancel(table) and not waits:
        raise errors.RebuildRefused(f"No rebuild of {table} can be stopped now.")
    store.append(stream_of(table), [RebuildCancelled(table=table)])


def last_rebuild(table: str) -> Wish | None:
    """The last wish about a table, and whether a worker has begun with it."""
    event = _last(stream_of(table))
    if event is None:
        return None
    begun = next((one.resumed_at for one in rebuild.progress() if one.name == table), None)
    waits = event.type == "rebuild.requested" and (begun is None or begun < event.recorded_at)
    return Wish(event=event, waits=waits)


def do_rebuild(table: str, version: int) -> Progress | None:
    """For the task: rebuild, unless the wish is not the last one any more."""
    event = _last(stream_of(table))
    if event is None or event.version != version or not isinstance(event.event, RebuildRequested):
        return None
    wish = event.event
    return rebuild.rebuild(table, fresh=wish.fresh and _not_begun(table, event), take_over=wish.take_over)


def _not_begun(table: str, event: RecordedEvent) -> bool:
    """A task that is delivered again, because its worker died, goes on where that one was."""
    found = progress_of(table)
    return found.started_at is None or found.started_at < event.recorded_at


# -- checking the log -----------------------------------------------------------------------------------------------


def request_verification() -> RecordedEvent:
    """Have a worker read the whole log again and check it. Raises `QueueAway`."""
    return _ask(VERIFICATION, VerificationRequested(), "events.tasks.verify_log")


def last_verification() -> tuple[RecordedEvent | None, RecordedEvent | None]:
    """The last result, and a later wish that has none yet."""
    recent = store.read_stream(VERIFICATION, max(0, store.version_of(VERIFICATION) - 20))
    results = [event for event in recent if event.type == "verification.finished"]
    asked = recent[-1] if recent and recent[-1].type == "verification.requested" else None
    return (results[-1] if results else None), asked


def do_verification(version: int) -> bool | None:
    """For the task: check, and write down what it came to; None when the wish is not the last one any more."""
    event = _last(VERIFICATION)
    if event is None or event.version != version:
        return None
    began = time.monotonic()
    report = verify.verify()
    done = VerificationFinished(
        ok=report.ok,
        events=report.events,
        seals=report.seals,
        head=report.head,
        sealed_upto=report.sealed_upto,
        unsealed=report.unsealed,
        total=report.total,
        findings=[str(finding)[:500] for finding in report.findings()[:TOLD]],
        seconds=round(time.monotonic() - began, 1),
        unreadable=report.unreadable,
    )
    store.append(VERIFICATION, [done])
    return report.ok


# -- asking ---------------------------------------------------------------------------------------------------------


def _last(stream: str) -> RecordedEvent | None:
    found = store.read_stream(stream, store.version_of(stream) - 1)
    return found[-1] if found else None


def _ask(stream: str, wish: Event, task: str, *arguments: Any) -> RecordedEvent:
    """1 write the wish down  2 send the task, once the wish is committed and can be found. A queue that is away leaves
    a wish that waits; whoever asks again replaces it.
    """
    with transaction.atomic():
        version = store.append(stream, [wish]).version
    try:
        current_app.send_task(task, (*arguments, version), retry=False)
    except (kombu.exceptions.OperationalError, OSError) as error:
        raise QueueAway from error
    return store.read_stream(stream, version - 1, upto=version)[0]
