"""uvicorn as the sockets want it: `python -m realtime.server backoffice.asgi:application --port 8000`.

Why not plain `uvicorn`: on SIGTERM it closes every socket at once, and all clients come back in the same second. Here
the sockets are sent away in small groups first, each told when to come back. The rest are measured defaults:
websockets-sansio (real back-pressure, fastest), no permessage-deflate (twice the CPU, three times the memory), frames
limited before they are read, garbage collection frozen after start-up.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from realtime import ready_frames

# From SIGTERM to the end; sockets get most of it, requests under way the rest.
DRAIN_SECONDS = 20.0
REQUEST_SECONDS = 8
# Thousands of sockets are long-lived objects: looked at less often, they cost half.
GARBAGE = (10_000, 20, 50)


class Line:
    """Writes a frame past the transport's buffer: the way through it takes longer than all else we do for a frame.

    Only where nothing is buffered, so nothing is overtaken. What the kernel does not take at once goes the usual way,
    and so does everything under TLS. A transport that closes says so before it lets go of its file.
    """

    __slots__ = ("file", "transport", "writable")

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event, *, plain: bool) -> None:
        self.transport, self.writable = transport, writable
        self.file: int = transport.get_extra_info("socket").fileno() if plain else -1

    def write(self, frame: bytes) -> bool:
        """Write a frame at once; False when `send` would wait or raise, and nothing was written."""
        transport = self.transport
        if transport.is_closing():
            return False
        if self.file < 0 or transport.get_write_buffer_size():
            return self._write_behind(frame)
        try:
            taken = os.write(self.file, frame)
        except BlockingIOError:
            taken = 0
        except OSError:  # the client is gone; the transport finds out in its own time
            return self._write_behind(frame)
        if taken < len(frame):
            transport.write(frame[taken:])
        return True

    def _write_behind(self, frame: bytes) -> bool:
        if not self.writable.is_set():
            return False
        self.transport.write(frame)
        return True


BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's sockets, which also take a ready frame as it is (`realtime.ready_frames`)."""

    def data_received(self, data: bytes) -> None:
        """A handshake that cannot be read (a header too long, or too many) is answered, and the connection closed:
        uvicorn would keep it, unanswered, for as long as the client likes, and stumble over it when it stops.
        """
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.close_sent:
            self.close_sent = True
            self.transport.write(BAD_REQUEST)
            self.transport.close()

    async def run_asgi(self) -> None:
        if not self.conn.extensions:  # a frame made for everybody is compressed for nobody
            line = Line(self.transport, self.writable, plain=self.scheme == "ws")
            self.scope["extensions"][ready_frames.EXTENSION] = {"write": line.write}
        await super().run_asgi()


class Server(uvicorn.Server):
    """A server that drains its sockets before it closes them. `refused` says why it did not begin to serve."""

    refused: str | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.refused = await asyncio.to_thread(_complaint)
        if self.refused:
            self.should_exit = True
            return
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is here now stays: the collector need not look at it again
        gc.set_threshold(*GARBAGE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # nobody new
        if not self.force_exit:
            from realtime import hub  # noqa: PLC0415 - only the application sets Django up

            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await hub.drain()
            except TimeoutError:
                uvicorn.config.logger.warning("not all sockets could be sent away in %g s", DRAIN_SECONDS)
        await super().shutdown(sockets)


def _complaint() -> str | None:
    """A wrong master key; asked on a connection that is given back."""
    from django.db import connections  # noqa: PLC0415 - only the application sets Django up

    from events.privacy import key_witness  # noqa: PLC0415

    try:
        return key_witness.complaint()
    finally:
        connections.close_all()


def configure(app: str, **options: Any) -> uvicorn.Config:
    """The configuration; `options` are uvicorn's."""
    given: dict[str, Any] = {
        "ws": Protocol,
        "ws_per_message_deflate": False,
        "ws_max_size": 128 * 1024,
        "ws_ping_interval": 30.0,
        "ws_ping_timeout": 30.0,
        "timeout_graceful_shutdown": REQUEST_SECONDS,
        "access_log": False,
        "proxy_headers": False,  # realtime.proxies knows how many proxies to believe
    }
    return uvicorn.Config(app, **(given | options))


def _port(text: str) -> int:
    """For argparse, which also checks a default that is a text, such as that of the environment."""
    if not text.isdecimal() or not 0 <= int(text) < 65536:  # 0: a free one
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number (PORT=1-65535)")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; a second signal does not wait."""
    parser = argparse.ArgumentParser(prog="python -m realtime.server", description="uvicorn that drains its sockets")
    parser.add_argument("app", nargs="?", default="backoffice.asgi:application")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT") or "8000")
    parser.add_argument("--uds", help="a Unix socket instead of host and port")
    parser.add_argument("--fd", type=int, help="an open listening socket, to share one port between processes")
    parser.add_argument("--log-level", default="info")
    options = vars(parser.parse_args(arguments))
    server = Server(configure(**options))
    server.run()
    if server.refused:
        sys.exit(server.refused)


if __name__ == "__main__":
    main()
