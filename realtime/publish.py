"""The only sender between processes: what travels over Valkey to every hub, and the blocking client that sends it.

Nothing here is the truth. A message that is lost costs latency (the hub notices and reads the store), never an event:
so `send` swallows a Valkey that is away and says so by its result.
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

# Valkey cuts a subscriber off at 32 MB of backlog; larger batches are announced and read from the store.
MAX_MESSAGE: Final = 512 * 1024


class Batch(msgspec.Struct, frozen=True, kw_only=True, tag="batch"):
    """Every event in (previous, last], in order. `previous` None: the sender cannot say what came before."""

    epoch: str
    previous: int | None
    last: int
    events: list[types.RecordedEvent]


class Beacon(msgspec.Struct, frozen=True, kw_only=True, tag="beacon"):
    """The relay is alive and the log is readable up to `head`."""

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
    """One connection's presence on one topic, as its process tells the others."""

    connection: str
    person: str
    name: str
    state: str
    since: str
    field: str | None = None


class Presence(msgspec.Struct, frozen=True, kw_only=True, tag="presence"):
    """Who one process has on these topics; an empty list means nobody any more.

    `number` counts these messages up; with `full` they are all the topics it has anybody on.
    """

    process: str
    number: int
    topics: dict[str, list[Present]]
    full: bool = False


class Alive(msgspec.Struct, frozen=True, kw_only=True, tag="alive"):
    """A process renews its presence lease; a hub that missed one of its messages up to `number` asks again."""

    process: str
    number: int


class Question(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """A hub has just joined or missed something: everybody says again who they have."""

    process: str


Message: TypeAlias = Batch | Beacon | Value | Presence | Alive | Question


def channel() -> str:
    """The one pub/sub channel of this floor, so that what one sender says stays in order."""
    return f"{settings.REDIS_PREFIX}:realtime:bus"


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(raw: bytes) -> Message:
    """Raises `msgspec.ValidationError` for what no release of ours has sent."""
    message: Message = _decoder.decode(raw)
    return message


def client() -> redis.Redis:
    """This process's blocking client. Short timeouts: a half-open Valkey must not hold up the relay or a request."""
    return valkey.shared_client("bus")


def send(message: Message) -> bool:
    """Tell every hub; False when Valkey could not be reached."""
    return send_raw(encode(message))


def send_raw(raw: bytes) -> bool:
    """`send` for a message that is already encoded."""
    try:
        client().publish(channel(), raw)
    except (redis.RedisError, OSError) as error:
        logger.warning("Valkey is away, hubs will read the store: %s", error)
        return False
    return True


def ephemeral(
    topic: str, event: str, data: dict[str, Any], *, key: str | None = None, exclude: str | None = None
) -> bool:
    """Show a value of the moment to everybody on `topic`: latest wins per `key` (the event's name when not given)."""
    timestamp = timezone.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return send(Value(topic=topic, event=event, key=key or event, data=data, timestamp=timestamp, exclude=exclude))


def batches(
    epoch: str, previous: int | None, events: Sequence[types.RecordedEvent], limit: int = MAX_MESSAGE
) -> list[bytes]:
    """Events as encoded messages of at most `limit` bytes, chained by `previous`.

    An event too large for one message leaves a hole in the chain, which a hub fills from the store.
    """
    raw = encode(Batch(epoch=epoch, previous=previous, last=events[-1].position, events=list(events)))
    if len(raw) <= limit:
        return [raw]
    if len(events) == 1:
        return [encode(Beacon(epoch=epoch, head=events[0].position))]
    middle = len(events) // 2
    first, second = events[:middle], events[middle:]
    return batches(epoch, previous, first, limit) + batches(epoch, first[-1].position, second, limit)
