"""The AsyncAPI 3 description of the socket, generated from the frames and served at `/asyncapi.json`.

`manage.py asyncapi > docs/asyncapi.json` updates the copy in the documentation.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson
from django.conf import settings

from realtime import frames, routing, topics

VERSION: Final = "1.0.0"
CHANNEL: Final = "admin"

DESCRIPTION: Final = """\
Committed events as they happen, ephemeral values, and presence. Subprotocol `formease.admin.v1`, one JSON object per
text frame, distinguished by `type`; clients must ignore unknown fields.

For each granted topic a client that keeps its `{epoch, position}` receives every event exactly once, in order, across
reconnects and restarts, or it receives `reset`. Browsers authenticate with a session cookie and an exact `Origin`,
programs with `Authorization: Bearer fe_<key>.<secret>`. A client returns credit with `ack` and answers `ping` with
`pong`. Close codes 4000-4499 mean reconnect, 4500-4999 mean stop.
"""

CLOSE_CODES: Final = {
    frames.GOING_AWAY: "the server restarts",
    frames.TRY_LATER: "the database is unavailable",
    frames.TOO_BIG: "a frame was too big",
    frames.INTERNAL: "internal error",
    frames.SLOW: "events were not read or acknowledged, or a ping was not answered",
    frames.TOO_MANY: "too many connections, handshakes or frames",
    frames.RECONNECT: "reconnect",
    frames.PROTOCOL: "only text frames are allowed",
    frames.VERSION: "unknown subprotocol",
    frames.FORBIDDEN: "not allowed",
    frames.REVOKED: "not signed in, or no longer",
}

_EPOCH, _MOMENT = "7d3c1f6e-9d0b-4c56-8f5e-0d6a5b1c2e3f", "2026-01-31T09:30:00.000Z"
_ADA = frames.PresentPerson(id="7", name="Ada Lovelace", state="editing", since=_MOMENT, field="email")
EXAMPLES: Final[tuple[msgspec.Struct, ...]] = (
    frames.Subscribe(id=1, topics=["users"], since=frames.Since(_EPOCH, 1041)),
    frames.Unsubscribe(id=2, topics=["users"]),
    frames.Ack(position=1042),
    frames.Pong(n=3),
    frames.SetPresence(topic="users", state="editing", field="email"),
    frames.Visibility(hidden=True),
    frames.Welcome(
        connection_id="5f1c",
        session="0b6f5d1c2e3f4a5b6c7d8e9f0a1b2c3d",
        epoch=_EPOCH,
        position=1041,
        heartbeat_ms=20_000,
        user=frames.Person("7", "Ada Lovelace"),
        limits=frames.ClientLimits(65_536, 20.0, 200, frames.Credit(512, 262_144, 64, 65_536), 500, 20_000),
    ),
    frames.Subscribed(
        id=1, topics=["users"], denied=[frames.Denied("settings", "forbidden")], position=1042, epoch=_EPOCH
    ),
    frames.Unsubscribed(id=2, topics=["users"]),
    frames.EventFrame(
        topics=["users"],
        previous=1040,
        position=1042,
        stream="user-0197a3c0-0000-7000-8000-000000000001",
        version=3,
        event="user.updated",
        schema_version=1,
        data={"plan": "premium"},
        timestamp=_MOMENT,
        actor="staff:7",
        event_id="0197a3c0-0000-7000-8000-000000000002",
    ),
    frames.Ephemeral(topic="dashboard", event="system.metrics", data={"cpu": 0.2}, timestamp=_MOMENT),
    frames.Ephemeral(
        topic="users",
        event="metrics.updated",
        data={
            "keys": ["0197a3c0-0000-7000-8000-000000000001"],
            "as_of": {"position": 1042, "at": _MOMENT},
            "previous": 1038,
        },
        timestamp=_MOMENT,
    ),
    frames.PresenceFrame(topic="users", joined=[_ADA]),
    frames.Reset(topics=["users"], reason="too_old", epoch=_EPOCH, position=99_000),
    frames.Ping(n=3, position=1042, epoch=_EPOCH),
    frames.Goodbye(code=frames.GOING_AWAY, reason="server restarts", retry_ms=1200),
    frames.Error(id=4, code="unknown_type", detail="Invalid value 'sing' - at `$.type`"),
)


def document() -> bytes:
    """The description as JSON, byte for byte the same for the same frames and topics."""
    return orjson.dumps(described(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def described() -> dict[str, Any]:
    kinds = (*frames.CLIENT_FRAMES, *frames.SERVER_FRAMES)
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "FormEase backoffice: live events", "version": VERSION, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": {
            "site": {
                "host": "{host}",
                "protocol": "wss",
                "variables": {"host": {"default": "localhost:8000", "description": "host of the backoffice"}},
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("session", "apiKey")],
            }
        },
        "channels": {
            CHANNEL: {
                "address": routing.PATH,
                "title": "Live events",
                "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "fromClient": _operation("receive", "Frames from a client.", frames.CLIENT_FRAMES),
            "toClient": _operation("send", "Frames to a client.", frames.SERVER_FRAMES),
        },
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in kinds},
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "session": {"type": "httpApiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME},
                "apiKey": {"type": "http", "scheme": "bearer", "description": "`fe_<key>.<secret>`"},
            },
        },
        "x-topics": topics.names(),
        "x-close-codes": {
            str(code): {"meaning": meaning, "reconnect": code < frames.PROTOCOL and code != frames.TOO_BIG}
            for code, meaning in CLOSE_CODES.items()
        },
    }


def _operation(action: str, summary: str, kinds: tuple[type[msgspec.Struct], ...]) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": f"#/channels/{CHANNEL}"},
        "messages": [{"$ref": f"#/channels/{CHANNEL}/messages/{kind.__name__}"} for kind in kinds],
    }


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    examples = [example for example in EXAMPLES if type(example) is kind]
    return {
        "name": kind.__struct_config__.tag,
        "title": kind.__name__,
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": [{"payload": msgspec.json.decode(frames.encode(example))} for example in examples],
        "x-direction": "to server" if kind in frames.CLIENT_FRAMES else "to client",
    }
