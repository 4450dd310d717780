"""The queue of deliveries in PostgreSQL: settle, claim, mark. All times are the database's.

A delivery is *waiting* until it is delivered, dropped (not needed any more) or failed (given up). A sender claims it
for `LEASE` seconds (``for update skip locked``), sends it, and marks it. The lease of a sender that dies expires, and
the next one sends again with the same `message_id`: each is sent at least once, and receivers recognize repetitions.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, time
from typing import Any, Final

import msgspec
from django.db import transaction

from events import store, strict_json, types
from metrics.monitoring.notify import channel_events, muting, planner
from metrics.monitoring.notify.windows import DailyWindow

LEASE: Final = 60.0
GROUP_LIMIT: Final = 50
DELAYS: Final = (5, 30, 120, 600, 1800, 3600)  # seconds after the first, second … failed attempt
PAUSE_AFTER: Final = 20  # failed attempts in a row

NOT_LEASED: Final = "(d.leased_until is null or d.leased_until < clock_timestamp())"
SAME: Final = "o.alert = d.alert and o.episode = d.episode and o.channel_id = d.channel_id"

# A newer message of the episode says all that an older one says.
SUPERSEDE: Final = f"""
update metrics_delivery set state = 'dropped', why = 'superseded', finished_at = clock_timestamp() where id in (
    select d.id from metrics_delivery d
     where d.state in ('waiting', 'muted') and d.alert <> '' and {NOT_LEASED}
       and exists (select 1 from metrics_delivery o where {SAME} and o.id > d.id)
     order by d.id for update of d skip locked)
"""  # noqa: S608 - constants

# "Resolved" is not sent where no message of the episode can have arrived. An attempt without an end, or without an
# answer, may have arrived.
NEVER_TOLD: Final = f"""
update metrics_delivery set state = 'dropped', why = 'never_notified', finished_at = clock_timestamp() where id in (
    select d.id from metrics_delivery d
     where d.state = 'waiting' and d.kind = 'resolved' and d.attempts = 0
       and not exists (
           select 1 from metrics_delivery o where {SAME} and o.id < d.id and (
               o.state = 'delivered' or exists (
                   select 1 from metrics_attempt a where a.delivery_id = o.id and a.outcome <> 'failed')))
     order by d.id for update of d skip locked)
"""  # noqa: S608

GIVE_UP: Final = f"""
update metrics_delivery set state = 'failed', why = case when attempts > 0 then 'gave_up' else 'not_sent' end,
       finished_at = clock_timestamp(), leased_until = null
 where id in (select d.id from metrics_delivery d
               where d.state = 'waiting' and d.expires_at < clock_timestamp() and {NOT_LEASED}
               order by d.id for update of d skip locked)
"""  # noqa: S608

READY: Final = f"""
    d.state = 'waiting' and d.due <= clock_timestamp() and {NOT_LEASED} and c.deleted_at is null
    and (c.paused_at is null or d.kind = 'test')
    and not exists (select 1 from metrics_delivery o
                     where {SAME} and d.alert <> '' and o.id < d.id and o.state = 'waiting')
"""  # noqa: S608

COLUMNS: Final = """
    d.id, d.message_id, d.alert, d.episode, d.cause, d.kind, d.severity, d.facts::text, d.late, d.attempts, d.batch,
    d.decided_at
"""

# Critical messages first, and channels that work before those that fail and may take long.
FIRST: Final = f"""
select c.id, {COLUMNS} from metrics_delivery d join metrics_channel c on c.id = d.channel_id
 where {READY} and c.id <> all(%(without)s) and (%(only)s::bigint is null or d.id = %(only)s)
 order by c.failures > 0, d.severity <> 'critical', d.due, d.id limit 1 for update of d skip locked
"""  # noqa: S608

REST: Final = f"""
select {COLUMNS} from metrics_delivery d join metrics_channel c on c.id = d.channel_id
 where {READY} and c.id = %(channel)s and d.kind <> 'test' and d.id <> %(first)s
   and d.batch is not distinct from %(batch)s order by d.id limit %(limit)s for update of d skip locked
"""  # noqa: S608

CHANNEL: Final = """
select id, name, kind, recipients, secret, language, quiet_from, quiet_until, zone, clock_timestamp()
  from metrics_channel where id = %s
"""

MUTE: Final = "update metrics_delivery set state = 'muted', why = %s where id = %s"
POSTPONE: Final = "update metrics_delivery set due = %s, expires_at = %s, why = 'quiet_hours' where id = %s"

TAKE: Final = """
with taken as (
    update metrics_delivery set leased_until = clock_timestamp() + %(lease)s * interval '1 second', why = '',
           attempts = attempts + 1, batch = coalesce(batch, %(batch)s) where id = any(%(ids)s)
    returning id, attempts)
insert into metrics_attempt (delivery_id, number, started_at, sender)
select id, attempts, clock_timestamp(), %(sender)s from taken
"""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """The channel of a batch as its sender needs it. `secret` is still encrypted; `now` the time of the claim."""

    id: uuid.UUID
    name: str
    kind: str
    recipients: Sequence[str]
    secret: bytes | None
    language: str
    quiet_from: time | None
    quiet_until: time | None
    zone: str
    now: datetime

    def quiet_end(self) -> datetime | None:
        """The end of the quiet hours that cover `now`; None outside them."""
        if self.quiet_from is None or self.quiet_until is None:
            return None
        window = DailyWindow(start=self.quiet_from, end=self.quiet_until, zone=self.zone)
        return window.end_after(self.now) if window.covers(self.now) else None


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that this sender may send. `attempt` numbers the attempt, from 1."""

    id: int
    message_id: uuid.UUID
    alert: str
    episode: int
    cause: str
    kind: str
    severity: str
    facts: dict[str, Any]
    late: bool
    attempt: int
    batch: uuid.UUID | None
    decided_at: datetime


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries that go to one channel in one message, named `message_id` at every attempt."""

    channel: Channel
    message_id: uuid.UUID
    deliveries: Sequence[Claimed]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an attempt.

    outcome      delivered, failed (it did not arrive) or unknown (it may have arrived)
    detail       a status or an error in a few words; never content of the answer
    retry_after  seconds that the receiver asked to wait
    gone         the receiver wants no more messages (410)
    """

    outcome: str
    detail: str
    retry_after: float | None = None
    gone: bool = False


# -- settle -----------------------------------------------------------------------------------------------------------


def settle() -> None:
    """Drop messages that are not needed any more, and give up those that are too old."""
    store.execute(SUPERSEDE)
    store.execute(NEVER_TOLD)
    store.execute(GIVE_UP)


# -- claim ------------------------------------------------------------------------------------------------------------


def claim(
    sender: str, *, lease: float = LEASE, without: Collection[uuid.UUID] = (), only: int | None = None
) -> Batch | None:
    """Claim the next batch that is due, or the delivery `only`; None when there is none.

    1  the first delivery; to channels of people also the rest that is due, or was in its batch
    2  muted ones are kept for `sweep`; those in the quiet hours of the channel wait for their end
    3  lease the others, and record the attempt before it is made
    """
    while True:
        with transaction.atomic():
            found = store.query(FIRST, {"without": list(without), "only": only})
            if not found:
                return None
            channel = _channel(found[0][0])
            first = _claimed(found[0][1:])
            deliveries = [first, *_rest(channel, first)]
            sendable = _without_waiting(channel, deliveries)
            if sendable:
                message_id = first.batch or sendable[0].message_id
                ids = [delivery.id for delivery in sendable]
                store.execute(TAKE, {"lease": lease, "ids": ids, "batch": message_id, "sender": sender})
        if sendable:
            return Batch(channel=channel, message_id=message_id, deliveries=sendable)


def _channel(channel: uuid.UUID) -> Channel:
    row = store.query(CHANNEL, (channel,))[0]
    found = dict(zip(Channel.__struct_fields__, row, strict=True))
    return Channel(**{**found, "secret": None if found["secret"] is None else bytes(found["secret"])})


def _claimed(row: Sequence[Any]) -> Claimed:
    found = dict(zip(Claimed.__struct_fields__, row, strict=True))
    return Claimed(**{**found, "facts": strict_json.stored(found["facts"]), "attempt": found["attempt"] + 1})


def _rest(channel: Channel, first: Claimed) -> list[Claimed]:
    if channel.kind == "webhook" or first.kind == "test":
        return []
    wanted = {"channel": channel.id, "first": first.id, "batch": first.batch, "limit": GROUP_LIMIT - 1}
    return [_claimed(row) for row in store.query(REST, wanted)]


def _without_waiting(channel: Channel, deliveries: Sequence[Claimed]) -> list[Claimed]:
    """The deliveries that need not wait; the others are muted or postponed."""
    muted = muting.current(channel.now)
    quiet_end = channel.quiet_end()
    found = []
    for one in deliveries:
        reason = muted.reason(one.alert, one.episode, one.severity, one.kind) if _can_wait(one) else ""
        if reason:
            store.execute(MUTE, (reason, one.id))
        elif quiet_end is not None and one.severity != "critical" and one.kind not in ("test", "notice"):
            store.execute(POSTPONE, (quiet_end, quiet_end + planner.GIVE_UP, one.id))
        else:
            found.append(one)
    return found


def _can_wait(one: Claimed) -> bool:
    """Whether silences and inhibition apply to a delivery."""
    return bool(one.alert) and one.kind != "resolved"


# -- mark -------------------------------------------------------------------------------------------------------------

END_ATTEMPT: Final = """
update metrics_attempt set finished_at = clock_timestamp(), outcome = %s, answer = %s
 where delivery_id = %s and number = %s
"""

# The first sender that succeeds sets the time, even if its lease expired meanwhile.
DELIVERED: Final = """
update metrics_delivery set state = 'delivered', delivered_at = clock_timestamp(), finished_at = clock_timestamp(),
       leased_until = null, answer = %s, why = '' where id = %s and state <> 'delivered'
"""

# Only the newest attempt may schedule the next one.
RETRY: Final = """
update metrics_delivery set leased_until = null, answer = %s, due = clock_timestamp() + %s * interval '1 second'
 where id = %s and attempts = %s and state = 'waiting'
"""

FAILED: Final = """
update metrics_delivery
   set state = 'failed', why = %s, leased_until = null, finished_at = clock_timestamp(), answer = %s
 where id = %s and attempts = %s and state = 'waiting'
"""

WORKS: Final = "update metrics_channel set failures = 0 where id = %s and failures > 0"
FAILS: Final = "update metrics_channel set failures = failures + 1 where id = %s returning failures, paused_at is null"
PAUSE: Final = """
update metrics_channel set paused_at = clock_timestamp(), paused_why = %s
 where id = %s and paused_at is null and deleted_at is null returning id
"""
OTHERS: Final = "select 1 from metrics_channel where id <> %s and paused_at is null and deleted_at is null limit 1"


def mark(batch: Batch, answer: Answer) -> None:
    """Record how an attempt ended, when the next one is due, and pause a channel that fails too often."""
    is_test = batch.deliveries[0].kind == "test"
    with transaction.atomic():
        for one in batch.deliveries:
            store.execute(END_ATTEMPT, (answer.outcome, answer.detail[:200], one.id, one.attempt))
            if answer.outcome == "delivered":
                store.execute(DELIVERED, (answer.detail[:200], one.id))
            elif is_test:
                store.execute(FAILED, ("test", answer.detail[:200], one.id, one.attempt))
            else:
                wait = delay(one.attempt, answer.retry_after)
                store.execute(RETRY, (answer.detail[:200], wait, one.id, one.attempt))
        why = _counted(batch.channel, answer, is_test=is_test)
    if why:
        with transaction.atomic():
            planner.lock_channels()  # all at once and in order, so that two of these cannot block each other
            pause(batch.channel.id, batch.channel.name, why)
    settle()


def delay(attempt: int, retry_after: float | None = None) -> float:
    """Seconds between this failed attempt and the next; a receiver may ask for more, up to the longest delay."""
    usual = DELAYS[min(attempt, len(DELAYS)) - 1]
    return max(usual, min(retry_after or 0.0, DELAYS[-1]))


def _counted(channel: Channel, answer: Answer, *, is_test: bool) -> str:
    """Count failures in a row; returns why the channel must be paused, or nothing.

    Too many failures pause the channel, unless no other channel could report that. 410 pauses it at once.
    """
    if answer.outcome == "delivered":
        store.execute(WORKS, (channel.id,))
    elif answer.gone:
        return "gone"
    elif not is_test:
        failures, runs = store.query(FAILS, (channel.id,))[0]
        if runs and failures >= PAUSE_AFTER and store.query(OTHERS, (channel.id,)):
            return "failures"
    return ""


def pause(channel: uuid.UUID, name: str, why: str) -> bool:
    """Pause a channel, and have the others report it; False when it was paused before. In the caller's transaction."""
    if not store.query(PAUSE, (why, channel)):
        return False
    stream = types.stream_name(channel_events.CATEGORY, channel)
    version = store.append(stream, [channel_events.ChannelPaused(why=why)]).version
    if why != "by_hand":
        planner.notice(channel, f"paused-{channel}-{version}", {"channel": name, "why": why})
    return True


# -- sweep ------------------------------------------------------------------------------------------------------------

MUTED: Final = """
select id, clock_timestamp(), alert, episode, severity, kind from metrics_delivery d where state = 'muted'
 order by id limit 1000 for update skip locked
"""

RELEASE: Final = """
update metrics_delivery set state = 'waiting', why = '', late = true, due = %s, expires_at = %s where id = %s
"""

# Episodes of which a message may have arrived, or is still to be sent.
KNOWN: Final = """
select distinct d.alert, d.episode from metrics_delivery d
  join unnest(%s::text[], %s::integer[]) wanted (alert, episode) using (alert, episode)
 where d.state in ('waiting', 'muted', 'delivered')
    or exists (select 1 from metrics_attempt a where a.delivery_id = d.id and a.outcome <> 'failed')
"""


def release() -> int:
    """Release muted deliveries that nothing mutes any more; returns how many."""
    with transaction.atomic():
        found = store.query(MUTED)
        if not found:
            return 0
        at = found[0][1]
        muted = muting.current(at)
        free = [delivery for delivery, _at, *about in found if not muted.reason(*about)]
        for delivery in free:
            store.execute(RELEASE, (at, at + planner.GIVE_UP, delivery))
    return len(free)


def known_episodes(wanted: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """The episodes among these of which a message arrived, may have arrived or is still to be sent."""
    alerts, episodes = [alert for alert, _ in wanted], [episode for _, episode in wanted]
    return {(alert, episode) for alert, episode in store.query(KNOWN, (alerts, episodes))}


AGE: Final = """
select coalesce(extract(epoch from clock_timestamp() - min(d.due)), 0)::float8
  from metrics_delivery d join metrics_channel c on c.id = d.channel_id
 where d.state = 'waiting' and d.due < clock_timestamp() and d.attempts = 0 and c.paused_at is null
"""


def age() -> float:
    """Seconds for which the oldest delivery has been due without an attempt, for the metric `notify.age`."""
    found: float = store.query(AGE)[0][0]
    return found
