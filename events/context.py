"""Who is acting, why, from where, and as part of what. One ContextVar, set at every way in.

The web middleware, Celery's headers and management commands each open a context; what is appended inside carries it.
"""

from __future__ import annotations

import contextvars
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from events import strict_json, types

SYSTEM = "system"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """actor           ``staff:<id>``, ``key:<id>``, ``command:<name>`` or ``system``
    reason          why, in the person's words (at most 200 characters)
    ip, user_agent  from where, for the audit trail
    client_request_id  how the client calls its request; nothing is joined by it
    correlation_id  all that one request caused shares it
    causation_id    the event or command that directly led here
    """

    actor: str = SYSTEM
    actor_name: str | None = None
    reason: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    client_request_id: str | None = None
    correlation_id: uuid.UUID | None = None
    causation_id: uuid.UUID | None = None

    def metadata(self) -> types.JsonDict:
        """The part stored as JSON beside each event."""
        names = ("actor_name", "ip", "user_agent", "client_request_id")
        return {name: value for name in names if (value := getattr(self, name))}

    def encoded_metadata(self) -> str:
        """`metadata` as JSON text, for the statement that stores it. Raises `InvalidJson`."""
        shown = self.metadata()
        if not shown:
            return "{}"
        try:
            data = msgspec.json.encode(shown)
        except UnicodeEncodeError:
            strict_json.check(shown)
            raise
        strict_json.check_encoded(data, lambda: shown)
        return data.decode()

    def headers(self) -> dict[str, str]:
        """The context as message headers, to follow a task to its worker."""
        return {"formease_context": msgspec.json.encode(self).decode()}


_current: contextvars.ContextVar[Context] = contextvars.ContextVar("events_context", default=Context())  # noqa: B039 - frozen


def current() -> Context:
    """The context in force; outside of any it is the system's."""
    return _current.get()


@contextmanager
def acting(context: Context | None = None, /, **changes: object) -> Iterator[Context]:
    """Run a block as somebody: ``with acting(actor="staff:7", reason="asked by phone"): …``."""
    new = msgspec.structs.replace(context or _current.get(), **changes)
    if new.correlation_id is None:
        new = msgspec.structs.replace(new, correlation_id=types.new_id())
    token = _current.set(new)
    try:
        yield new
    finally:
        _current.reset(token)


def from_headers(headers: dict[str, str]) -> Context | None:
    """The context that `Context.headers` put on a message, or None."""
    raw = headers.get("formease_context")
    return msgspec.json.decode(raw, type=Context) if raw else None
