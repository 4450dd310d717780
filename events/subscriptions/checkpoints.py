"""Declarations of subscriptions, and their checkpoints, leases and fences.

A checkpoint is a row of `events_checkpoint`: a subscription has one, under its name, or one for each of its partitions,
`name/0`, `name/1` … Only the holder of the lease may move it, and only under the fence of that lease. The fence grows
with each change of owner, so a runner that was paused past its lease finds another fence and rolls back.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec
from django.db import transaction

from events import context, errors, head, store, types
from events.db import primary
from events.types import RecordedEvent

Handler: TypeAlias = Callable[[Sequence[RecordedEvent]], None]
Publisher: TypeAlias = Callable[["Lease", Sequence[RecordedEvent]], None]

LEASE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 1.0
MAX_PARKED: Final = 1000


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of a subscription.

    name        of the checkpoint; explicit and stable, without a slash
    handle      gets the next events in position order, inside the transaction that moves the checkpoint
    publish     in place of `handle`, for an effect outside the database: called before the checkpoint moves, with the
                lease as it was when the events were read, and all events of `types` in (`lease.position`, position of
                the last]. After a crash they are published again. Nothing is parked
    types       only these event types, None for all; the checkpoint skips the others
    batch       maximum number of events in one turn; they should be handled well within a lease
    poll        seconds between two looks at the log without a notification
    pause       seconds to wait after a batch that was not full, so that the next one has the events of several commits:
                an event that arrives alone is handled at once, many are handled together
    tick        called about once a second by the active runner, with its position: for beacons
    start       first position of a new subscription: 0 (the beginning) or None (the current head)
    park        park the stream of an event that cannot be handled, and continue with the others. Only for effects
                inside the database: a batch may be tried several times, each time rolled back. False: stop and retry
    max_parked  stop with an error at this many parked streams, because there must be another cause
    partitions  maximum number of runners; each stream belongs to one partition, so its events stay in order
    seed        computes the effect from the present state of the database and sets the checkpoint, in one transaction;
                called where there is no checkpoint yet, and instead of stopping where the history was rewound. Events
                must not have their effect twice, so `rewind` refuses
    """

    name: str
    handle: Handler | None = None
    publish: Publisher | None = None
    types: tuple[str, ...] | None = None
    batch: int = 500
    poll: float = POLL_SECONDS
    pause: float = 0.0
    tick: Callable[[int], None] | None = None
    start: int | None = 0
    park: bool = True
    max_parked: int = MAX_PARKED
    partitions: int = 1
    seed: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if "/" in self.name or self.partitions < 1:
            raise ValueError(
                f"{self.name!r} with {self.partitions} partitions: use a name without a slash, and one or more."
            )
        if (self.handle is None) == (self.publish is None) or (self.publish and self.park):
            raise ValueError(f"{self.name!r}: set either `handle`, or `publish` without `park`.")

    @property
    def checkpoints(self) -> list[str]:
        """The names of the checkpoints, by partition."""
        return [self.name] if self.partitions == 1 else [f"{self.name}/{n}" for n in range(self.partitions)]

    def checkpoint_of(self, stream: str) -> str:
        """The name of the checkpoint that covers a stream."""
        return self.checkpoints[partition_of(stream, self.partitions)]


def partition_of(stream: str, partitions: int) -> int:
    """The partition of a stream: the same in every release and process, and in SQL (`runner.READ_PARTITION`)."""
    return int.from_bytes(hashlib.md5(stream.encode(), usedforsecurity=False).digest()[:4]) % partitions


# -- registry ---------------------------------------------------------------------------------------------------------

_registered: dict[str, Subscription] = {}


def register(subscription: Subscription) -> None:
    """Have `run_subscriptions` run this subscription; called from `AppConfig.ready()`. May be repeated."""
    known = _registered.get(subscription.name)
    if known is not None and known != subscription:
        raise RuntimeError(f"two subscriptions are called {subscription.name!r}")
    _registered[subscription.name] = subscription


def registered() -> list[Subscription]:
    return [_registered[name] for name in sorted(_registered)]


def find(subscription: Subscription | str) -> Subscription:
    """The subscription of that name; raises `UnknownSubscription`."""
    if isinstance(subscription, Subscription):
        return subscription
    if subscription not in _registered:
        raise errors.UnknownSubscription(f"No subscription is called {subscription!r}.")
    return _registered[subscription]


# -- the lease --------------------------------------------------------------------------------------------------------

ROWS = """
select name, position, owner is not null and leased_until >= clock_timestamp()
  from events_checkpoint where split_part(name, '/', 1) = %s order by name
"""

LOCK_NAME = "select pg_advisory_xact_lock(17779, hashtext(%s))"

CREATE = """
insert into events_checkpoint (name, position, epoch)
select name, %s, (select epoch from events_epoch) from unnest(%s::text[]) name on conflict (name) do nothing
"""

REMOVE = "delete from events_checkpoint where name = any(%s)"

ACQUIRE = """
update events_checkpoint
   set owner = %(owner)s, leased_until = clock_timestamp() + %(seconds)s * interval '1 second',
       fence = fence + (owner is distinct from %(owner)s)::int
 where name = %(name)s and (owner is null or owner = %(owner)s or leased_until < clock_timestamp())
returning position, fence, epoch::text, error is not null
"""

FORGET_ERROR = """
update events_checkpoint set error = null, updated_at = clock_timestamp()
 where name = %(name)s and fence = %(fence)s and owner = %(owner)s returning name
"""

RELEASE = "update events_checkpoint set owner = null, leased_until = null where name = %s and owner = %s returning name"

ADVANCE = """
update events_checkpoint set position = %(position)s, updated_at = clock_timestamp(), error = null
 where name = %(name)s and fence = %(fence)s and owner = %(owner)s and position <= %(position)s returning name
"""


class Lease(msgspec.Struct, kw_only=True):
    """The right to move one checkpoint, valid until `renew_at` (`time.monotonic`) and some time after.

    `epoch` is the log's epoch when the lease was last renewed; a new epoch is only drawn where connections are lost.
    `failed`: the checkpoint names the error of an earlier turn.
    """

    name: str
    partition: int
    owner: str
    position: int
    fence: int
    epoch: str
    renew_at: float
    failed: bool = False

    def advance(self, reached: int) -> None:
        """Move the checkpoint, at the end of the transaction that had the effect; raises `LeaseLost`.

        At the end, because it locks the row: a runner that hangs in its handler must not block the next one.
        """
        fence = {"name": self.name, "fence": self.fence, "owner": self.owner, "position": reached}
        if not store.query(ADVANCE, fence):
            raise errors.LeaseLost(f"Another runner took over {self.name}.")
        self.failed = False

    def forget_error(self) -> None:
        """Remove the error of an earlier turn; `advance` does so too, but there may be no event for a long time."""
        if self.failed:
            store.query(FORGET_ERROR, {"name": self.name, "fence": self.fence, "owner": self.owner})
            self.failed = False


def owner_name() -> str:
    """A name for leases: host, process id, and a random part that a restarted process does not repeat."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def acquire(
    subscription: Subscription, owner: str, seconds: float = LEASE_SECONDS, *, partition: int = 0
) -> Lease | None:
    """Take or renew the lease; None while another runner holds it. Times are the database's.

    Raises `HistoryRewound` when the checkpoint was ahead of the log at the last change of epoch; `rewind` resolves it.
    Raises `NotPrimary` where the connection, which a runner keeps as long as it can, is to a former primary.
    """
    primary.require_current()
    ensure(subscription)
    name, now = subscription.checkpoints[partition], head.epoch()
    found = store.query(ACQUIRE, {"name": name, "owner": owner, "seconds": seconds})
    if not found:
        return None
    position, fence, epoch, failed = found[0]
    if epoch != now:
        release(subscription, owner, partition=partition)
        raise errors.HistoryRewound(
            f"{name} is at {position} of another history: the log was restored to a lower position. Undo its effects "
            "for the events that are lost, then rewind it."
        )
    renew_at = time.monotonic() + seconds / 3
    return Lease(
        name=name,
        partition=partition,
        owner=owner,
        position=position,
        fence=fence,
        epoch=epoch,
        renew_at=renew_at,
        failed=failed,
    )


def release(subscription: Subscription, owner: str, *, partition: int = 0) -> None:
    """Release the lease, so that another runner takes over at once."""
    store.query(RELEASE, (subscription.checkpoints[partition], owner))


def ensure(subscription: Subscription) -> None:
    """Create the checkpoints of a new declaration, all at one position.

    The number of partitions may change only at rest: all checkpoints at one position, none leased. Else a stream would
    move to a checkpoint that is behind, or ahead of, its handled events; raises `PartitionsDiffer`.
    """
    wanted = sorted(subscription.checkpoints)
    if [row[0] for row in store.query(ROWS, (subscription.name,))] == wanted:
        return
    start = subscription.start if subscription.start is not None else head.safe()
    with transaction.atomic():
        store.execute(LOCK_NAME, (subscription.name,))
        rows = store.query(f"{ROWS} for update", (subscription.name,))
        names, positions = [row[0] for row in rows], {row[1] for row in rows}
        if names == wanted:
            return
        if len(positions) > 1 or any(row[2] for row in rows):
            raise errors.PartitionsDiffer(_differs(subscription, rows))
        store.execute(REMOVE, (names,))
        store.execute(CREATE, (positions.pop() if positions else start, wanted))


def is_new(subscription: Subscription) -> bool:
    """True when the subscription has no checkpoint yet."""
    return not store.query(ROWS, (subscription.name,))


def _differs(subscription: Subscription, rows: Sequence[tuple[str, int, bool]]) -> str:
    current = ", ".join(f"{name} at {position}{' (running)' if leased else ''}" for name, position, leased in rows)
    return (
        f"{subscription.name} is declared with {subscription.partitions} partitions, but has checkpoints {current}. "
        "Run the old declaration until all are at one position (runner.align_partitions), stop it, then "
        "change the number."
    )


# -- rewind -----------------------------------------------------------------------------------------------------------

REWIND = """
update events_checkpoint
   set position = %s, epoch = (select epoch from events_epoch), fence = fence + 1, owner = null, leased_until = null,
       updated_at = clock_timestamp(), error = null
 where split_part(name, '/', 1) = %s returning name
"""


@types.event_type("subscription.rewound")
class SubscriptionRewound(types.Event, frozen=True):
    """A person set a subscription to another position; later events have their effect again."""

    position: int
    before: tuple[int, ...]


def rewind(subscription: Subscription | str, position: int, reason: str) -> None:
    """Set all checkpoints of a subscription to a position of the current log; its runners continue from there.

    Recorded in the stream `subscription-<name>`. Raises `InvalidCommand`, `UnknownSubscription`.
    """
    found, safe = find(subscription), head.safe()
    if found.seed is not None:
        raise errors.InvalidCommand(
            fields={"position": f"{found.name} would count events twice: run rebuild_projection {found.name} instead."}
        )
    if not reason.strip():
        raise errors.InvalidCommand(fields={"reason": "Enter a reason: required to rewind a subscription."})
    if not 0 <= position <= safe:
        raise errors.InvalidCommand(fields={"position": f"The log goes from 0 to {safe}."})
    head.epoch()
    with context.acting(reason=reason.strip()), transaction.atomic():
        before = tuple(row[1] for row in store.query(f"{ROWS} for update", (found.name,)))
        store.execute(REWIND, (position, found.name))
        store.append(f"subscription-{found.name}", [SubscriptionRewound(position=position, before=before)])
