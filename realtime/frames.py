"""The frames of the subprotocol `formease.admin.v1`: one JSON object per text frame, distinguished by `type`.

These structs are the specification: incoming frames are decoded by them, outgoing frames are encoded from them, and
`/asyncapi.json` is generated from them. Only `event` frames are assembled by `encoding.EncodedEvent`: the body is
encoded once for all sockets and the short `previous` is inserted. The tests decode all of them with `EventFrame`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

SUBPROTOCOL: Final = "formease.admin.v1"

# Close codes: 4000-4499 mean "come back", 4500-4999 mean "stop".
GOING_AWAY: Final = 1012
TRY_LATER: Final = 1013
TOO_BIG: Final = 1009
INTERNAL: Final = 1011
SLOW: Final = 4408
TOO_MANY: Final = 4429
RECONNECT: Final = 4400
PROTOCOL: Final = 4500
VERSION: Final = 4501
FORBIDDEN: Final = 4503
REVOKED: Final = 4505

RequestId: TypeAlias = str | int
# Names in one frame; how many a connection may follow is `conf.Limits.topics`.
MAX_NAMES: Final = 1_000
TopicName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Position: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
PresenceState: TypeAlias = Literal["viewing", "editing", "idle"]


class _Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of all frames. Unknown fields are ignored, so that either side may add fields."""


# -- client to server -----------------------------------------------------------------------------------------------


class Since(msgspec.Struct, frozen=True):
    """A client's position: it has every event up to `position` of the history named `epoch`."""

    epoch: str
    position: Position


class Subscribe(_Frame, frozen=True, tag="subscribe"):
    """Subscribe to topics, from now or from the client's position."""

    id: RequestId
    topics: Annotated[list[TopicName], msgspec.Meta(min_length=1, max_length=MAX_NAMES)]
    since: Since | None = None


class Unsubscribe(_Frame, frozen=True, tag="unsubscribe"):
    """Unsubscribe from these topics."""

    id: RequestId
    topics: Annotated[list[TopicName], msgspec.Meta(max_length=MAX_NAMES)]


class Ack(_Frame, frozen=True, tag="ack"):
    """Everything up to and including the event frame at this position has been read: returns credit."""

    position: Position


class Pong(_Frame, frozen=True, tag="pong"):
    """The answer to `ping`."""

    n: int


class SetPresence(_Frame, frozen=True, tag="presence"):
    """The state of this connection on a topic it follows. `idle`: no input for a while; `gone`: left the page."""

    topic: TopicName
    state: Literal["viewing", "editing", "idle", "gone"]
    field: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Visibility(_Frame, frozen=True, tag="visibility"):
    """The page was hidden or shown; a hidden page gets ephemeral values more slowly."""

    hidden: bool


ClientFrame: TypeAlias = Subscribe | Unsubscribe | Ack | Pong | SetPresence | Visibility


# -- server to client -----------------------------------------------------------------------------------------------


class Credit(msgspec.Struct, frozen=True):
    """Limits of unacknowledged frames and bytes, and how often a good reader acknowledges."""

    window_frames: int
    window_bytes: int
    ack_frames: int
    ack_bytes: int


class ClientLimits(msgspec.Struct, frozen=True):
    frame_bytes: int
    frames_per_second: float
    topics: int
    credit: Credit
    retry_min_ms: int
    retry_max_ms: int


class Person(msgspec.Struct, frozen=True):
    id: str
    name: str


class Welcome(_Frame, frozen=True, tag="welcome"):
    """First frame: the history's name, this server's position, and the limits.

    `session` is a digest of the session, or the name of the key, behind the connection. A page of another session must
    stop: another person has signed in in this browser.
    """

    connection_id: str
    session: str
    epoch: str
    position: Position
    heartbeat_ms: int
    user: Person
    limits: ClientLimits


class Denied(msgspec.Struct, frozen=True):
    topic: str
    code: Literal["forbidden", "unknown", "limit"]


class Subscribed(_Frame, frozen=True, tag="subscribed", omit_defaults=False):
    """Sent after the catch-up: the client has every event of these topics up to `position`, and follows live.

    `epoch` is the history that the position belongs to. It may differ from that of the request: the client had read
    nothing that the earlier history does not share with this one.
    """

    id: RequestId
    topics: list[str]
    denied: list[Denied]
    position: Position
    epoch: str = ""


class Unsubscribed(_Frame, frozen=True, tag="unsubscribed"):
    """The answer to `unsubscribe`: those of its topics that were followed."""

    id: RequestId
    topics: list[str]


class EventFrame(_Frame, frozen=True, tag="event"):
    """A durable event. `previous` is the position of the event frame before it on this connection, 0 for the first.

    `unreadable` says why an event cannot be read; then `data` is empty.
    """

    topics: list[str]
    previous: Position
    position: Position
    stream: str
    version: int
    event: str
    schema_version: int
    data: dict[str, Any]
    timestamp: str
    actor: str
    event_id: str
    correlation_id: str | None = None
    causation_id: str | None = None
    reason: str | None = None
    unreadable: str | None = None
    replayed: bool = False


class Ephemeral(_Frame, frozen=True, tag="ephemeral"):
    """An ephemeral value: the latest wins, nothing is replayed."""

    topic: str
    event: str
    data: dict[str, Any]
    timestamp: str


class PresentPerson(msgspec.Struct, frozen=True):
    """One person on a topic, with all tabs combined: the busiest state wins. `since` is the arrival, in UTC."""

    id: str
    name: str
    state: PresenceState
    since: str
    field: str | None = None
    tabs: int = 1


class PresenceFrame(_Frame, frozen=True, tag="presence"):
    """The people present: all of them in `full`, or the changes in `joined` (or changed) and `left` (ids)."""

    topic: str
    full: list[PresentPerson] | None = None
    joined: list[PresentPerson] = []
    left: list[str] = []


class Reset(_Frame, frozen=True, tag="reset"):
    """These topics are no longer followed: reload them, then subscribe from `position` of `epoch`.

    With reason `forbidden` the right is lost: do not reload, and remove the topic's data from the page.
    """

    topics: list[str]
    reason: Literal["too_old", "epoch", "rewound", "forbidden"]
    epoch: str
    position: Position


class Ping(_Frame, frozen=True, tag="ping"):
    """Answer with `pong`. Every followed topic is complete up to `position` of the history `epoch`."""

    n: int
    position: Position
    epoch: str = ""


class Goodbye(_Frame, frozen=True, tag="goodbye"):
    """Sent before every close, because some servers drop its reason. `retry_ms` is absent when retrying cannot help."""

    code: int
    reason: str
    retry_ms: int | None = None


class Error(_Frame, frozen=True, tag="error"):
    """A request was invalid or not allowed; the connection stays open."""

    code: str
    detail: str
    id: RequestId | None = None


ServerFrame: TypeAlias = (
    Welcome | Subscribed | Unsubscribed | EventFrame | Ephemeral | PresenceFrame | Reset | Ping | Goodbye | Error
)

CLIENT_FRAMES: Final[tuple[type[msgspec.Struct], ...]] = (Subscribe, Unsubscribe, Ack, Pong, SetPresence, Visibility)
SERVER_FRAMES: Final[tuple[type[msgspec.Struct], ...]] = (
    Welcome,
    Subscribed,
    Unsubscribed,
    EventFrame,
    Ephemeral,
    PresenceFrame,
    Reset,
    Ping,
    Goodbye,
    Error,
)

_client_decoder: Final = msgspec.json.Decoder(ClientFrame)
_server_decoder: Final = msgspec.json.Decoder(ServerFrame)
_encoder: Final = msgspec.json.Encoder()


def decode_client(text: str | bytes) -> ClientFrame:
    """Decode a client's frame. Raises `msgspec.ValidationError` (wrong shape) or `msgspec.DecodeError` (not JSON)."""
    try:
        frame: ClientFrame = _client_decoder.decode(text)
    except RecursionError:  # raised by msgspec while it skips an unknown field
        raise msgspec.DecodeError("JSON is nested too deeply") from None
    return frame


def decode_server(text: str | bytes) -> ServerFrame:
    """Decode a server's frame, for clients; raises as `decode_client`."""
    frame: ServerFrame = _server_decoder.decode(text)
    return frame


def encode(frame: msgspec.Struct) -> str:
    """The frame as JSON text."""
    return _encoder.encode(frame).decode()
