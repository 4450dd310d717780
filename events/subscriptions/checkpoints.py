"""Subscriptions as they are declared, where each stands, and who may move it: checkpoints, leases and fences.

A checkpoint is a row of `events_checkpoint`: a subscription has one, under its name, or one for each of its partitions,
`name/0`, `name/1` … Who holds the lease may move it, and only under the fence of that lease: the fence grows with each
change of owner, so a runner that was paused past its lease finds it gone and rolls back what it did.
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
from events.types import RecordedEvent

Handler: TypeAlias = Callable[[Sequence[RecordedEvent]], None]
Publisher: TypeAlias = Callable[["Lease", Sequence[RecordedEvent]], None]

LEASE_SECONDS: Final = 10.0
POLL_SECONDS: Final = 1.0
MAX_PARKED: Final = 1000


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """name        of the checkpoint; explicit and stable, without a slash
    handle      gets the next events in position order, inside the transaction that moves the checkpoint
    publish     instead, for an effect outside the database: gets the lease as it stood when they were read and the
                events, all there are of `types` in (`lease.position`, the last one's], before the checkpoint moves. A
                crash publishes them again rather than never. Nothing is parked
    types       only these event types; None is all. The checkpoint passes over the others
    batch       events at most in one turn; they should be handled well within a lease
    poll        seconds between looks when the bell is silent
    tick        called about once a second by the active runner, with its position: for beacons
    start       where a new subscription begins: 0 (the beginning) or None (the head of now)
    park        put aside the stream of an event that cannot be handled, and go on with the others. Only for effects
                inside the database: a batch may be tried several times, each time rolled back. False: stop and retry
    max_parked  with this many streams parked something else is wrong: stop and say so
    partitions  runners at most; each stream belongs to one of them, so its events stay in order
    """

    name: str
    handle: Handler | None = None
    publish: Publisher | None = None
    types: tuple[str, ...] | None = None
    batch: int = 500
    poll: float = POLL_SECONDS
    tick: Callable[[int], None] | None = None
    start: int | None = 0
    park: bool = True
    max_parked: int = MAX_PARKED
    partitions: int = 1

    def __post_init__(self) -> None:
        if "/" in self.name or self.partitions < 1:
            raise ValueError(f"{self.name!r} with {self.partitions} partitions: no slash, and at least one, please.")
        if (self.handle is None) == (self.publish is None) or (self.publish and self.park):
            raise ValueError(f"{self.name!r}: either handles, or publishes and does not park.")

    @property
    def checkpoints(self) -> list[str]:
        """The names of its checkpoints, by partition."""
        return [self.name] if self.partitions == 1 else [f"{self.name}/{n}" for n in range(self.partitions)]

    def checkpoint_of(self, stream: str) -> str:
        """The name of the checkpoint that covers a stream."""
        return self.checkpoints[partition_of(stream, self.partitions)]


def partition_of(stream: str, partitions: int) -> int:
    """Which of `partitions` a stream belongs to: the same in every release, process and database (`IN_PARTITION`)."""
    return int.from_bytes(hashlib.md5(stream.encode(), usedforsecurity=False).digest()[:4]) % partitions


# -- the table of them ----------------------------------------------------------------------------------------------

_registered: dict[str, Subscription] = {}


def register(subscription: Subscription) -> None:
    """Have `run_subscriptions` run it; called from `AppConfig.ready()`. Registering it again does nothing."""
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


# -- the lease ------------------------------------------------------------------------------------------------------

ROWS = """
select name, position, owner is not null and leased_until >= clock_timestamp()
  from events_checkpoint where split_part(name, '/', 1) = %s order by name
"""

ONE_AT_A_TIME = "select pg_advisory_xact_lock(17779, hashtext(%s))"

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
returning position, fence, epoch::text
"""

RELEASE = "update events_checkpoint set owner = null, leased_until = null where name = %s and owner = %s returning name"

ADVANCE = """
update events_checkpoint set position = %(position)s, updated_at = clock_timestamp(), error = null
 where name = %(name)s and fence = %(fence)s and owner = %(owner)s and position <= %(position)s returning name
"""


class Lease(msgspec.Struct, kw_only=True):
    """Being the active runner of one checkpoint, until `renew_at` at least (of `time.monotonic`). `epoch` is the one
    that positions belonged to when the lease was last renewed; a new one is only drawn where connections are lost.
    """

    name: str
    partition: int
    owner: str
    position: int
    fence: int
    epoch: str
    renew_at: float

    def advance(self, reached: int) -> None:
        """Move the checkpoint, last thing in the transaction that had the effect; raises `LeaseLost`.

        Last, because it locks the row: a runner that hangs in its handler must not keep its heir from the lease.
        """
        fence = {"name": self.name, "fence": self.fence, "owner": self.owner, "position": reached}
        if not store.query(ADVANCE, fence):
            raise errors.LeaseLost(f"Another runner took over {self.name}.")


def owner_name() -> str:
    """Who we are in leases: host, process, and a part that no restarted process can have."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def acquire(
    subscription: Subscription, owner: str, seconds: float = LEASE_SECONDS, *, partition: int = 0
) -> Lease | None:
    """Take or renew the lease; None while another runner holds it. Times are the database's.

    Raises `HistoryRewound` when the checkpoint was ahead of the log where the epoch was drawn (`rewind` goes on).
    """
    ensure(subscription)
    name, now = subscription.checkpoints[partition], head.epoch()
    found = store.query(ACQUIRE, {"name": name, "owner": owner, "seconds": seconds})
    if not found:
        return None
    position, fence, epoch = found[0]
    if epoch != now:
        release(subscription, owner, partition=partition)
        raise errors.HistoryRewound(
            f"{name} stands at {position} of another history: the log was restored to less than that. Put right what "
            "it did for events that are gone, then rewind it."
        )
    renew_at = time.monotonic() + seconds / 3
    return Lease(
        name=name, partition=partition, owner=owner, position=position, fence=fence, epoch=epoch, renew_at=renew_at
    )


def release(subscription: Subscription, owner: str, *, partition: int = 0) -> None:
    """Give the lease back, so that another runner takes over at once."""
    store.query(RELEASE, (subscription.checkpoints[partition], owner))


def ensure(subscription: Subscription) -> None:
    """See that the checkpoints are those of the declaration: make them when it is new, all at one position.

    Another number of partitions than before is taken over only at rest: all of them at one position, none leased. Else
    a stream would move to a checkpoint that is behind, or ahead, of what was done for it; raises `PartitionsDiffer`.
    """
    wanted = sorted(subscription.checkpoints)
    if [row[0] for row in store.query(ROWS, (subscription.name,))] == wanted:
        return
    start = subscription.start if subscription.start is not None else head.safe()
    with transaction.atomic():
        store.execute(ONE_AT_A_TIME, (subscription.name,))
        rows = store.query(f"{ROWS} for update", (subscription.name,))
        names, positions = [row[0] for row in rows], {row[1] for row in rows}
        if names == wanted:
            return
        if len(positions) > 1 or any(row[2] for row in rows):
            raise errors.PartitionsDiffer(_differs(subscription, rows))
        store.execute(REMOVE, (names,))
        store.execute(CREATE, (positions.pop() if positions else start, wanted))


def _differs(subscription: Subscription, rows: Sequence[tuple[str, int, bool]]) -> str:
    stand = ", ".join(f"{name} at {position}{' (running)' if leased else ''}" for name, position, leased in rows)
    return (
        f"{subscription.name} is declared with {subscription.partitions} partitions, but its checkpoints are {stand}. "
        "Run it as it was until all have come to one position (subscriptions.settle), stop it, then change the number."
    )


# -- setting one back -----------------------------------------------------------------------------------------------

REWIND = """
update events_checkpoint
   set position = %s, epoch = (select epoch from events_epoch), fence = fence + 1, owner = null, leased_until = null,
       updated_at = clock_timestamp(), error = null
 where split_part(name, '/', 1) = %s returning name
"""


@types.event_type("subscription.rewound")
class SubscriptionRewound(types.Event, frozen=True):
    """A person set a subscription to another position: from there on, events have their effect again."""

    position: int
    before: tuple[int, ...]


def rewind(subscription: Subscription | str, position: int, reason: str) -> None:
    """Set all checkpoints of a subscription to a position of the log of now; whoever runs it starts over there.

    Written down in the stream `subscription-<name>`. Raises `InvalidCommand`, `UnknownSubscription`.
    """
    found, safe = find(subscription), head.safe()
    if not reason.strip():
        raise errors.InvalidCommand(fields={"reason": "Say why this subscription is set back."})
    if not 0 <= position <= safe:
        raise errors.InvalidCommand(fields={"position": f"The log goes from 0 to {safe}."})
    head.epoch()
    with context.acting(reason=reason.strip()), transaction.atomic():
        before = tuple(row[1] for row in store.query(f"{ROWS} for update", (found.name,)))
        store.execute(REWIND, (position, found.name))
        store.append(f"subscription-{found.name}", [SubscriptionRewound(position=position, before=before)])
