"""Status of subscriptions for operators: events left to handle, the age of the oldest, and a state in one word."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec

from events import decoding, head, store
from events.subscriptions import checkpoints, parked
from events.subscriptions.checkpoints import Subscription, registered

COUNTED: Final = 10_000  # most events that are counted
LATE: Final = 30.0  # age in seconds of the oldest unhandled event that makes a running subscription late

State: TypeAlias = Literal["running", "late", "failing", "stopped", "new", "unknown"]

CHECKPOINTS = (
    "select name, position, owner, leased_until, updated_at, error, fence from events_checkpoint order by name"
)


class CheckpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint. `lag` is in positions, which have holes; `parked` counts streams.

    `owner` is None when no runner holds the lease: never begun, stopped, or killed and the lease has expired.
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


def checkpoint_statuses() -> list[CheckpointStatus]:
    """All checkpoints, with those of registered subscriptions that have not begun."""
    safe, now = head.safe(), store.query("select clock_timestamp()")[0][0]
    rows = {row[0]: row for row in store.query(CHECKPOINTS)}
    parked_streams = parked.count_by_checkpoint(rows)
    unbegun = {name for known in registered() for name in known.checkpoints} - rows.keys()
    found = [CheckpointStatus(name=name, position=0, head=safe, lag=safe) for name in unbegun]
    for name, reached, owner, until, updated_at, error, fence in rows.values():
        alive = until is not None and until >= now
        found.append(
            CheckpointStatus(
                name=name,
                position=reached,
                head=safe,
                lag=max(safe - reached, 0),
                owner=owner if alive else None,
                leased_until=until if alive else None,
                updated_at=updated_at,
                error=error,
                parked=parked_streams.get(name, 0),
                fence=fence,
            )
        )
    return sorted(found, key=lambda one: one.name)


# -- with the events left to handle -----------------------------------------------------------------------------------

# For each position how many events follow it up to the head, and when the first of them was recorded.
BEHIND = f"""
select p.position, few.n, first.recorded_at, extract(epoch from clock_timestamp() - first.recorded_at)::float
  from unnest(%(positions)s::bigint[]) as p(position)
 cross join lateral (select count(*) as n from (
       select 1 from events_event
        where events_event.position > p.position and events_event.position <= %(upto)s limit %(counted)s) counted) few
  left join lateral (select {decoding.INSTANT} as recorded_at from events_event
        where events_event.position > p.position and events_event.position <= %(upto)s
        order by events_event.position limit 1) first on true
"""  # noqa: S608 - a constant


class SubscriptionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one checkpoint, with the events it has left to handle.

    state    running; late (the oldest event left is older than `LATE` seconds); failing (its last turn ended with an
             error); stopped (no runner); new (never begun); unknown (its subscription is not declared)
    behind   events up to the head that are not handled; more than `COUNTED` when `many`
    seconds  the age of the first of them, None when there is none
    """

    checkpoint: CheckpointStatus
    state: State
    behind: int
    many: bool
    since: datetime | None
    seconds: float | None
    declared: Subscription | None

    @property
    def subscription(self) -> str:
        return self.checkpoint.name.partition("/")[0]


def statuses(subscription: str | None = None) -> list[SubscriptionStatus]:
    """All checkpoints, or those of one subscription, sorted by name."""
    found = [one for one in checkpoint_statuses() if subscription in (None, one.name.partition("/")[0])]
    behind = _behind({one.position for one in found}, max((one.head for one in found), default=0))
    declared = {known.name: known for known in checkpoints.registered()}
    return [_status(one, behind[one.position], declared.get(one.name.partition("/")[0])) for one in found]


def count_after(position: int, upto: int) -> tuple[int, bool]:
    """Number of events after a position, up to another, and True when there are more than `COUNTED`."""
    count = _behind([position], upto)[position][0]
    return min(count, COUNTED), count > COUNTED


def _behind(positions: Iterable[int], upto: int) -> dict[int, tuple[int, datetime | None, float | None]]:
    asked = {"positions": list(positions), "upto": upto, "counted": COUNTED + 1}
    return {row[0]: (row[1], row[2], row[3]) for row in store.query(BEHIND, asked)}


def _status(
    status: CheckpointStatus, behind: tuple[int, datetime | None, float | None], declared: Subscription | None
) -> SubscriptionStatus:
    count, since, seconds = behind
    return SubscriptionStatus(
        checkpoint=status,
        state=_state(status, seconds, declared),
        behind=min(count, COUNTED),
        many=count > COUNTED,
        since=since,
        seconds=seconds,
        declared=declared,
    )


def _state(status: CheckpointStatus, seconds: float | None, declared: Subscription | None) -> State:
    if declared is None or status.name not in declared.checkpoints:
        return "unknown"
    if status.error:
        return "failing"
    if status.owner is None:
        return "new" if status.updated_at is None else "stopped"
    return "late" if seconds is not None and seconds > LATE else "running"
