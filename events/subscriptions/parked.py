"""Poison events: parked with their stream until a person replays or skips them.

An event that its subscription cannot handle, or that cannot be read, parks its *stream* for that subscription. Later
events of the stream wait behind it, in order; all other streams continue. A person who has fixed the cause calls
`replay`, or gives up one event with `skip`. Both are recorded in the stream `subscription-<name>`, with actor
and reason.

A runner that lets an event wait, and a person who unparks a stream, both end their transaction by locking the
checkpoint's row. The runner then checks again that its waiting events still wait behind something, and starts over if
not. So every waiting event has a parked one before it, and no event overtakes another.
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
from django.db import connection, transaction

from events import context, decoding, errors, store, types
from events.db import driver_errors
from events.subscriptions import checkpoints
from events.subscriptions.checkpoints import Subscription
from events.types import RecordedEvent

MAX_TEXT: Final = 20_000


@types.event_type("subscription.replayed")
class SubscriptionReplayed(types.Event, frozen=True):
    """A person had a parked event handled again, and it succeeded."""

    stream: str
    position: int
    attempts: int


@types.event_type("subscription.skipped")
class SubscriptionSkipped(types.Event, frozen=True):
    """A person skipped a parked event: it never has its effect in this subscription."""

    stream: str
    position: int
    attempts: int


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A parked stream: its first parked event, and how many wait behind it.

    `error` is None when the failed event was skipped or handled, and the rest only waits to be replayed.
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
    """The outcome of a replay: events handled, events still parked, and the error of the next one.

    Events left without an error: the time limit was reached, or another replay is running; replay again.
    """

    handled: int
    left: int
    error: str | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a parked stream: the first, or one behind it.

    `version`, `type` and `recorded_at` are None when the event is not in the log any more.
    """

    position: int
    version: int | None
    type: str | None
    recorded_at: datetime | None
    error: str | None
    attempts: int


# -- causes -----------------------------------------------------------------------------------------------------------


def is_temporary(error: BaseException) -> bool:
    """True when the same events may succeed if they are tried again at once."""
    return isinstance(error, Unparked) or driver_errors.is_temporary(error)


def is_systemic(error: BaseException) -> bool:
    """True when no event is at fault, so that parking would only hide the cause."""
    if isinstance(error, errors.LeaseLost | errors.StoreUnavailable | errors.TooManyParked):
        return True
    raw: Any = connection.connection
    return raw is None or raw.closed or driver_errors.is_environment(error)


# -- for the runner, inside its transaction ---------------------------------------------------------------------------

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


def split_parked(
    subscription: Subscription, events: Sequence[RecordedEvent]
) -> tuple[Sequence[RecordedEvent], list[RecordedEvent]]:
    """Returns (events to handle, events of parked streams); records the latter as waiting."""
    rows = store.query(STREAMS, (subscription.name, list({event.stream for event in events})))
    if not rows:
        return events, []
    streams = {row[0] for row in rows}
    waiting = [event for event in events if event.stream in streams]
    positions = [event.position for event in waiting]
    store.execute(WAIT, (subscription.name, [event.stream for event in waiting], positions))
    return [event for event in events if event.stream not in streams], waiting


def require_readable(events: Sequence[RecordedEvent]) -> None:
    """Raises `UnreadableEvent` for the first unreadable event, so that its stream is parked."""
    for event in events:
        if event.unreadable:
            raise unreadable(event)


def unreadable(event: RecordedEvent) -> errors.UnreadableEvent:
    return errors.UnreadableEvent(event.unreadable or "", event.stream, event.version, event.position)


NOTE = """
insert into events_parked (subscription, stream, position, error, attempts, tried_at)
values (%s, %s, %s, %s, 1, clock_timestamp()) on conflict do nothing
"""


def record_unreadable(subscription: Subscription, events: Sequence[RecordedEvent]) -> None:
    """Record unreadable events that were published as such. Nothing waits behind them: their streams continue.

    At most `max_parked` are recorded; the log itself has them all (`verify_events`).
    """
    found = [event for event in events if event.unreadable]
    if not found:
        return
    free = subscription.max_parked - store.query(COUNT, (subscription.name,))[0][0]
    for event in found[: max(free, 0)]:
        store.execute(NOTE, (subscription.name, event.stream, event.position, describe(unreadable(event))))


# SQL condition on `events_parked`: parked because the event is unreadable; see `describe`.
IS_UNREADABLE = "starts_with(error, 'UnreadableEvent')"


class Unparked(errors.EventsError):
    """A stream was unparked meanwhile; the runner starts over."""


def confirm(subscription: Subscription, waiting: Sequence[RecordedEvent]) -> None:
    """Raises `Unparked` unless all waiting events still wait behind a parked one. Needs the checkpoint's row lock."""
    if waiting:
        first = {event.stream: event.position for event in reversed(waiting)}
        found = store.query(STILL_PARKED, (list(first), list(first.values()), subscription.name))
        if len(found) < len(first):
            raise Unparked


def park(subscription: Subscription, event: RecordedEvent, error: Exception) -> None:
    """Park the event's stream. Raises `TooManyParked` at `max_parked` streams."""
    if store.query(COUNT, (subscription.name,))[0][0] >= subscription.max_parked:
        raise errors.TooManyParked(
            f"{subscription.name} has {subscription.max_parked:,} streams parked and stops at {event.position}, which "
            f"fails as well ({describe(error)}). Fix the cause and replay some, or skip them."
        ) from error
    store.execute(PARK, (subscription.name, event.stream, event.position, describe(error), traceback_of(error)))


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\0", "")[:2000]


def traceback_of(error: BaseException) -> str:
    """The traceback as text; only the end of a long one, which holds the cause."""
    return "".join(traceback.format_exception(error)).replace("\0", "")[-MAX_TEXT:]


# -- for people -------------------------------------------------------------------------------------------------------

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

WAITING = f"""
select p.position, e.version, e.type, {decoding.INSTANT}, p.error, p.attempts
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
    """Parked streams, of one subscription or of all, by subscription and position of their first parked event.

    With `after` only those whose first parked event has a higher position.
    """
    names = Parked.__struct_fields__
    asked = {"subscription": subscription, "stream": stream, "after": after, "limit": limit}
    return [Parked(**dict(zip(names, row, strict=True))) for row in store.query(PARKED, asked)]


def waiting(subscription: str, stream: str, limit: int = 100) -> list[Waiting]:
    """The parked events of a stream, in order."""
    names = Waiting.__struct_fields__
    rows = store.query(WAITING, (subscription, stream, limit))
    return [Waiting(**dict(zip(names, row, strict=True))) for row in rows]


def count_by_checkpoint(checkpoint_names: Iterable[str]) -> dict[str, int]:
    """Number of parked streams by checkpoint, for these checkpoints; those without any are left out."""
    partitions = Counter(name.partition("/")[0] for name in checkpoint_names if "/" in name)
    counts: Counter[str] = Counter()
    for name, stream in store.query("select distinct subscription, stream from events_parked"):
        several = partitions[name]
        counts[f"{name}/{checkpoints.partition_of(stream, several)}" if several else name] += 1
    return counts


def replay(subscription: Subscription | str, stream: str, *, seconds: float = math.inf) -> Outcome:
    """Handle the parked events of a stream in order, until one fails or the time limit is reached.

    Each event has a transaction of its own. With none left the stream is unparked. Raises `UnknownSubscription`,
    `NotParked`.
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
    """Replay several streams within a time limit; omits streams that were not begun or are no longer parked."""
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
    """Handle the first parked event of a stream; False when another replay handled it first.

    Raises `_Failed` when it fails again.
    """
    position = 0
    try:
        with transaction.atomic():
            first = store.query(FIRST, (subscription.name, stream))
            if not first:
                return False
            position, attempts = first[0]
            event = _event_at(position)
            require_readable([event])
            if subscription.handle is not None:  # a published event has had its effect
                subscription.handle([event])
            store.query(LOCK, (subscription.checkpoint_of(stream),))
            store.query(DONE, (subscription.name, stream, position))
            _record(subscription, SubscriptionReplayed(stream=stream, position=position, attempts=attempts + 1))
    except Exception as error:
        if is_systemic(error):
            raise
        store.execute(FAILED, (describe(error), traceback_of(error), subscription.name, stream, position))
        raise _Failed(error) from error
    return True


def skip(subscription: Subscription | str, stream: str, position: int, reason: str) -> None:
    """Skip a parked event; those behind it still wait for `replay`. Raises `NotParked`, `InvalidCommand`."""
    found = checkpoints.find(subscription)
    if not reason.strip():
        raise errors.InvalidCommand(fields={"reason": "Enter a reason: required to skip an event."})
    with context.acting(reason=reason.strip()), transaction.atomic():
        gone = store.query(DONE, (found.name, stream, position))
        if not gone:
            raise errors.NotParked(f"Event {position} of {stream} is not parked for {found.name}.")
        store.query(LOCK, (found.checkpoint_of(stream),))
        _record(found, SubscriptionSkipped(stream=stream, position=position, attempts=gone[0][0]))


def _event_at(position: int) -> RecordedEvent:
    found = store.read_all(position - 1, 1, upto=position)
    if not found:
        raise errors.StreamNotFound(f"Event {position} is not in the log any more.")
    return found[0]


def _record(subscription: Subscription, event: types.Event) -> None:
    store.append(types.stream_name("subscription", subscription.name), [event])
