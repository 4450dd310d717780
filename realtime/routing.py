"""Where the sockets come in, and the hub's life where the server tells about its own."""

from __future__ import annotations

from typing import Final

from realtime import consumers, hub, sockets

PATH: Final = "/ws/admin/"


async def websocket_application(scope: consumers.Scope, receive: consumers.Receive, send: sockets.AsgiSend) -> None:
    """Plain ASGI for `/ws/admin/`; any other path is refused before the handshake (the client sees 403)."""
    root = str(scope.get("root_path", "")).rstrip("/")
    if str(scope["path"]).removeprefix(root) == PATH:
        await consumers.application(scope, receive, send)
    else:
        await receive()
        await send({"type": "websocket.close", "code": 1008})


async def lifespan_application(_scope: consumers.Scope, receive: consumers.Receive, send: sockets.AsgiSend) -> None:
    """Start the hub with the server and stop it with it; where there is no lifespan, the first socket starts it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await hub.start()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await hub.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
