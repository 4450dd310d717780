"""Catch-up subscriptions: follow the whole log, each event's effect exactly once, one active runner each.

A subscription is data: a name and a function that handles a batch. `run` is the loop; one turn of it is

    1  lease       be the one active runner, or wait until the other's lease runs out
    2  head        how far can be read without missing anything (`head.safe`)
    3  read        the next batch, in position order
    4  handle      and move the checkpoint, in one transaction, under the fence of our lease
    5  more?       a full batch: at once again; else wait for the bell, at most `poll` seconds

The checkpoint moves only in the transaction that had the effect, and only while the fence is ours: a runner that was
paused past its lease finds the fence gone, rolls back, and its heir has done the work. A handler whose effect is
outside the database (`realtime.relay` publishing) is at-least-once, and says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import psycopg
import redis
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, transaction

from events import bell, errors, head, store
from events.types import RecordedEvent

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Sequence[RecordedEvent]], None]

LEASE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """name     of the checkpoint; explicit and stable
    handle   gets the next events in position order, inside the transaction that moves the checkpoint
    types    only these event types; None is all. The checkpoint passes over the others
    batch    events at most in one turn
    poll     seconds between looks when the bell is silent
    tick     called about once a second by the active runner, with its position: for beacons
    start    where a new subscription begins: 0 (the beginning) or None (the head of now)
    """

    name: str
    handle: Handler
    types: tuple[str, ...] | None = None
    batch: int = 500
    poll: float = POLL_SECONDS
    tick: Callable[[int], None] | None = None
    start: int | None = 0


_registered: dict[str, Subscription] = {}


def register(subscription: Subscription) -> None:
    """Have `run_subscriptions` run it; called from `AppConfig.ready()`. Registering it again does nothing."""
    known = _registered.get(subscription.name)
    if known is not None and known != subscription:
        raise RuntimeError(f"two subscriptions are called {subscription.name!r}")
    _registered[subscription.name] = subscription


def registered() -> list[Subscription]:
    return [_registered[name] for name in sorted(_registered)]


# -- the lease ------------------------------------------------------------------------------------------------------

ENSURE = """
insert into events_checkpoint (name, position, epoch)
select %s, %s, (select epoch from events_epoch) on conflict (name) do nothing returning name
"""

ACQUIRE = """
update events_checkpoint
   set owner = %(owner)s, leased_until = clock_timestamp() + %(seconds)s * interval '1 second',
       fence = fence + (owner is distinct from %(owner)s)::int
 where name = %(name)s and (owner is null or owner = %(owner)s or leased_until < clock_timestamp())
returning position, fence, epoch::text
"""

RELEASE = "update events_checkpoint set owner = null, leased_until = null where name = %s and owner = %s returning name"

ADVANCE = """
update events_checkpoint set position = %(position)s, updated_at = clock_timestamp(), error = null
 where name = %(name)s and fence = %(fence)s and owner = %(owner)s and position <= %(position)s returning name
"""

NOTE_ERROR = "update events_checkpoint set error = %s, updated_at = clock_timestamp() where name = %s returning name"


class Lease(msgspec.Struct, kw_only=True):
    """Being the active runner, until `renew_at` at least. Times are of `time.monotonic`."""

    position: int
    fence: int
    epoch: str
    renew_at: float


def owner_name() -> str:
    """Who we are in leases: host, process, and a part that no restarted process can have."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def acquire(subscription: Subscription, owner: str, seconds: float = LEASE_SECONDS) -> Lease | None:
    """Take or renew the lease; None while another runner holds it. Times are the database's."""
    start = subscription.start if subscription.start is not None else head.safe()
    store.query(ENSURE, (subscription.name, start))
    found = store.query(ACQUIRE, {"name": subscription.name, "owner": owner, "seconds": seconds})
    if not found:
        return None
    position, fence, epoch = found[0]
    return Lease(position=position, fence=fence, epoch=epoch, renew_at=time.monotonic() + seconds / 3)


def release(subscription: Subscription, owner: str) -> None:
    """Give the lease back, so that another runner takes over at once."""
    store.query(RELEASE, (subscription.name, owner))


# -- one turn -------------------------------------------------------------------------------------------------------


def step(subscription: Subscription, owner: str, lease: Lease, upto: int | None = None) -> bool:
    """Steps 2 to 5 once; True when there is more to read at once. Moves `lease.position`.

    Raises `LeaseLost` when another runner took over, `HistoryRewound` when the checkpoint is ahead of the log.
    """
    safe = head.safe() if upto is None else upto
    if lease.position > safe and lease.position > head.last():
        raise errors.HistoryRewound(
            f"{subscription.name} stands at {lease.position}, but the log ends at {head.last()}: history was rewound."
        )
    events = store.read_all(lease.position, subscription.batch, upto=safe, types=subscription.types)
    full = len(events) == subscription.batch
    reached = events[-1].position if full else max(safe, lease.position)
    if reached == lease.position:
        return False
    with transaction.atomic():
        if events:
            subscription.handle(events)
        _advance(subscription, owner, lease, reached)
    lease.position = reached
    return full


def _advance(subscription: Subscription, owner: str, lease: Lease, reached: int) -> None:
    moved = store.query(ADVANCE, {"name": subscription.name, "fence": lease.fence, "owner": owner, "position": reached})
    if not moved:
        raise errors.LeaseLost(f"Another runner took over {subscription.name}.")


# -- the loop -------------------------------------------------------------------------------------------------------


def run(subscription: Subscription, stop: threading.Event, *, lease_seconds: float = LEASE_SECONDS) -> None:
    """Follow the log until `stop` is set. Survives everything but being killed, and then the next one goes on."""
    owner = owner_name()
    failures = 0
    with listening() as bells:
        while not stop.is_set():
            try:
                _active(subscription, owner, stop, bells, lease_seconds)
                failures = 0
            except Exception as error:
                _note(subscription, error)
                stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            finally:
                _drop_connection()
    with contextlib.suppress(errors.EventsError, psycopg.Error, DatabaseError):
        release(subscription, owner)
    _drop_connection()


def _active(subscription: Subscription, owner: str, stop: threading.Event, bells: Bells, seconds: float) -> None:
    """Be the active runner for as long as the lease holds."""
    lease = acquire(subscription, owner, seconds)
    if lease is None:
        bells.wait(subscription.poll, stop)
        return
    ticked = 0.0
    while not stop.is_set():
        if time.monotonic() >= lease.renew_at:
            renewed = acquire(subscription, owner, seconds)
            if renewed is None or renewed.fence != lease.fence:
                return
            lease.renew_at = renewed.renew_at
        more = step(subscription, owner, lease)
        if subscription.tick and time.monotonic() - ticked >= 1.0:
            ticked = time.monotonic()
            subscription.tick(lease.position)
        if not more:
            bells.wait(min(subscription.poll, 1.0, seconds / 3), stop)


def _note(subscription: Subscription, error: Exception) -> None:
    log.error("subscription %s: %s", subscription.name, error, exc_info=error)
    with contextlib.suppress(Exception):
        store.query(NOTE_ERROR, (f"{type(error).__name__}: {error}"[:2000], subscription.name))


def _drop_connection() -> None:
    """A loop has no requests whose end would look after its connection."""
    if not connection.in_atomic_block:
        close_old_connections()


# -- the bell, heard ------------------------------------------------------------------------------------------------


class Bells:
    """Waiting for the bell, with the poll interval as its longest patience. Without Valkey it only waits."""

    def __init__(self) -> None:
        self._pubsub: Any = None
        self._client: Any = None

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Until the bell rings, `seconds` pass or `stop` is set."""
        if stop.is_set():
            return
        try:
            self._listen(seconds)
        except (redis.RedisError, OSError) as error:
            log.warning("bell: cannot listen (%s); polling", error)
            self.close()
            stop.wait(seconds)

    def _listen(self, seconds: float) -> None:
        if self._pubsub is None:
            self._client = redis.Redis.from_url(
                settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1, retry=None
            )
            self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
            self._pubsub.subscribe(bell.channel())
            return  # look once more: something may have been committed before we listened
        if self._pubsub.get_message(timeout=seconds) is not None:
            while self._pubsub.get_message(timeout=0) is not None:
                pass

    def close(self) -> None:
        with contextlib.suppress(Exception):
            if self._pubsub is not None:
                self._pubsub.close()
            if self._client is not None:
                self._client.close()
        self._pubsub = self._client = None


@contextlib.contextmanager
def listening() -> Iterator[Bells]:
    bells = Bells()
    try:
        yield bells
    finally:
        bells.close()


# -- waiting for a projection ---------------------------------------------------------------------------------------


def position(name: str) -> int:
    """How far a subscription has come; 0 when it has not begun."""
    found = store.query("select position from events_checkpoint where name = %s", (name,))
    return found[0][0] if found else 0


def wait_for(name: str, reached: int, timeout: float = 5.0) -> None:
    """Return when the subscription's effect includes `reached`: its checkpoint says so, and it moves with the effect.

    Raises `WaitTimeout` after `timeout` seconds.
    """
    deadline, pause = time.monotonic() + timeout, 0.002
    while position(name) < reached:
        if time.monotonic() >= deadline:
            raise errors.WaitTimeout(f"{name} did not reach {reached} within {timeout:g} s.")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
