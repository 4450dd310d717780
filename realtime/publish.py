"""The messages between processes, which Valkey carries to every hub, and the blocking client that publishes them.

No message is authoritative. A lost one costs latency (the hub notices and reads the store), never an event. So `send`
does not raise while Valkey is unavailable, but returns False.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec
import redis
from django.conf import settings
from django.utils import timezone

from events import types, valkey

logger = logging.getLogger(__name__)

# Valkey disconnects a subscriber with a backlog of 32 MB, so larger batches are announced and read from the store.
MAX_MESSAGE: Final = 512 * 1024


class Batch(msgspec.Struct, frozen=True, kw_only=True, tag="batch"):
    """Every event in (previous, last], in order. `previous` None: unknown."""

    epoch: str
    previous: int | None
    last: int
    events: list[types.RecordedEvent]


class Beacon(msgspec.Struct, frozen=True, kw_only=True, tag="beacon"):
    """A sign that the relay is alive; the log is readable up to `head`."""

    epoch: str
    head: int


class Value(msgspec.Struct, frozen=True, kw_only=True, tag="value"):
    """An ephemeral value. Values of one (topic, key) replace each other; `exclude` names the sender's connection."""

    topic: str
    event: str
    key: str
    data: dict[str, Any]
    timestamp: str
    exclude: str | None = None


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """One connection's presence on one topic, as its process publishes it."""

    connection: str
    person: str
    name: str
    state: str
    since: str
    field: str | None = None


class Presence(msgspec.Struct, frozen=True, kw_only=True, tag="presence"):
    """The presence of one process on these topics; an empty list means that nobody is left.

    `number` counts these messages. With `full` the message is a snapshot: topics it does not name are empty.
    """

    process: str
    number: int
    topics: dict[str, list[Present]]
    full: bool = False


class PresenceLease(msgspec.Struct, frozen=True, kw_only=True, tag="alive"):
    """Renews the lease of a process; a hub that missed one of its messages up to `number` requests a snapshot."""

    process: str
    number: int


class PresenceRequest(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """A request of a hub that has just subscribed or missed a message; every process answers with a snapshot."""

    process: str


Message: TypeAlias = Batch | Beacon | Value | Presence | PresenceLease | PresenceRequest


def channel() -> str:
    """The one pub/sub channel of this layer, so that the messages of each sender stay in order."""
    return f"{settings.REDIS_PREFIX}:realtime:bus"


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(raw: bytes) -> Message:
    """Decode a message. Raises `msgspec.DecodeError` for one that no release has sent."""
    message: Message = _decoder.decode(raw)
    return message


def client() -> redis.Redis:
    """This process's blocking client. Short timeouts: a half-open Valkey must not block the relay or a request."""
    return valkey.shared_client("bus")


def send(message: Message) -> bool:
    """Publish to every hub. Returns False when Valkey could not be reached."""
    return send_raw(encode(message))


def send_all(messages: Sequence[Message]) -> bool:
    """Publish messages in one round trip, for senders that repeat what was not sent: a short timeout, no retry."""
    pipeline = valkey.shared_client("cache").pipeline(transaction=False)
    for message in messages:
        pipeline.publish(channel(), encode(message))
    try:
        pipeline.execute()
    except (redis.RedisError, OSError) as error:
        logger.warning("Valkey is unreachable, %d values are sent later: %s", len(messages), error)
        return False
    return True


def send_raw(raw: bytes) -> bool:
    """Send a message that is already encoded; see `send`."""
    try:
        client().publish(channel(), raw)
    except (redis.RedisError, OSError) as error:
        logger.warning("Valkey is unreachable, hubs will read the store: %s", error)
        return False
    return True


def ephemeral(
    topic: str, event: str, data: dict[str, Any], *, key: str | None = None, exclude: str | None = None
) -> bool:
    """Publish an ephemeral value on `topic`; the latest per `key` wins (by default the event's name)."""
    return send(value(topic, event, data, key=key, exclude=exclude))


def value(topic: str, event: str, data: dict[str, Any], *, key: str | None = None, exclude: str | None = None) -> Value:
    """An ephemeral value of this moment; see `ephemeral`."""
    timestamp = timezone.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Value(topic=topic, event=event, key=key or event, data=data, timestamp=timestamp, exclude=exclude)


def batches(
    epoch: str, previous: int | None, events: Sequence[types.RecordedEvent], limit: int = MAX_MESSAGE
) -> list[bytes]:
    """Events as encoded messages of at most `limit` bytes, chained by `previous`.

    An event too large for one message leaves a gap in the chain, which a hub fills from the store.
    """
    raw = encode(Batch(epoch=epoch, previous=previous, last=events[-1].position, events=list(events)))
    if len(raw) <= limit:
        return [raw]
    if len(events) == 1:
        return [encode(Beacon(epoch=epoch, head=events[0].position))]
    middle = len(events) // 2
    first, second = events[:middle], events[middle:]
    return batches(epoch, previous, first, limit) + batches(epoch, first[-1].position, second, limit)
