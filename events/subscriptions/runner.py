"""Catch-up subscriptions: follow the whole log, each event's effect exactly once, one active runner each.

A subscription is data (`checkpoints.Subscription`): a name and a function that handles a batch. `run` is the loop; each
turn has five steps:

    1  lease       become the one active runner, or wait until the other runner's lease expires
    2  head        find how far the log can be read without missing an event (`head.safe`)
    3  read        the next batch, in position order
    4  handle      and move the checkpoint, in one transaction, under the fence of the lease; or publish, then move it
    5  repeat      after a full batch at once, else on the next notification, after `poll` seconds at the latest

The checkpoint moves only in the transaction that has the effect, and only while the fence is the lease's: a runner that
was paused past its lease finds another fence and rolls back; its successor has done the work. A subscription whose
effect is outside the database (`realtime.relay`) publishes before that transaction, at least once.

A batch that fails at step 4 is halved repeatedly, each part in a transaction of its own, until the failing event is
alone. Its stream is parked (`events.subscriptions.parked`); all other events have had their effect. Failures that are
no event's fault, such as an unreachable database, park nothing: the runner records the error and retries.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, connection, transaction

from events import decoding, errors, head, notifications, search, store
from events.archive import reader as archives
from events.db import pipeline
from events.integrity.stored_rows import StoredRow
from events.subscriptions import checkpoints, parked
from events.subscriptions.checkpoints import (
    LEASE_SECONDS,
    Lease,
    Subscription,
    acquire,
    owner_name,
    register,
    registered,
    release,
)
from events.types import RecordedEvent

__all__ = [
    "LEASE_SECONDS",
    "Lease",
    "Subscription",
    "acquire",
    "align_partitions",
    "owner_name",
    "register",
    "registered",
    "release",
    "run",
    "step",
]

log = logging.getLogger(__name__)

# The database does not answer: a line in the log, without a traceback.
AWAY: Final = (errors.StoreUnavailable, psycopg.OperationalError, OperationalError, InterfaceError)
RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
ARCHIVED_PER_TURN: Final = 100_000  # positions; a lease is short
ATTEMPT_PAUSES: Final = (0.02, 0.05, 0.1, 0.2)  # between attempts after temporary errors

# -- one turn ---------------------------------------------------------------------------------------------------------

NO_FLUSH: Final = "set local synchronous_commit = off"

# `checkpoints.partition_of` in SQL: the first 32 bits of the MD5, modulo.
READ_PARTITION = f"""
select {decoding.COLUMNS} from events_event
 where {store.POSITIONS}
   and (%(types)s::text[] is null or type = any(%(types)s::text[]))
   and ('x' || substr(md5(stream), 1, 8))::bit(32)::bigint %% %(partitions)s = %(partition)s
 order by position limit %(limit)s
"""  # noqa: S608 - COLUMNS is a constant


def step(subscription: Subscription, owner: str, lease: Lease, upto: int | None = None) -> bool:
    """Run steps 2 to 4 once and move `lease.position`; True when more can be read at once.

    Raises `LeaseLost` when another runner took over, `HistoryRewound` when the checkpoint is ahead of the log.
    """
    assert owner == lease.owner
    safe = head.safe() if upto is None else upto
    if lease.position > safe and lease.position > head.last():
        raise errors.HistoryRewound(
            f"{lease.name} is at {lease.position}, but the log ends at {head.last()}: history was rewound."
        )
    searched = min(safe, lease.position + search.REACH)
    try:
        events = _read(subscription, lease, searched)
    except errors.Archived as gone:
        searched = min(safe, gone.upto, lease.position + ARCHIVED_PER_TURN)
        events = _read_archived(subscription, lease, searched)
    full = len(events) == subscription.batch
    reached = events[-1].position if full else max(searched, lease.position)
    if reached == lease.position:
        return False
    if subscription.publish is not None and events:
        subscription.publish(lease, events)
    if subscription.park:
        _handle_or_park(subscription, lease, events, reached)
    else:
        _handle(subscription, lease, events, reached)
    return full or reached < safe


def _read_archived(subscription: Subscription, lease: Lease, upto: int) -> list[RecordedEvent]:
    def wanted(row: StoredRow) -> bool:
        mine = checkpoints.partition_of(row.stream, subscription.partitions) == lease.partition
        return mine and (not subscription.types or row.type in subscription.types)

    return archives.events_of(archives.in_order(lease.position, upto, wanted, subscription.batch))


def _read(subscription: Subscription, lease: Lease, upto: int) -> list[RecordedEvent]:
    if subscription.partitions == 1:
        return store.read_here(lease.position, subscription.batch, upto=upto, types=subscription.types)
    wanted = {
        "after": lease.position,
        "upto": upto,
        "limit": subscription.batch,
        "types": list(subscription.types) if subscription.types else None,
        "partitions": subscription.partitions,
        "partition": lease.partition,
    }
    return decoding.events_of(store.query(READ_PARTITION, wanted))


def _handle(subscription: Subscription, lease: Lease, events: Sequence[RecordedEvent], reached: int) -> None:
    """Step 4: the effect and the checkpoint, together or not at all.

    The commit does not wait for the disk, because both are repeated if a crash undoes them. A handler that appends does
    wait: the trigger on the log sees to it.
    """
    outermost = not connection.in_atomic_block
    with pipeline.transaction():
        if outermost:
            store.execute(NO_FLUSH)
        ready, waiting = parked.split_parked(subscription, events) if subscription.park else (events, [])
        if ready and subscription.handle is not None:
            parked.require_readable(ready)
            subscription.handle(ready)
        if subscription.publish is not None:
            parked.record_unreadable(subscription, ready)
        lease.advance(reached)
        parked.confirm(subscription, waiting)
    lease.position = reached


def _handle_or_park(subscription: Subscription, lease: Lease, events: Sequence[RecordedEvent], reached: int) -> None:
    """Step 4 for a subscription that parks: halve a failing batch until the failing event is alone."""
    error = _attempt(subscription, lease, events, reached)
    if error is None:
        return
    if len(events) == 1:
        _park(subscription, lease, events[0], reached, error)
    else:
        middle = len(events) // 2
        _handle_or_park(subscription, lease, events[:middle], events[middle - 1].position)
        _handle_or_park(subscription, lease, events[middle:], reached)


def _attempt(
    subscription: Subscription, lease: Lease, events: Sequence[RecordedEvent], reached: int
) -> Exception | None:
    """Handle the events; returns the error they fail with, or None. Retries temporary errors.

    Raises errors that are no event's fault.
    """
    for pause in (*ATTEMPT_PAUSES, None):
        try:
            _handle(subscription, lease, events, reached)
        except Exception as error:
            if not events or parked.is_systemic(error):
                raise
            if pause is None or not parked.is_temporary(error):
                return error
            time.sleep(pause)
        else:
            return None
    raise AssertionError("unreachable")


def _park(subscription: Subscription, lease: Lease, event: RecordedEvent, reached: int, error: Exception) -> None:
    with transaction.atomic():
        parked.park(subscription, event, error)
        lease.advance(reached)
    lease.position = reached
    where = {"stream": event.stream, "position": event.position}
    log.error("subscription %s: parked %s at %d", lease.name, *where.values(), exc_info=error, extra=where)


# -- the loop ---------------------------------------------------------------------------------------------------------


def run(
    subscription: Subscription, stop: threading.Event, *, lease_seconds: float = LEASE_SECONDS, partition: int = 0
) -> None:
    """Follow the log until `stop` is set; errors are recorded and retried. After a kill another runner continues."""
    owner = owner_name()
    failures = 0
    with contextlib.closing(notifications.Listener()) as listener:
        while not stop.is_set():
            try:
                _active(subscription, owner, stop, listener, lease_seconds, partition)
                failures = 0
            except errors.HistoryRewound as error:
                _record_error(subscription.checkpoints[partition], error)
                if subscription.seed is None or not _reseeded(subscription):
                    stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                    failures += 1
            except Exception as error:
                _record_error(subscription.checkpoints[partition], error)
                stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            finally:
                _drop_connection()
    with contextlib.suppress(errors.EventsError, psycopg.Error, DatabaseError):
        release(subscription, owner, partition=partition)
    _drop_connection()


def _active(
    subscription: Subscription,
    owner: str,
    stop: threading.Event,
    listener: notifications.Listener,
    seconds: float,
    partition: int,
) -> None:
    """Run steps 1 to 5 for as long as the lease holds."""
    if subscription.seed is not None and checkpoints.is_new(subscription):
        subscription.seed()
    lease = acquire(subscription, owner, seconds, partition=partition)
    if lease is None:
        listener.wait(subscription.poll, stop)
        return
    last_tick = 0.0
    while not stop.is_set():
        if time.monotonic() >= lease.renew_at:
            renewed = acquire(subscription, owner, seconds, partition=partition)
            if renewed is None or renewed.fence != lease.fence:
                return
            lease.renew_at, lease.epoch = renewed.renew_at, renewed.epoch
        before, more = lease.position, step(subscription, owner, lease)
        if subscription.tick and time.monotonic() - last_tick >= 1.0:
            last_tick = time.monotonic()
            subscription.tick(lease.position)
        lease.forget_error()
        if not more:
            if subscription.pause and lease.position > before:
                stop.wait(subscription.pause)
            listener.wait(min(subscription.poll, 1.0, seconds / 3), stop)


def _reseeded(subscription: Subscription) -> bool:
    """Seed the subscription again after `HistoryRewound`; False when that failed."""
    assert subscription.seed is not None
    try:
        subscription.seed()
    except Exception as error:
        _record_error(subscription.checkpoints[0], error)
        return False
    log.warning("subscription %s: seeded again, because the history was rewound", subscription.name)
    return True


def align_partitions(subscription: Subscription) -> int:
    """Bring all partitions of a stopped subscription to one position and return it.

    Afterwards the number of partitions may be changed. Raises `LeaseLost` while a runner is active.
    """
    owner, upto = owner_name(), head.safe()
    for partition in range(subscription.partitions):
        lease = acquire(subscription, owner, partition=partition)
        if lease is None:
            raise errors.LeaseLost(f"{subscription.checkpoints[partition]} is running; stop it first.")
        try:
            while step(subscription, owner, lease, upto):
                pass
        finally:
            release(subscription, owner, partition=partition)
    return upto


NOTE_ERROR = "update events_checkpoint set error = %s, updated_at = clock_timestamp() where name = %s returning name"


def _record_error(checkpoint: str, error: Exception) -> None:
    log.error("subscription %s: %s", checkpoint, error, exc_info=None if isinstance(error, AWAY) else error)
    with contextlib.suppress(Exception):
        store.query(NOTE_ERROR, (parked.describe(error), checkpoint))


def _drop_connection() -> None:
    """Close a broken or expired connection, as Django does at the end of a request."""
    if not connection.in_atomic_block:
        close_old_connections()
