"""Catch-up subscriptions: follow the whole log, each event's effect exactly once, one active runner each.

A subscription is data (`checkpoints.Subscription`): a name and a function that handles a batch. `run` is the loop; one
turn of it is

    1  lease       be the one active runner, or wait until the other's lease runs out
    2  head        how far can be read without missing anything (`head.safe`)
    3  read        the next batch, in position order
    4  handle      and move the checkpoint, in one transaction, under the fence of our lease; or publish, then move it
    5  more?       a full batch: at once again; else wait for the bell, at most `poll` seconds

The checkpoint moves only in the transaction that had the effect, and only while the fence is ours: a runner that was
paused past its lease finds the fence gone, rolls back, and its heir has done the work. What has its effect outside the
database (`realtime.relay`) publishes before that transaction, at least once.

A batch that fails at step 4 is halved, and halved again, each part in a transaction of its own, until the event that
fails is alone: its stream is parked (`events.subscriptions.parked`), and all else has had its effect. What is no event's fault, such
as a database that is away, parks nothing: the runner stops, says so and tries again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
import psycopg
from django.db import DatabaseError, close_old_connections, connection, transaction

from events import errors, head, notifications, store
from events.archive import reader as archives
from events.db import pipeline
from events.integrity.stored_rows import StoredRow
from events.subscriptions import checkpoints
from events.subscriptions import parked as parking
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
    "owner_name",
    "position",
    "register",
    "registered",
    "release",
    "run",
    "settle",
    "status",
    "step",
    "wait_for",
]

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
STRETCH: Final = 100_000  # archived positions in one turn
ATTEMPT_PAUSES: Final = (0.02, 0.05, 0.1, 0.2)  # between attempts at what the database calls temporary

# -- one turn -------------------------------------------------------------------------------------------------------

SOON: Final = "set local synchronous_commit = off"

# `checkpoints.partition_of` in SQL: the first 32 bits of the MD5, modulo.
READ_PARTITION = f"""
select {store.COLUMNS} from events_event
 where position > %(after)s and position <= %(upto)s and events_here(%(after)s)
   and (%(types)s::text[] is null or type = any(%(types)s::text[]))
   and ('x' || substr(md5(stream), 1, 8))::bit(32)::bigint %% %(partitions)s = %(partition)s
 order by position limit %(limit)s
"""  # noqa: S608 - COLUMNS is a constant


def step(subscription: Subscription, owner: str, lease: Lease, upto: int | None = None) -> bool:
    """Steps 2 to 5 once; True when there is more to read at once. Moves `lease.position`.

    Raises `LeaseLost` when another runner took over, `HistoryRewound` when the checkpoint is ahead of the log.
    """
    assert owner == lease.owner
    safe = head.safe() if upto is None else upto
    if lease.position > safe and lease.position > head.last():
        raise errors.HistoryRewound(
            f"{lease.name} stands at {lease.position}, but the log ends at {head.last()}: history was rewound."
        )
    try:
        events, stretch = _read(subscription, lease, safe), None
    except errors.Archived as gone:  # from files, a stretch at a time: a lease is short
        stretch = safe = min(safe, gone.upto, lease.position + STRETCH)
        events = _read_archived(subscription, lease, safe)
    full = len(events) == subscription.batch
    reached = events[-1].position if full else max(safe, lease.position)
    if reached == lease.position:
        return False
    if subscription.publish is not None and events:
        subscription.publish(lease, events)
    if subscription.park:
        _handle_or_park(subscription, lease, events, reached)
    else:
        _handle(subscription, lease, events, reached)
    return full or stretch is not None


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
    return store.rows_to_events(store.query(READ_PARTITION, wanted))


def _handle(subscription: Subscription, lease: Lease, events: Sequence[RecordedEvent], reached: int) -> None:
    """Step 4: the effect and the checkpoint, together or not at all. What a crash takes back of both is done again, so
    nobody waits for the disk; a handler that appends does (the guard sees to it).
    """
    alone = not connection.in_atomic_block
    with pipeline.transaction():
        if alone:
            store.execute(SOON)
        flowing, waiting = parking.sift(subscription, events) if subscription.park else (events, [])
        if flowing and subscription.handle is not None:
            parking.demand_readable(flowing)
            subscription.handle(flowing)
        if subscription.publish is not None:
            parking.note_unreadable(subscription, flowing)
        lease.advance(reached)
        parking.confirm(subscription, waiting)
    lease.position = reached


def _handle_or_park(subscription: Subscription, lease: Lease, events: Sequence[RecordedEvent], reached: int) -> None:
    """Step 4 for a subscription that parks: halve what fails until the guilty event is alone."""
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
    """What the events fail on, or None; a few times over for what PostgreSQL calls temporary. Raises what is no
    event's fault.
    """
    for pause in (*ATTEMPT_PAUSES, None):
        try:
            _handle(subscription, lease, events, reached)
        except Exception as error:
            if not events or parking.is_elsewhere(error):
                raise
            if pause is None or not parking.is_temporary(error):
                return error
            time.sleep(pause)
        else:
            return None
    raise AssertionError("unreachable")


def _park(subscription: Subscription, lease: Lease, event: RecordedEvent, reached: int, error: Exception) -> None:
    with transaction.atomic():
        parking.park(subscription, event, error)
        lease.advance(reached)
    lease.position = reached
    log.error("subscription %s: parked %s at %d", lease.name, event.stream, event.position, exc_info=error)


# -- the loop -------------------------------------------------------------------------------------------------------


def run(
    subscription: Subscription, stop: threading.Event, *, lease_seconds: float = LEASE_SECONDS, partition: int = 0
) -> None:
    """Follow the log until `stop` is set. Survives everything but being killed, and then the next one goes on."""
    owner = owner_name()
    failures = 0
    with contextlib.closing(notifications.Ear()) as ear:
        while not stop.is_set():
            try:
                _active(subscription, owner, stop, ear, lease_seconds, partition)
                failures = 0
            except Exception as error:
                _note(subscription.checkpoints[partition], error)
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
    ear: notifications.Ear,
    seconds: float,
    partition: int,
) -> None:
    """Be the active runner for as long as the lease holds."""
    lease = acquire(subscription, owner, seconds, partition=partition)
    if lease is None:
        ear.wait(subscription.poll, stop)
        return
    ticked = 0.0
    while not stop.is_set():
        if time.monotonic() >= lease.renew_at:
            renewed = acquire(subscription, owner, seconds, partition=partition)
            if renewed is None or renewed.fence != lease.fence:
                return
            lease.renew_at, lease.epoch = renewed.renew_at, renewed.epoch
        more = step(subscription, owner, lease)
        if subscription.tick and time.monotonic() - ticked >= 1.0:
            ticked = time.monotonic()
            subscription.tick(lease.position)
        if not more:
            ear.wait(min(subscription.poll, 1.0, seconds / 3), stop)


def settle(subscription: Subscription) -> int:
    """Bring all partitions of a subscription that nobody runs to one position, and return it: after that the number of
    partitions may be changed. Raises `LeaseLost` while somebody runs one.
    """
    owner, upto = owner_name(), head.safe()
    for partition in range(subscription.partitions):
        lease = acquire(subscription, owner, partition=partition)
        if lease is None:
            raise errors.LeaseLost(f"{subscription.checkpoints[partition]} is being run; stop it first.")
        try:
            while step(subscription, owner, lease, upto):
                pass
        finally:
            release(subscription, owner, partition=partition)
    return upto


NOTE_ERROR = "update events_checkpoint set error = %s, updated_at = clock_timestamp() where name = %s returning name"


def _note(checkpoint: str, error: Exception) -> None:
    log.error("subscription %s: %s", checkpoint, error, exc_info=error)
    with contextlib.suppress(Exception):
        store.query(NOTE_ERROR, (parking.describe(error), checkpoint))


def _drop_connection() -> None:
    """A loop has no requests whose end would look after its connection."""
    if not connection.in_atomic_block:
        close_old_connections()


# -- waiting for a projection ---------------------------------------------------------------------------------------

POSITIONS = "select name, position from events_checkpoint where split_part(name, '/', 1) = %s"


def position(subscription: Subscription | str) -> int:
    """How far a subscription has come, with all its partitions; 0 while one of them has not begun."""
    name = subscription if isinstance(subscription, str) else subscription.name
    declared = next((known for known in registered() if known.name == name), None)
    found = dict(store.query(POSITIONS, (name,)))
    wanted = subscription if isinstance(subscription, Subscription) else declared
    names = wanted.checkpoints if wanted else list(found)
    return min((found.get(checkpoint, 0) for checkpoint in names), default=0)


def wait_for(subscription: Subscription | str, reached: int, timeout: float = 5.0) -> None:
    """Return when the effect of everything up to `reached` is there, in every partition: the checkpoints say so, and
    they move with the effect. What is parked is not there; a stream that matters is asked for with `parking.parked`.

    Raises `WaitTimeout` after `timeout` seconds.
    """
    deadline, pause = time.monotonic() + timeout, 0.002
    while position(subscription) < reached:
        if time.monotonic() >= deadline:
            name = subscription if isinstance(subscription, str) else subscription.name
            raise errors.WaitTimeout(f"{name} did not reach {reached} within {timeout:g} s.")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


# -- for the operator -----------------------------------------------------------------------------------------------

STATUS = "select name, position, owner, leased_until, updated_at, error, fence from events_checkpoint order by name"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where one checkpoint stands. `lag` is in positions, which have holes; `parked` counts streams.

    `owner` is None when nobody runs it: never begun, stopped, or died and the lease has run out.
    """

    name: str
    position: int
    head: int
    lag: int
    owner: str | None = None
    leased_until: datetime | None = None
    updated_at: datetime | None = None
    error: str | None = None
    parked: int = 0
    fence: int = 0


def status() -> list[Status]:
    """Every checkpoint, and those of registered subscriptions that have not begun."""
    safe, now = head.safe(), store.query("select clock_timestamp()")[0][0]
    rows = {row[0]: row for row in store.query(STATUS)}
    parked = parking.count_by_checkpoint(rows)
    unbegun = {name for known in registered() for name in known.checkpoints} - rows.keys()
    found = [Status(name=name, position=0, head=safe, lag=safe) for name in unbegun]
    for name, reached, owner, until, updated_at, error, fence in rows.values():
        alive = until is not None and until >= now
        found.append(
            Status(
                name=name,
                position=reached,
                head=safe,
                lag=max(safe - reached, 0),
                owner=owner if alive else None,
                leased_until=until if alive else None,
                updated_at=updated_at,
                error=error,
                parked=parked.get(name, 0),
                fence=fence,
            )
        )
    return sorted(found, key=lambda one: one.name)
