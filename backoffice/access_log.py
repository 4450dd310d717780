"""The access log: one record for each HTTP request, with who asked, what was written, and how long it took.

It contains no address of a client, no query string, and a path only where it matches one of this site's: all three may
be personal data. The proxy's own log has them for as long as its operator wants.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from django.conf import settings

log = logging.getLogger(__name__)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY: Final = "backoffice.access"
UNMATCHED: Final = "-"  # a path that this site does not have
CLIENT_LEFT: Final = 499  # as nginx reports a client that closed its connection
# Machines ask for these every few seconds; they are logged when they fail.
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class Entry:
    """The properties of a request that only the application knows; `ContextMiddleware` sets them."""

    path: str | None = None
    request_id: str | None = None
    actor: str | None = None
    stream: str | None = None
    position: int | None = None


def entry(request: Any) -> Entry:
    """The entry of a request; one that nobody reads where there is no access log."""
    found = getattr(request, "scope", {}).get(KEY)
    return found if isinstance(found, Entry) else Entry()


class AccessLog:
    """ASGI middleware that logs every HTTP request once its response has been sent."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not settings.ACCESS_LOG:
            await self._application(scope, receive, send)
            return
        status, start, noted = CLIENT_LEFT, time.perf_counter(), Entry()
        scope[KEY] = noted

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._application(scope, receive, observed)
        except Exception:
            status = 500
            raise
        finally:
            _write(scope, noted, status, time.perf_counter() - start)


def _write(scope: Scope, noted: Entry, status: int, seconds: float) -> None:
    if status < 400 and (scope["path"] in PROBES or scope["path"].startswith(settings.STATIC_URL)):
        return
    known = scope["path"] in PROBES
    fields = {
        "method": scope["method"] if scope["method"] in METHODS else "other",
        "path": noted.path or (scope["path"] if known else UNMATCHED),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "request_id": noted.request_id,
        "actor": noted.actor,
        "stream": noted.stream,
        "position": noted.position,
    }
    log.info("%(method)s %(path)s %(status)d %(ms)s ms", fields, extra=fields)
