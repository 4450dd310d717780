"""Poison events: put aside with their stream, seen by people, handled again or skipped by a person.

An event that its subscription cannot handle, or that cannot be read, parks its *stream* for that subscription. Later
events of the stream wait behind it, in order; every other stream flows. A person who has mended the cause calls
`replay`, or gives one event up with `skip`; both are written down in the stream `subscription-<name>`, with who and
why.

A runner that lets an event wait, and a person who lets a stream flow again, both end their transaction by locking the
checkpoint's row. The runner then looks again whether its events still have something to wait for, and starts over where
they have not: so no event is left waiting behind nothing, and none overtakes another.
"""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg
from django.db import connection, transaction

from events import context, errors, store, types
from events.subscriptions import checkpoints
from events.subscriptions.checkpoints import Subscription
from events.types import RecordedEvent

MAX_TEXT: Final = 20_000


@types.event_type("subscription.replayed")
class SubscriptionReplayed(types.Event, frozen=True):
    """A person had a parked event handled again, and it went through."""

    stream: str
    position: int
    attempts: int


@types.event_type("subscription.skipped")
class SubscriptionSkipped(types.Event, frozen=True):
    """A person gave a parked event up: this subscription will never have its effect."""

    stream: str
    position: int
    attempts: int


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A parked stream: the first event that stands in the way, and how many wait behind it.

    `error` is None when the first was given up, or handled, and the rest only waits to be replayed.
    """

    subscription: str
    stream: str
    position: int
    type: str | None
    version: int | None
    error: str | None
    traceback: str | None
    attempts: int
    parked_at: datetime
    tried_at: datetime | None
    waiting: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay came to: events handled, events still parked, and what the next one failed on.

    Events left without an error: the time was over, or somebody else is at it; replay again.
    """

    handled: int
    left: int
    error: str | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a parked stream: the one in the way, or one behind it. `type` is None when it is not in the log."""

    position: int
    version: int | None
    type: str | None
    recorded_at: datetime | None
    error: str | None
    attempts: int


# -- whose fault ----------------------------------------------------------------------------------------------------

# What a fresh attempt can settle: serialization failure, deadlock, lock or statement timeout.
TEMPORARY: Final = frozenset({"40001", "40P01", "55P03", "57014"})
# The database itself, or a deployment: lost connections, no resources, shutting down, I/O, read-only after a failover,
# tables, columns or functions that a migration should have made, and rights.
ELSEWHERE_CLASSES: Final = frozenset({"08", "53", "57", "58"})
ELSEWHERE: Final = frozenset({"25006", "42P01", "42703", "42883", "42501"})


def is_temporary(error: BaseException) -> bool:
    """May the same events go through when tried again at once?"""
    return isinstance(error, Unparked) or _sqlstate(error) in TEMPORARY


def is_elsewhere(error: BaseException) -> bool:
    """Is it no event's fault, so that parking would only hide what is wrong?"""
    if isinstance(error, errors.LeaseLost | errors.StoreUnavailable | errors.TooManyParked):
        return True
    raw: Any = connection.connection
    if raw is None or raw.closed:
        return True
    state = _sqlstate(error)
    return state not in TEMPORARY and (state[:2] in ELSEWHERE_CLASSES or state in ELSEWHERE)


def _sqlstate(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, psycopg.Error) and error.sqlstate:
            return error.sqlstate
        error = error.__cause__ or error.__context__
    return ""


# -- for the runner, inside its transaction -------------------------------------------------------------------------

STREAMS = "select distinct stream from events_parked where subscription = %s and stream = any(%s)"

COUNT = "select count(distinct stream) from events_parked where subscription = %s"

STILL_PARKED = """
select 1 from unnest(%s::text[], %s::bigint[]) as waiting(stream, position)
 where exists (select 1 from events_parked p
                where p.subscription = %s and p.stream = waiting.stream and p.position < waiting.position)
"""

PARK = """
insert into events_parked (subscription, stream, position, error, traceback, attempts, tried_at)
values (%s, %s, %s, %s, %s, 1, clock_timestamp())
"""

WAIT = """
insert into events_parked (subscription, stream, position)
select %s, stream, position from unnest(%s::text[], %s::bigint[]) as waiting(stream, position)
"""


def sift(
    subscription: Subscription, events: Sequence[RecordedEvent]
) -> tuple[Sequence[RecordedEvent], list[RecordedEvent]]:
    """The events to handle, and those of parked streams, which are written down as waiting."""
    rows = store.query(STREAMS, (subscription.name, list({event.stream for event in events})))
    if not rows:
        return events, []
    streams = {row[0] for row in rows}
    waiting = [event for event in events if event.stream in streams]
    positions = [event.position for event in waiting]
    store.execute(WAIT, (subscription.name, [event.stream for event in waiting], positions))
    return [event for event in events if event.stream not in streams], waiting


def demand_readable(events: Sequence[RecordedEvent]) -> None:
    """No handler gets an event that cannot be read: raises `UnreadableEvent`, so that its stream is parked."""
    for event in events:
        if event.unreadable:
            raise unreadable(event)


def unreadable(event: RecordedEvent) -> errors.UnreadableEvent:
    return errors.UnreadableEvent(event.unreadable or "", event.stream, event.version, event.position)


NOTE = """
insert into events_parked (subscription, stream, position, error, attempts, tried_at)
values (%s, %s, %s, %s, 1, clock_timestamp()) on conflict do nothing
"""


def note_unreadable(subscription: Subscription, events: Sequence[RecordedEvent]) -> None:
    """Park the unreadable events that were published as such. Their streams flow on: nothing waits behind them.

    At most `max_parked` are kept; the log itself has them all (`verify_events`).
    """
    found = [event for event in events if event.unreadable]
    if not found:
        return
    room = subscription.max_parked - store.query(COUNT, (subscription.name,))[0][0]
    for event in found[: max(room, 0)]:
        store.execute(NOTE, (subscription.name, event.stream, event.position, describe(unreadable(event))))


# Of a row of `events_parked`: was the event parked because it cannot be read? See `describe`.
IS_UNREADABLE = "starts_with(error, 'UnreadableEvent')"


class Unparked(errors.EventsError):
    """A stream was let flow again meanwhile: look once more."""


def confirm(subscription: Subscription, waiting: Sequence[RecordedEvent]) -> None:
    """What waits still waits behind something; raises `Unparked`. Call it with the checkpoint's row locked."""
    if waiting:
        first = {event.stream: event.position for event in reversed(waiting)}
        found = store.query(STILL_PARKED, (list(first), list(first.values()), subscription.name))
        if len(found) < len(first):
            raise Unparked


def park(subscription: Subscription, event: RecordedEvent, error: Exception) -> None:
    """Put the event's stream aside. Raises `TooManyParked` when that would be one too many."""
    if store.query(COUNT, (subscription.name,))[0][0] >= subscription.max_parked:
        raise errors.TooManyParked(
            f"{subscription.name} has {subscription.max_parked:,} streams parked and stops at {event.position}, which "
            f"fails as well ({describe(error)}). Mend the cause and replay some, or skip them."
        ) from error
    store.execute(PARK, (subscription.name, event.stream, event.position, describe(error), told(error)))


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\0", "")[:2000]


def told(error: BaseException) -> str:
    """The traceback as text; of a long one its end, which says what happened."""
    return "".join(traceback.format_exception(error)).replace("\0", "")[-MAX_TEXT:]


# -- for people -----------------------------------------------------------------------------------------------------

PARKED = """
select p.subscription, p.stream, p.position, e.type, e.version, p.error, p.traceback, p.attempts, p.parked_at,
       p.tried_at, p.waiting
  from (select distinct on (subscription, stream) *,
               count(*) over (partition by subscription, stream) - 1 as waiting
          from events_parked
         where (%(subscription)s::text is null or subscription = %(subscription)s)
           and (%(stream)s::text is null or stream = %(stream)s)
         order by subscription, stream, position) p
  left join events_event e on e.position = p.position
 where p.position > %(after)s
 order by p.subscription, p.position limit %(limit)s
"""

BEHIND = f"""
select p.position, e.version, e.type, {store.INSTANT}, p.error, p.attempts
  from events_parked p left join events_event e on e.position = p.position
 where p.subscription = %s and p.stream = %s order by p.position limit %s
"""  # noqa: S608 - a constant

FIRST = """
select position, attempts from events_parked where subscription = %s and stream = %s order by position limit 1
   for update
"""

LOCK = "select 1 from events_checkpoint where name = %s for no key update"

DONE = "delete from events_parked where subscription = %s and stream = %s and position = %s returning attempts"

FAILED = """
update events_parked set error = %s, traceback = %s, attempts = attempts + 1, tried_at = clock_timestamp()
 where subscription = %s and stream = %s and position = %s
"""

LEFT = "select count(*) from events_parked where subscription = %s and stream = %s"


def parked(
    subscription: str | None = None, stream: str | None = None, limit: int = 1000, *, after: int = 0
) -> list[Parked]:
    """Parked streams, of one subscription or of all, those that fail at the lowest position first; of one subscription
    also only those whose first stands `after` a position.
    """
    names = Parked.__struct_fields__
    asked = {"subscription": subscription, "stream": stream, "after": after, "limit": limit}
    return [Parked(**dict(zip(names, row, strict=True))) for row in store.query(PARKED, asked)]


def waiting(subscription: str, stream: str, limit: int = 100) -> list[Waiting]:
    """The events of a parked stream in order: the one in the way first."""
    names = Waiting.__struct_fields__
    rows = store.query(BEHIND, (subscription, stream, limit))
    return [Waiting(**dict(zip(names, row, strict=True))) for row in rows]


def count_by_checkpoint(checkpoint_names: Iterable[str]) -> dict[str, int]:
    """Parked streams of each of these checkpoints that has any."""
    partitions = Counter(name.partition("/")[0] for name in checkpoint_names if "/" in name)
    counts: Counter[str] = Counter()
    for name, stream in store.query("select distinct subscription, stream from events_parked"):
        several = partitions[name]
        counts[f"{name}/{checkpoints.partition_of(stream, several)}" if several else name] += 1
    return counts


def replay(subscription: Subscription | str, stream: str, *, seconds: float = math.inf) -> Outcome:
    """Handle what is parked of a stream, in order, each event in a transaction of its own, until one fails, none is
    left or the time is over; without any left the stream flows again. Raises `UnknownSubscription`, `NotParked`.
    """
    found, until = checkpoints.find(subscription), time.monotonic() + seconds
    if not _left(found, stream):
        raise errors.NotParked(f"Nothing of {stream} is parked for {found.name}.")
    handled = 0
    with context.acting():
        while left := _left(found, stream):
            try:
                handled += _replay_first(found, stream)
            except _Failed as failed:
                return Outcome(handled=handled, left=left, error=describe(failed.error))
            if time.monotonic() >= until:
                break
    return Outcome(handled=handled, left=_left(found, stream))


def replay_each(subscription: Subscription | str, streams: Iterable[str], *, seconds: float) -> dict[str, Outcome]:
    """`replay` for several streams, until the time is over: what the answer lacks was not begun, or flows by now."""
    outcomes: dict[str, Outcome] = {}
    until = time.monotonic() + seconds
    for stream in streams:
        if (rest := until - time.monotonic()) <= 0:
            break
        with contextlib.suppress(errors.NotParked):
            outcomes[stream] = replay(subscription, stream, seconds=rest)
    return outcomes


def _left(subscription: Subscription, stream: str) -> int:
    count: int = store.query(LEFT, (subscription.name, stream))[0][0]
    return count


class _Failed(Exception):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _replay_first(subscription: Subscription, stream: str) -> bool:
    """Handle the first parked event of a stream. False when somebody else was doing that and we only waited for it;
    `_Failed` when it fails still.
    """
    position = 0
    try:
        with transaction.atomic():
            first = store.query(FIRST, (subscription.name, stream))
            if not first:
                return False
            position, attempts = first[0]
            event = _event_at(position)
            demand_readable([event])
            if subscription.handle is not None:  # what was published is out already
                subscription.handle([event])
            store.query(LOCK, (subscription.checkpoint_of(stream),))
            store.query(DONE, (subscription.name, stream, position))
            _write_down(subscription, SubscriptionReplayed(stream=stream, position=position, attempts=attempts + 1))
    except Exception as error:
        if is_elsewhere(error):
            raise
        store.execute(FAILED, (describe(error), told(error), subscription.name, stream, position))
        raise _Failed(error) from error
    return True


def skip(subscription: Subscription | str, stream: str, position: int, reason: str) -> None:
    """Give a parked event up; those behind it still wait for `replay`. Raises `NotParked`, `InvalidCommand`."""
    found = checkpoints.find(subscription)
    if not reason.strip():
        raise errors.InvalidCommand(fields={"reason": "Enter a reason for skipping this event."})
    with context.acting(reason=reason.strip()), transaction.atomic():
        gone = store.query(DONE, (found.name, stream, position))
        if not gone:
            raise errors.NotParked(f"Event {position} of {stream} is not parked for {found.name}.")
        store.query(LOCK, (found.checkpoint_of(stream),))
        _write_down(found, SubscriptionSkipped(stream=stream, position=position, attempts=gone[0][0]))


def _event_at(position: int) -> RecordedEvent:
    found = store.read_all(position - 1, 1, upto=position)
    if not found:
        raise errors.StreamNotFound(f"Event {position} is not in the log any more.")
    return found[0]


def _write_down(subscription: Subscription, event: types.Event) -> None:
    store.append(types.stream_name("subscription", subscription.name), [event])
