"""ASGI middleware that sets the client's address behind proxies, for HTTP and sockets alike.

`X-Forwarded-For` grows to the right: each proxy appends the address that it saw. A client can forge everything left of
the entries of our own proxies, so with n trusted proxies the n-th address from the right is the client's. (A server
option that takes the leftmost address trusts the client, and one that skips trusted networks trusts any client inside
such a network.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Application: TypeAlias = Callable[[Scope, Any, Any], Awaitable[None]]

HEADER: Final = b"x-forwarded-for"


class ClientAddress:
    """Sets the scope's `client` to the address that the outermost of `proxies` trusted proxies saw."""

    def __init__(self, application: Application, proxies: int) -> None:
        self._application, self._proxies = application, proxies

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if self._proxies and scope["type"] in {"http", "websocket"}:
            found = client_address(scope["headers"], self._proxies)
            if found is not None:
                scope = {**scope, "client": (found, 0)}
        await self._application(scope, receive, send)


def client_address(headers: Iterable[tuple[bytes, bytes]], proxies: int) -> str | None:
    """The `proxies`-th address from the right; None where there are fewer, or it is not an address."""
    value = b",".join(value for name, value in headers if name == HEADER)
    hops = value.decode("latin-1").split(",")
    if len(hops) < proxies:
        return None
    hop = hops[-proxies].strip()
    if hop.startswith("["):  # [2001:db8::1]:4711
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:  # 192.0.2.1:4711
        hop = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None
