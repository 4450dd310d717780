"""Our hub under any ASGI server, whose command loads `application`; a thread here serves the control port.

Only for servers with one process and one event loop; `CONTROL_PORT` is the control port.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

from benchmarks.load import servers


class AnyServerApplication:
    """The application. Its first connection starts the hub on the server's event loop."""

    def __init__(self) -> None:
        servers.prepare()
        from realtime import routing

        self._application = routing.websocket_application
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Task[Any] | None = None
        control = socket.create_server(("127.0.0.1", int(os.environ["CONTROL_PORT"])))
        threading.Thread(target=self._handle_commands, args=(control,), daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return  # uvicorn and granian work without a lifespan
        if self._started is None:
            self._loop = asyncio.get_running_loop()
            self._started = self._loop.create_task(servers.start_hub())
        self._publish = await asyncio.shield(self._started)
        await self._application(scope, receive, send)

    def _handle_commands(self, control: socket.socket) -> None:
        while True:
            connection, _ = control.accept()
            with connection:
                while command := connection.recv(1):
                    if command == b"c":
                        connection.sendall(servers.usage())
                    elif self._loop is not None:
                        self._loop.call_soon_threadsafe(self._publish)


application = AnyServerApplication()
