"""The context of a command: actor, reason, origin, correlation. One ContextVar, set at every entry point.

The web middleware, Celery tasks and management commands each open a context; events appended inside carry it.
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
    """Metadata of the current command, stored with its events.

    actor              ``staff:<id>``, ``key:<id>``, ``command:<name>`` or ``system``
    reason             the reason in the person's words (at most 200 characters)
    ip, user_agent     the origin, for the audit trail
    client_request_id  the client's own name for its request, for support only
    correlation_id     shared by everything that one request caused
    causation_id       the event or command that directly caused this
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
        """The fields that are stored as JSON with each event."""
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
        """The context as message headers, which carry it to a task's worker."""
        return {"formease_context": msgspec.json.encode(self).decode()}


_current: contextvars.ContextVar[Context] = contextvars.ContextVar(
    "events_context",
    default=Context(),  # noqa: B039 - frozen
)


def current() -> Context:
    """The current context; by default that of the system."""
    return _current.get()


@contextmanager
def acting(context: Context | None = None, /, **changes: object) -> Iterator[Context]:
    """Run a block in a changed context: ``with acting(actor="staff:7", reason="asked by phone"): …``."""
    new = msgspec.structs.replace(context or _current.get(), **changes)
    if new.correlation_id is None:
        new = msgspec.structs.replace(new, correlation_id=types.new_id())
    token = _current.set(new)
    try:
        yield new
    finally:
        _current.reset(token)


# -- what was written -------------------------------------------------------------------------------------------------


class Written:
    """The last stream and position that a request or task wrote, for the log of the process."""

    __slots__ = ("position", "stream")

    def __init__(self) -> None:
        self.stream: str | None = None
        self.position: int | None = None


_written: contextvars.ContextVar[Written | None] = contextvars.ContextVar("events_written", default=None)


@contextmanager
def observing_writes() -> Iterator[Written]:
    """Run a block whose commands note here what they wrote."""
    written = Written()
    token = _written.set(written)
    try:
        yield written
    finally:
        _written.reset(token)


def note_written(stream: str, position: int) -> None:
    """Note the last event of a command that was committed."""
    if (written := _written.get()) is not None:
        written.stream, written.position = stream, position


def last_written() -> Written | None:
    """The last write of this request or task; None outside `observing_writes`."""
    return _written.get()


# -- as message headers ------------------------------------------------------------------------------------------------


def from_headers(headers: dict[str, str]) -> Context | None:
    """The context in a message's headers (`Context.headers`), or None."""
    raw = headers.get("formease_context")
    return msgspec.json.decode(raw, type=Context) if raw else None
