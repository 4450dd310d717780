"""The ASGI applications for the WebSocket path and for the server's lifespan."""

from __future__ import annotations

from typing import Final

from realtime import asgi, consumers, local_hub

PATH: Final = "/ws/admin/"


async def websocket_application(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """Plain ASGI for `/ws/admin/`; any other path is refused before the handshake (the client sees 403)."""
    root = str(scope.get("root_path", "")).rstrip("/")
    if str(scope["path"]).removeprefix(root) == PATH:
        await consumers.application(scope, receive, send)
    else:
        await receive()
        await send({"type": "websocket.close", "code": 1008})


class Following:
    """Starts the hub before the first HTTP request where the server has no lifespan, as Daphne under `runserver`.

    Only a process that follows the log may use cached values.
    """

    def __init__(self, application: asgi.Application) -> None:
        self._application = application

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await local_hub.start()
        await self._application(scope, receive, send)


async def lifespan_application(_scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """Start and stop the hub together with the server; without a lifespan the first request or socket starts it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await local_hub.start()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await local_hub.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
