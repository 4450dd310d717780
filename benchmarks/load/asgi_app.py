"""Our hub under any ASGI server: its own command loads `application`, a thread here holds the control line.

Meant for a server with one process and one event loop; `CONTROL_PORT` names the line's port.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

from benchmarks.load import servers


class Anywhere:
    """The application; the hub starts with the first connection, on the loop that the server made."""

    def __init__(self) -> None:
        servers.prepare()
        from realtime import routing

        self._application = routing.websocket_application
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Task[Any] | None = None
        line = socket.create_server(("127.0.0.1", int(os.environ["CONTROL_PORT"])))
        threading.Thread(target=self._obey, args=(line,), daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return  # uvicorn and granian ask about a life span, and do without
        if self._started is None:
            self._loop = asyncio.get_running_loop()
            self._started = self._loop.create_task(servers.own_hub())
        self._publish = await asyncio.shield(self._started)
        await self._application(scope, receive, send)

    def _obey(self, line: socket.socket) -> None:
        while True:
            connection, _ = line.accept()
            with connection:
                while order := connection.recv(1):
                    if order == b"c":
                        connection.sendall(servers.usage())
                    elif self._loop is not None:
                        self._loop.call_soon_threadsafe(self._publish)


application = Anywhere()
