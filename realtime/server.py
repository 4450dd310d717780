"""uvicorn configured for sockets: `python -m realtime.server backoffice.asgi:application --port 8000`.

Plain `uvicorn` closes every socket at once on SIGTERM, and all clients reconnect in the same second. This server

    1  is not ready any more (`/readyz`: 503), but serves for `--shutdown-delay` seconds, until proxies have noticed;
       each response ends its connection, so that no proxy sends a request on one that is about to be closed
    2  accepts no more connections, and closes its sockets in small groups, each client with a time to reconnect
    3  ends the requests in progress

The other settings are measured: websockets-sansio (real back-pressure, fastest), no permessage-deflate (twice the CPU,
three times the memory), a frame size limit that applies before a frame is read, garbage collection frozen after
start-up.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from realtime import ready_frames

# Seconds to drain the sockets after SIGTERM and the delay, and then seconds for requests in progress.
DRAIN_SECONDS = 20.0
REQUEST_SECONDS = 8
# An idle connection of a proxy stays open for this long. Proxies close theirs after 60 s or less (`deploy/`): if the
# server were first, a request could arrive on a connection that it is just closing.
KEEP_ALIVE_SECONDS = 75
# Thousands of sockets are long-lived objects: with rarer collections they cost half.
GC_THRESHOLDS = (10_000, 20, 50)


protocol_log = logging.getLogger("uvicorn.websockets")
protocol_log.setLevel(logging.WARNING)


class FrameWriter:
    """Writes a frame directly to the socket's file descriptor, bypassing the transport of asyncio or uvloop.

    The way through the transport takes longer than everything else done for a frame. Frames bypass it only while its
    buffer is empty, so the order is kept. The part that the kernel does not accept goes through the transport, and so
    does everything under TLS. `is_closing()` is true before the transport releases its descriptor, so a reused one is
    never written to. See docs/adr/0016-frames-past-the-transport.md.
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
            return self._write_buffered(frame)
        try:
            taken = os.write(self.file, frame)
        except BlockingIOError:
            taken = 0
        except OSError:  # the client is gone; the transport notices by itself
            return self._write_buffered(frame)
        if taken < len(frame):
            transport.write(frame[taken:])
        return True

    def _write_buffered(self, frame: bytes) -> bool:
        if not self.writable.is_set():
            return False
        self.transport.write(frame)
        return True


BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Protocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with the extension that writes ready frames (`realtime.ready_frames`)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Without two lines, with the client's address, for each socket that opens.
        self.logger = self.conn.logger = protocol_log

    def data_received(self, data: bytes) -> None:
        """Answer an unreadable handshake (too many headers, or too long ones) with 400 and close the connection.

        uvicorn would keep it open without an answer for as long as the client likes, and raise when it stops.
        """
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.close_sent:
            self.close_sent = True
            self.transport.write(BAD_REQUEST)
            self.transport.close()

    async def run_asgi(self) -> None:
        if not self.conn.extensions:  # a frame shared by all sockets cannot be compressed for one
            writer = FrameWriter(self.transport, self.writable, plain=self.scheme == "ws")
            self.scope["extensions"][ready_frames.EXTENSION] = {"write": writer.write}
        await super().run_asgi()


class Leaving:
    """ASGI middleware that ends each HTTP connection with its response, once `begin` was called."""

    def __init__(self, application: Any) -> None:
        self._application, self._begun = application, False

    def begin(self) -> None:
        self._begun = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def last(message: Any) -> None:
            if message["type"] == "http.response.start" and self._begun:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._application(scope, receive, last if scope["type"] == "http" else send)


class Server(uvicorn.Server):
    """A server that drains its sockets before it closes them.

    startup_error   why it did not start to serve
    shutdown_delay  seconds for which it serves after SIGTERM, without being ready
    """

    startup_error: str | None = None

    def __init__(self, config: uvicorn.Config, shutdown_delay: float = 0.0) -> None:
        super().__init__(config)
        self.shutdown_delay = shutdown_delay

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.startup_error = await asyncio.to_thread(_key_mismatch)
        if self.startup_error:
            self.should_exit = True
            return
        self.leaving = Leaving(self.config.loaded_app)
        self.config.loaded_app = self.leaving
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # objects that exist now stay for good, so the collector need not visit them again
        gc.set_threshold(*GC_THRESHOLDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self.force_exit:
            await self._leave()
        for server in self.servers:
            server.close()  # accept no new connections
        if not self.force_exit:
            from realtime import local_hub  # noqa: PLC0415 - only the application sets Django up

            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await local_hub.drain()
            except TimeoutError:
                uvicorn.config.logger.warning("not all sockets could be closed within %g s", DRAIN_SECONDS)
        await super().shutdown(sockets)

    async def _leave(self) -> None:
        """Serve on for the delay without being ready; a second Ctrl-C ends it."""
        from realtime import local_hub  # noqa: PLC0415 - only the application sets Django up

        self.leaving.begin()
        local_hub.leave()
        end = asyncio.get_running_loop().time() + self.shutdown_delay
        ticks = 0
        while asyncio.get_running_loop().time() < end and not self.force_exit:
            await self.on_tick(ticks)  # sets the date of responses
            ticks += 1
            await asyncio.sleep(0.1)


def _key_mismatch() -> str | None:
    """The error text for a wrong master key, or None. Its database connection is closed again."""
    from django.db import connections  # noqa: PLC0415 - only the application sets Django up

    from events.privacy import key_witness  # noqa: PLC0415

    try:
        return key_witness.startup_error()
    finally:
        connections.close_all()


def configure(app: str, **options: Any) -> uvicorn.Config:
    """The uvicorn configuration; `options` override it."""
    given: dict[str, Any] = {
        "ws": Protocol,
        "ws_per_message_deflate": False,
        "ws_max_size": 128 * 1024,
        "ws_ping_interval": 30.0,
        "ws_ping_timeout": 30.0,
        "timeout_graceful_shutdown": REQUEST_SECONDS,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "log_config": None,  # the application configures the log
        "access_log": False,
        "proxy_headers": False,  # realtime.proxies knows how many proxies are trusted
    }
    return uvicorn.Config(app, **(given | options))


def _port(text: str) -> int:
    """Parse a port for argparse, which also parses a string default such as that of the environment."""
    if not text.isdecimal() or not 0 <= int(text) < 65536:  # 0: any free port
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number (PORT=1-65535)")
    return int(text)


def _seconds(text: str) -> float:
    """Parse a delay for argparse, which also parses that of the environment."""
    if not text.isascii() or not text.isdecimal() or int(text) > 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds (SHUTDOWN_DELAY=0-600)")
    return float(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; a second signal does not wait."""
    parser = argparse.ArgumentParser(prog="python -m realtime.server", description="uvicorn that drains its sockets")
    parser.add_argument("app", nargs="?", default="backoffice.asgi:application")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=os.environ.get("PORT") or "8000")
    parser.add_argument("--uds", help="a Unix socket instead of host and port")
    parser.add_argument("--fd", type=int, help="an open listening socket, to share one port between processes")
    parser.add_argument("--log-level", default="info")
    parser.add_argument(
        "--shutdown-delay",
        type=_seconds,
        default=os.environ.get("SHUTDOWN_DELAY") or "0",
        metavar="SECONDS",
        help="after SIGTERM: serve for so long without being ready (default: SHUTDOWN_DELAY, or 0)",
    )
    options = vars(parser.parse_args(arguments))
    shutdown_delay = options.pop("shutdown_delay")
    server = Server(configure(**options), shutdown_delay)
    server.run()
    if server.startup_error:
        sys.exit(server.startup_error)


if __name__ == "__main__":
    main()
