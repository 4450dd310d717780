"""Complete WebSocket frames that are encoded once and written unchanged to every socket.

Plain ASGI makes the server wrap the same text into a new WebSocket frame for each socket, inside a coroutine per send.
Our server (`realtime.server`) offers the extension `realtime.frames` in the scope: a function that writes a complete
frame at once, or returns False. Other servers lack the extension; under them every frame goes through `send`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

EXTENSION: Final = "realtime.frames"

# Writes a complete frame now. False: nothing was written (buffer full, or closing); `send` then waits or raises.
Write: TypeAlias = Callable[[bytes], bool]


def writer(scope: Mapping[str, Any]) -> Write | None:
    """Returns the server's write function; None when the server has no such extension."""
    offered: Mapping[str, Write] | None = (scope.get("extensions") or {}).get(EXTENSION)
    return offered["write"] if offered else None


def text_frame(text: str) -> bytes:
    """One unfragmented, unmasked text frame, as a server sends it (RFC 6455, section 5.2)."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        head = bytes((0x81, size))
    elif size < 65536:
        head = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + size.to_bytes(8, "big")
    return head + payload


class EncodedFrame:
    """An encoded event frame, shared by every socket that receives the same bytes.

    `raw` is the complete WebSocket frame. `size` is in characters, because browsers count characters before they
    acknowledge.
    """

    __slots__ = ("position", "raw", "size", "text")

    def __init__(self, position: int, text: str) -> None:
        self.position = position
        self.text = text
        self.raw = text_frame(text)
        self.size = len(text)
