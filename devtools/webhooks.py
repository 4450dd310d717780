"""A receiver of signed webhooks, to see that alerts arrive: for `receive_webhooks` and for the chaos test."""

from __future__ import annotations

import base64
import contextlib
import hmac
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

import msgspec

KEY_PREFIX: Final = "whsec_"
MAX_BYTES: Final = 100_000


class Received(NamedTuple):
    """A request: its id, its body, whether the signature is that of the key, and how often the id had come before."""

    id: str
    body: dict[str, Any]
    is_signed: bool
    earlier: int


# Returns the status of the answer; None: the connection ends without one.
Answer = Callable[[Received], int | None]


def accept(_received: Received) -> int:
    return 204


class Receiver:
    """An HTTP server on this machine; each request is a thread."""

    def __init__(self, answer: Answer = accept, *, key: str = "", port: int = 0) -> None:
        self.key, self._answer = key, answer
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _receive(self, headers: Any, body: bytes) -> int | None:
        with self._lock:
            name = headers.get("webhook-id", "")
            earlier = self._counts.get(name, 0)
            self._counts[name] = earlier + 1
            try:
                decoded = msgspec.json.decode(body, type=dict[str, Any])
            except msgspec.MsgspecError:
                return 400
            return self._answer(Received(name, decoded, self._is_signed(headers, body), earlier))

    def _is_signed(self, headers: Any, body: bytes) -> bool:
        """Whether one of the signatures is that of the key over ``id.timestamp.body``."""
        secret = base64.b64decode(self.key.removeprefix(KEY_PREFIX))
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
        return any(hmac.compare_digest(wanted, one) for one in headers.get("webhook-signature", "").split())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receive = self._receive

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length") or 0), MAX_BYTES)
                status = receive(self.headers, self.rfile.read(length))
                if status is None:
                    self.close_connection = True
                    return
                with contextlib.suppress(OSError):  # the sender may have been killed
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
