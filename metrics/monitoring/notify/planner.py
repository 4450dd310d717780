"""Decides which messages an alert event causes: rows of deliveries, written in the transaction of the event.

So a message is decided exactly once, together with the event, or not at all. `plan` is an inline projection of the
category `alert`. For each event that people are notified of:

    1  kind      of the message: firing, worsened, reminder, escalated, flapping, resolved
    2  facts     severity, value, since …, from the event; else from an earlier message of the episode
    3  channels  those of the rule (or of the escalation step) that take this severity. A resolved alert: the channels
                 that have a message of the episode; those that never sent one drop it (`queue.settle`)
    4  due       now, or at the end of the channel's group (`_due`)
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import transaction

from events import store, strict_json, types
from events.types import NewEvent
from metrics.monitoring.notify import sources
from metrics.monitoring.notify.sources import SOURCES

KINDS: Final[Mapping[str, str]] = {
    "alert.raised": "firing",
    "alert.worsened": "worsened",
    "alert.unacknowledged": "reminder",
    "alert.escalated": "escalated",
    "alert.flapping": "flapping",
    "alert.resolved": "resolved",
}
# The facts that a message may contain. Free text of people (notes, comments) and everything unknown is left out.
FACTS: Final = ("reason", "value", "since", "why", "lasted", "count", "step")

GROUP: Final = timedelta(seconds=30)
DIGEST: Final = timedelta(seconds=60)  # the group of a channel that had more than `MANY` messages in the last minute
MANY: Final = 5
GIVE_UP: Final = timedelta(hours=6)  # an older message is not sent any more: the alert is on its page

LOCK_CHANNELS: Final = """
select c.id, c.name, c.kind, c.min_severity, c.group_until, c.urgent_until, clock_timestamp(),
       (select count(*) from metrics_delivery d
         where d.channel_id = c.id and d.decided_at > clock_timestamp() - interval '1 minute')
  from metrics_channel c where c.deleted_at is null order by c.id for update
"""

KEEP_GROUP: Final = "update metrics_channel set group_until = %s, urgent_until = %s where id = %s"

INSERT: Final = """
insert into metrics_delivery (message_id, channel_id, alert, episode, cause, kind, severity, facts, decided_at, due,
                              expires_at, late)
values (%s, %s, %s, %s, %s, %s, %s, %s::jsonb, clock_timestamp(), %s, %s, %s)
on conflict (alert, episode, cause, channel_id) do nothing
"""

EARLIER: Final = """
select distinct on (channel_id) channel_id, severity, facts::text, id from metrics_delivery
 where alert = %s and episode = %s order by channel_id, id desc
"""

# A person wants no more messages about the episode, except that it ended.
CLOSE: Final = """
update metrics_delivery set state = 'dropped', why = 'closed', finished_at = clock_timestamp()
 where alert = %s and episode = %s and state in ('waiting', 'muted') and kind <> 'resolved'
   and (leased_until is null or leased_until < clock_timestamp())
"""

RESOLVED: Final = "select 1 from metrics_delivery where alert = %s and episode = %s and kind = 'resolved' limit 1"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message, before it is known which channels get it."""

    alert: str
    episode: int
    cause: str
    kind: str
    severity: str
    facts: dict[str, Any]
    late: bool = False


class _Channel(msgspec.Struct, kw_only=True):
    """A locked channel while deliveries are added to it."""

    id: uuid.UUID
    name: str
    kind: str
    min_severity: str
    group_until: datetime | None
    urgent_until: datetime | None
    now: datetime
    recent: int
    changed: bool = False

    def takes(self, severity: str) -> bool:
        return self.min_severity != "critical" or severity == "critical"


def plan(events: Sequence[NewEvent]) -> None:
    """Write the deliveries of new alert events, in their transaction; see the module."""
    for event in events:
        if event.type == "alert.closed":
            store.execute(CLOSE, (event.key, types.to_builtins(event.data)["episode"]))
    wanted = [event for event in events if event.type in KINDS]
    if not wanted:
        return
    channels = lock_channels()
    for event in wanted:
        kind, data = KINDS[event.type], types.to_builtins(event.data)
        episode = int(data.get("episode", 0))
        if kind == "reminder" and data.get("why") == "worsened":
            continue  # the message about worsening says it
        earlier = store.query(EARLIER, (event.key, episode))
        if kind == "resolved" and (not earlier or store.query(RESOLVED, (event.key, episode))):
            continue
        severity, facts = _facts(event.key, episode, data, earlier)
        message = Message(
            alert=event.key, episode=episode, cause=str(event.version), kind=kind, severity=severity, facts=facts
        )
        if kind == "resolved":
            concerned = [channels[channel] for channel, *_ in earlier if channel in channels]
        else:
            concerned = _concerned(channels, message)
        for channel in concerned:
            _insert(channel, message)
    _keep_groups(channels.values())


def plan_late(alert: str, episode: int, severity: str, facts: Mapping[str, Any]) -> None:
    """Write the deliveries of an alert that fires although nobody was notified of it; once for each channel."""
    message = Message(
        alert=alert, episode=episode, cause="late", kind="firing", severity=severity, facts=_chosen(facts), late=True
    )
    with transaction.atomic():
        channels = lock_channels()
        for channel in _concerned(channels, message):
            _insert(channel, message)
        _keep_groups(channels.values())


def notice(about: uuid.UUID, cause: str, facts: Mapping[str, Any]) -> None:
    """Have all other channels report something about a channel; in the caller's transaction."""
    message = Message(alert="", episode=0, cause=cause, kind="notice", severity="critical", facts=dict(facts))
    channels = lock_channels()
    for channel in channels.values():
        if channel.id != about:
            _insert(channel, message)
    _keep_groups(channels.values())


def test_message(channel: uuid.UUID) -> int:
    """Write a test message of a channel; returns the id of its delivery."""
    now = store.query("select clock_timestamp()")[0][0]
    message_id = types.new_id()
    message = Message(alert="", episode=0, cause=f"test-{message_id}", kind="test", severity="warning", facts={})
    store.execute(INSERT, _row(channel, message, message_id, now, now + timedelta(minutes=5)))
    found: int = store.query("select id from metrics_delivery where message_id = %s", (message_id,))[0][0]
    return found


# -- facts and channels -----------------------------------------------------------------------------------------------


def _facts(
    alert: str, episode: int, data: Mapping[str, Any], earlier: Sequence[Sequence[Any]]
) -> tuple[str, dict[str, Any]]:
    """Severity and facts of a message: the event's, else those of the episode's newest message or of the alert."""
    severity, facts = "", {}
    if earlier:
        _channel, severity, facts, _id = max(earlier, key=lambda row: row[3])
        facts = strict_json.stored(facts)
    elif known := next((one for one in SOURCES.firing() if (one.alert, one.episode) == (alert, episode)), None):
        severity, facts = known.severity, known.facts
    return str(data.get("severity") or severity or "warning"), {**_chosen(facts), **_chosen(data)}


def _chosen(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in FACTS if facts.get(name) is not None}


def lock_channels() -> dict[uuid.UUID, _Channel]:
    """All channels, locked until the end of the transaction, so that groups are extended one after the other."""
    names = ("id", "name", "kind", "min_severity", "group_until", "urgent_until", "now", "recent")
    found = [_Channel(**dict(zip(names, row, strict=True))) for row in store.query(LOCK_CHANNELS)]
    return {channel.id: channel for channel in found}


def _concerned(channels: Mapping[uuid.UUID, _Channel], message: Message) -> list[_Channel]:
    """The channels for this message: those of the rule or escalation step, else all, that take its severity."""
    rule = SOURCES.rule(sources.rule_of(message.alert))
    named: Sequence[str] = rule.channels
    step = message.facts.get("step")
    if message.kind == "escalated" and isinstance(step, int) and 0 < step <= len(rule.escalation):
        named = rule.escalation[step - 1] or named
    chosen = [channel for channel in channels.values() if channel.name in named]
    # A rule whose channels are all deleted must not fall silent.
    return [channel for channel in chosen or channels.values() if channel.takes(message.severity)]


# -- when -------------------------------------------------------------------------------------------------------------


def _due(channel: _Channel, message: Message) -> datetime:
    """The time from which a message may be sent. Updates the channel's group.

    Programs (webhooks) get every message at once. People get the first critical one at once; all others wait
    for the end of the group, 30 s after its first message, and are sent together.
    """
    if channel.kind == "webhook":
        return channel.now
    span = DIGEST if channel.recent > MANY else GROUP
    channel.recent += 1
    urgent = message.severity == "critical" and message.kind != "resolved"
    if urgent and (channel.urgent_until is None or channel.urgent_until <= channel.now):
        channel.urgent_until, channel.changed = channel.now + span, True
        channel.group_until = max(channel.group_until or channel.now, channel.urgent_until)
        return channel.now
    if channel.group_until is None or channel.group_until <= channel.now:
        channel.group_until, channel.changed = channel.now + span, True
    return channel.group_until


def _insert(channel: _Channel, message: Message) -> None:
    due = _due(channel, message)
    store.execute(INSERT, _row(channel.id, message, types.new_id(), due, due + GIVE_UP))


def _row(
    channel: uuid.UUID, message: Message, message_id: uuid.UUID, due: datetime, expires_at: datetime
) -> tuple[Any, ...]:
    return (
        message_id,
        channel,
        message.alert,
        message.episode,
        message.cause,
        message.kind,
        message.severity,
        msgspec.json.encode(message.facts).decode(),
        due,
        expires_at,
        message.late,
    )


def _keep_groups(channels: Iterable[_Channel]) -> None:
    for channel in channels:
        if channel.changed:
            store.execute(KEEP_GROUP, (channel.group_until, channel.urgent_until, channel.id))
