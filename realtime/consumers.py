"""The ASGI application of a socket: the handshake in numbered steps, then the client's frames until the end.

Plain ASGI without `channels`, so that uvicorn, Daphne and granian serve it alike. The application never awaits slow
work between two frames: such work becomes a task of the hub. Frames to the client are sent by the hub.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Final

import msgspec

from realtime import admission, asgi, auth, frames, local_hub, prometheus, ready_frames, sockets
from realtime import hub as hubs

logger = logging.getLogger(__name__)

# Seconds a handshake may wait for the hub to know the head of the log, and for the database.
HANDSHAKE_TIMEOUT: Final = 10.0
# Answers to our own frames (`ack`, `pong`) have a limit of their own: a fast feed is acknowledged often.
ANSWERS_PER_SECOND: Final = 400.0
IDENTITY_HEADERS: Final = frozenset({b"origin", b"host", b"authorization"})
PRESENCE_REFUSALS: Final = {
    "not_subscribed": "presence needs a subscription to its topic",
    "presence_limit": "this connection is present on as many topics as it may be; leave one first",
}


class Refused(Exception):
    """The handshake is refused: with close code `code` inside the socket, or with plain 403 when it is None."""

    def __init__(self, reason: str, code: int | None = None, retry: bool = True) -> None:
        super().__init__(reason)
        self.reason, self.code, self.retry = reason, code, retry


async def application(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """The ASGI application of `/ws/admin/`."""
    await receive()  # websocket.connect
    hub = await local_hub.current()
    try:
        identity, since, address = await _admit(hub, scope)
    except Refused as refusal:
        await _refuse(scope, send, refusal)
        return
    socket = sockets.Socket(uuid.uuid4().hex, identity, address, send, hub.limits, ready_frames.writer(scope))
    hub.admission.enter(address, identity.person)
    code = 1006
    try:
        await send({"type": "websocket.accept", "subprotocol": frames.SUBPROTOCOL})
        hub.join(socket, since)
        async with asyncio.timeout(None) as socket.receive_timeout:
            code = await _listen(hub, socket, receive)
    except OSError:  # the client is gone; a `TimeoutError`, which is an OSError, is `receive_timeout` after goodbye
        pass
    finally:
        socket.receive_timeout = None
        hub.leave(socket, code)
        hub.admission.leave(address, identity.person)
        if socket.send_pending:
            socket.abort()


# -- the handshake --------------------------------------------------------------------------------------------------


async def _admit(hub: hubs.Hub, scope: asgi.Scope) -> tuple[auth.Identity, int, str]:
    """The identity behind a handshake, the hub's position before it was read, and the address; or raises `Refused`.

    1  origin: a cookie needs the exact Origin, a token needs none (browsers cannot send tokens)
    2  limits on the number of connections and the rate of handshakes
    3  protocol version
    4  wait until the hub knows the head of the log; remember its position
    5  identity, as the database has it now: not older than the position of step 4
    """
    headers = dict(scope["headers"])
    address = str((scope.get("client") or ["unix"])[0])
    now = asyncio.get_running_loop().time()
    scheme = auth.page_scheme(headers, str(scope.get("scheme", "ws")))
    by_token = auth.bearer_token(headers) is not None
    if _is_ambiguous(scope) or not (by_token or auth.origin_allowed(headers, scheme)):  # 1
        raise Refused("origin")
    busy = "draining" if hub.draining else hub.admission.refuses(address, now)  # 2
    if busy:
        code = frames.GOING_AWAY if hub.draining else frames.TOO_MANY
        raise Refused(busy, code)
    if frames.SUBPROTOCOL not in scope["subprotocols"]:  # 3
        raise Refused("version", frames.VERSION, retry=False)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT), hub.admission.handshakes:
            await hub.wait_ready()  # 4
            since = hub.position
            identity = await auth.identify(headers, hub.log)  # 5
    except (TimeoutError, auth.Unavailable) as error:
        raise Refused("unavailable", frames.TRY_LATER) from error
    if identity is None:
        raise Refused("not signed in", frames.REVOKED, retry=False)
    if hub.admission.refuses_person(identity.person):
        raise Refused("too many connections of this person", frames.TOO_MANY)
    return identity, since, address


def _is_ambiguous(scope: asgi.Scope) -> bool:
    """True when a header that decides about identity or origin occurs twice; a proxy may have read the other one."""
    names = [name for name, _ in scope["headers"] if name in IDENTITY_HEADERS]
    return len(names) != len(set(names))


async def _refuse(scope: asgi.Scope, send: asgi.Send, refusal: Refused) -> None:
    """Refuse inside the socket where a reason may be shown: browsers hide the status of a failed handshake."""
    prometheus.REFUSALS.labels(refusal.reason).inc()
    if refusal.code is None:
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason})
        return
    offered = scope["subprotocols"]
    chosen = frames.SUBPROTOCOL if frames.SUBPROTOCOL in offered else next(iter(offered), None)
    retry_ms = 5_000 if refusal.retry else None
    goodbye = frames.encode(frames.Goodbye(code=refusal.code, reason=refusal.reason, retry_ms=retry_ms))
    await send({"type": "websocket.accept", "subprotocol": chosen})
    await send({"type": "websocket.send", "text": goodbye})
    await send({"type": "websocket.close", "code": refusal.code, "reason": refusal.reason})


# -- client frames --------------------------------------------------------------------------------------------------


async def _listen(hub: hubs.Hub, socket: sockets.Socket, receive: asgi.Receive) -> int:
    """Handle frames until the socket ends; returns the close code."""
    now = socket.now()
    requests = admission.Bucket(hub.limits.frames_per_second, hub.limits.frames_burst, now)
    answers = admission.Bucket(ANSWERS_PER_SECOND, 2 * ANSWERS_PER_SECOND, now)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return int(message.get("code") or 1005)
        if not socket.open:
            continue  # goodbye is sent; only the disconnect is awaited
        frame = _decode(hub, socket, message)
        if frame is None:
            allowed = requests.take(socket.now())
        else:
            bucket = answers if isinstance(frame, frames.Ack | frames.Pong) else requests
            allowed = bucket.take(socket.now())
        if not allowed:
            hub.close_socket(socket, frames.TOO_MANY, "too many frames")
        elif frame is not None:
            _handle(hub, socket, frame)


def _decode(hub: hubs.Hub, socket: sockets.Socket, message: asgi.Message) -> frames.ClientFrame | None:
    """The decoded frame; None after sending the client an error or closing the socket."""
    text = message.get("text")
    if text is None:
        hub.close_socket(socket, frames.PROTOCOL, "text frames only", retry=False)
    elif len(text) > hub.limits.frame_bytes or len(text.encode(errors="replace")) > hub.limits.frame_bytes:
        hub.close_socket(socket, frames.TOO_BIG, "frame too big", retry=False)
    else:
        try:
            return frames.decode_client(text)
        except msgspec.ValidationError as error:
            unknown = "`$.type`" in str(error)
            _send_error(socket, "unknown_type" if unknown else "invalid_frame", str(error), _id_of(text))
        except msgspec.DecodeError as error:
            _send_error(socket, "not_json", str(error), None)
    return None


def _send_error(socket: sockets.Socket, code: str, detail: str, request: frames.RequestId | None) -> None:
    prometheus.BAD_FRAMES.labels(code).inc()
    socket.send_frame(frames.Error(code=code, detail=detail, id=request))


class _Identified(msgspec.Struct):
    id: frames.RequestId | None = None


def _id_of(text: str) -> frames.RequestId | None:
    """The id of an otherwise invalid frame, so that the client knows which request failed."""
    try:
        return msgspec.json.decode(text, type=_Identified).id
    except (msgspec.DecodeError, RecursionError):
        return None


def _handle(hub: hubs.Hub, socket: sockets.Socket, frame: frames.ClientFrame) -> None:
    match frame:
        case frames.Ack():
            socket.acknowledge(frame.position)
        case frames.Pong():
            socket.unanswered_bytes = 0
            socket.pong_number = max(socket.pong_number, min(frame.n, socket.ping_number))
        case frames.Subscribe():
            hub.subscribe(socket, frame)
        case frames.Unsubscribe():
            hub.unsubscribe(socket, frame)
        case frames.SetPresence():
            if refusal := hub.set_presence(socket, frame):
                _send_error(socket, refusal, PRESENCE_REFUSALS[refusal], None)
        case frames.Visibility():
            socket.hidden = frame.hidden
            if not frame.hidden:
                hub.ephemeral.page_shown(socket)
