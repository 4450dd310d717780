"""Types of events and commands, and their stored names. Pure: msgspec and the standard library only.

Stored names are explicit strings with a schema version, never class paths, so a class may move or be renamed without
touching history. Events and commands are frozen `msgspec.Struct`s; a registry maps name to class at import time.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import MAXYEAR, UTC, datetime
from functools import lru_cache
from hashlib import sha1
from typing import Any, Final, TypeAlias, TypeVar, get_args

import msgspec

from events import errors

EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)

# Replaces personal data once its subject has been erased.
ERASED: Final = "erased"

# Why a stored event cannot be read: code -> explanation, for programs and logs.
UNREADABLE: Final[Mapping[str, str]] = {
    "not_json": "its data is not JSON that this release can read",
    "unknown_version": "its data has a schema version that this release cannot read",
    "does_not_fit": "its data does not fit its type",
    "unknown_type": "this release does not know its type, which a state needs",
    "tampered": "its personal data was altered",
    "no_key": "its personal data cannot be decrypted",
    "no_instant": "the time it was recorded at is none that this release can read",
}

JsonDict: TypeAlias = dict[str, Any]
Upcaster: TypeAlias = Callable[[JsonDict], JsonDict]


# Events are frozen and contain only JSON values, so none is part of a reference cycle. Without garbage collection
# (`gc=False`) a process that reads or keeps many of them needs a quarter less time.


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of all event data, named in the past tense. Register subclasses with `@event_type`."""


class CommandData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all command data, named in the imperative. Register subclasses with `@command_type`.

    Optional fields of an update default to `msgspec.UNSET`: missing is not null.
    """


E = TypeVar("E", bound=type[Event])
C = TypeVar("C", bound=type[CommandData])


class Subject(msgspec.Struct, frozen=True):
    """A template for subjects: a fixed prefix, and a field of the event or the record's key."""

    prefix: str
    field: str

    def of(self, stream: str, event: Event) -> str:
        if self.field == "key":
            return self.prefix + key_of(stream)
        return _joined(self.prefix, getattr(event, self.field))

    def of_state(self, stream: str, state: Any) -> str | None:
        """The subject of a folded state; None while its field is not set."""
        if self.field == "key":
            return self.prefix + key_of(stream)
        value = getattr(state, self.field, None)
        return None if value is None else _joined(self.prefix, value)


@lru_cache(maxsize=1_024)  # an import repeats one form for each row, and formatting a UUID is slow
def _joined(prefix: str, value: Any) -> str:
    return f"{prefix}{value}"


class EventType(msgspec.Struct, frozen=True):
    """A registered event: its stored name, class and schema version, and the upcasters from older versions.

    personal  encrypted parts: path (``email``, ``command.data``) -> its value once it is erased
    subject   the subject whose key encrypts them; None for events about nobody
    within    another subject that must not be erased when this event is written
    erases    the event erases a subject's data: copies of events in memory must be dropped
    defaults  default values, which are not stored, by field; `nested`: personal paths that lead into an object
    instants  fields that hold times; `check` raises `ValueError` for values that the field types cannot exclude
    """

    name: str
    cls: type[Event]
    schema_version: int
    upcasters: dict[int, Upcaster]
    personal: Mapping[str, Any] = {}
    subject: Subject | None = None
    within: Subject | None = None
    erases: bool = False
    defaults: Mapping[str, Any] = {}
    nested: tuple[str, ...] = ()
    instants: tuple[str, ...] = ()
    check: Callable[[Any], None] | None = None


class CommandType(msgspec.Struct, frozen=True):
    """A registered command. `despite_gaps`: it is decided even when events of the record cannot be read."""

    name: str
    cls: type[CommandData]
    despite_gaps: bool = False


_events: dict[str, EventType] = {}
_event_names: dict[type[Event], EventType] = {}
_commands: dict[str, CommandType] = {}
_command_names: dict[type[CommandData], CommandType] = {}


def event_type(
    name: str,
    schema_version: int = 1,
    *,
    personal: Sequence[str] | Mapping[str, Any] = (),
    subject: str | None = None,
    within: str | None = None,
    erases: bool = False,
    check: Callable[[Any], None] | None = None,
) -> Callable[[E], E]:
    """Register an event class under its stored name. Raises `RuntimeError` for a second class under the same name.

    `personal` names the fields to encrypt, `subject` their subject: ``user-{key}`` (the record itself) or
    ``form-{form_id}`` (by a field). Fields that are not text are mapped to their erased value. The reason of an event
    with a subject is encrypted too. `check` is called before an event is stored and when it is read; it raises
    `ValueError` for an event that does not fit its type.
    """

    def register(cls: E) -> E:
        if name in _events:
            raise RuntimeError(f"event type {name!r} is registered twice: {_events[name].cls!r} and {cls!r}")
        if personal and subject is None:
            raise RuntimeError(f"event type {name!r} has personal fields, but no subject")
        _events[name] = _event_names[cls] = EventType(
            name=name,
            cls=cls,
            schema_version=schema_version,
            upcasters={},
            personal=personal if isinstance(personal, Mapping) else dict.fromkeys(personal, ERASED),
            subject=parse_subject(subject),
            within=parse_subject(within),
            erases=erases,
            defaults={f.name: f.default for f in msgspec.structs.fields(cls) if f.default is not msgspec.NODEFAULT},
            nested=tuple(path for path in personal if "." in path),
            instants=tuple(f.name for f in msgspec.structs.fields(cls) if _is_instant(f.type)),
            check=check,
        )
        return cls

    return register


@lru_cache(maxsize=256)
def parse_subject(template: str | None) -> Subject | None:
    """``form-{form_id}`` as a `Subject`; None for None."""
    if template is None:
        return None
    prefix, _, rest = template.partition("{")
    return Subject(prefix, rest.removesuffix("}"))


def upcaster(name: str, from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Register the step from `from_version` to the next: plain `dict -> dict`, placed right below its event."""

    def register(step: Upcaster) -> Upcaster:
        steps = event_type_of(name).upcasters
        if from_version in steps:
            raise RuntimeError(f"{name} has two upcasters from schema version {from_version}")
        steps[from_version] = step
        return step

    return register


def command_type(name: str, *, despite_gaps: bool = False) -> Callable[[C], C]:
    """Register a command class under its name in requests.

    `despite_gaps`: for commands that erase data regardless of its content, so unreadable events must not block them.
    They are decided on the readable events, with `Decision.has_gaps` set.
    """

    def register(cls: C) -> C:
        if name in _commands:
            raise RuntimeError(f"command {name!r} is registered twice: {_commands[name].cls!r} and {cls!r}")
        _commands[name] = _command_names[cls] = CommandType(name, cls, despite_gaps)
        return cls

    return register


def event_type_of(event: str | type[Event]) -> EventType:
    """The registration of a stored name or an event class; raises `UnknownEventType`."""
    found = _events.get(event) if isinstance(event, str) else _event_names.get(event)
    if found is None:
        raise errors.UnknownEventType(f"No event type {event!r} is registered.")
    return found


def command_type_of(command: str | type[CommandData]) -> CommandType:
    """The registration of a command name or class; raises `UnknownCommand`."""
    found = _commands.get(command) if isinstance(command, str) else _command_names.get(command)
    if found is None:
        raise errors.UnknownCommand(f"No command {command!r} is registered.")
    return found


def erases(name: str) -> bool:
    """True when events of this stored name erase a subject's data."""
    known = _events.get(name)
    return known is not None and known.erases


def event_types() -> Iterator[EventType]:
    """All registered event types, by name."""
    return iter(sorted(_events.values(), key=lambda t: t.name))


def command_types() -> Iterator[CommandType]:
    """All registered commands, by name."""
    return iter(sorted(_commands.values(), key=lambda t: t.name))


# One year less at either end than Python allows: in another time zone it may be another year.
YEARS: Final = range(2, MAXYEAR)


def demand_fit(known: EventType, event: Event) -> None:
    """Raises `ValueError` for an event that its field types allow and readers cannot take.

    Such an event has a time in the first or last year of Python's calendar, or a value that the type's own `check`
    refuses.
    """
    for name in known.instants:
        value = getattr(event, name)
        if isinstance(value, datetime) and value.year not in YEARS:
            raise ValueError(f"{name}: the year must be between {YEARS[0]} and {YEARS[-1]}")
    if known.check is not None:
        known.check(event)


def _is_instant(annotation: Any) -> bool:
    return annotation is datetime or any(_is_instant(part) for part in get_args(annotation))


def upcast(name: str, schema_version: int, data: JsonDict) -> JsonDict:
    """Stored data upcast to the newest schema version, one version at a time.

    Raises `InvalidEvent` for a missing step or for data written by a newer release.
    """
    known = event_type_of(name)
    if schema_version > known.schema_version:
        raise errors.InvalidEvent(f"{name} schema version {schema_version} is newer than this release understands.")
    for version in range(schema_version, known.schema_version):
        step = known.upcasters.get(version)
        if step is None:
            raise errors.InvalidEvent(f"{name} has no upcaster from schema version {version}.")
        data = step(data)
    return data


def decode_event(name: str, schema_version: int, data: JsonDict) -> Event:
    """Stored data as its typed event, upcast to the newest shape; unknown properties are ignored."""
    known = event_type_of(name)
    if schema_version != known.schema_version:
        data = upcast(name, schema_version, data)
    try:
        event = msgspec.convert(data, known.cls)
        demand_fit(known, event)
    except ValueError as error:  # msgspec.ValidationError is one
        raise errors.InvalidEvent(f"{name} v{schema_version}: {error}") from error
    return event


def decode_command(name: str, data: Mapping[str, Any]) -> CommandData:
    """Data of a request as a typed command; raises `UnknownCommand` or `InvalidCommand` naming the field."""
    known = command_type_of(name)
    try:
        return msgspec.convert(data, known.cls)
    except msgspec.ValidationError as error:
        field, message = _field_of(str(error))
        raise errors.InvalidCommand(fields={field: message}) from error


def _field_of(message: str) -> tuple[str, str]:
    """Split msgspec's "… - at `$.email`" into the field it names and the rest."""
    text, _, path = message.partition(" - at `$.")
    if path:
        return path.rstrip("`").split(".")[0].split("[")[0], text
    if "`" in text:  # "Object missing required field `email`", "Object contains unknown field `x`"
        return text.split("`")[-2].removeprefix("$.").removeprefix("$") or "data", text
    return "data", text


def to_builtins(value: Any) -> Any:
    """Structs, dates and UUIDs as JSON values, unset fields left out."""
    return msgspec.to_builtins(value)


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that is about to be appended: numbered, without a position. Input of inline projections.

    `data` is the typed event; `recorded_at` the database's transaction time, which the store writes too.
    """

    stream: str
    version: int
    data: Event
    event_id: uuid.UUID
    recorded_at: datetime

    @property
    def key(self) -> str:
        """The record's id: the stream's name after its category."""
        return key_of(self.stream)

    @property
    def type(self) -> str:
        return event_type_of(type(self.data)).name


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as the store returns it.

    position        place in the whole log: ascending in commit-safe order, with holes, never reused
    stream, version the record's stream and the event's number in it, from 1 without holes
    type            stored name, such as ``user.created``
    data            the JSON object as stored but upcast; `event` decodes it to its class
    unreadable      why the event cannot be read, a code of `UNREADABLE`; then `data` is empty (of an unknown type as
                    stored). Everything else is as stored, except that 1970 replaces a time that cannot be read
    recorded_at     the database's time of the transaction that wrote it
    actor           who: ``staff:<id>``, ``key:<id>``, ``system`` …
    """

    position: int
    stream: str
    version: int
    type: str
    schema_version: int
    data: JsonDict
    event_id: uuid.UUID
    recorded_at: datetime
    actor: str
    reason: str | None
    correlation_id: uuid.UUID | None
    causation_id: uuid.UUID | None
    metadata: JsonDict
    unreadable: str | None = None

    @property
    def key(self) -> str:
        return key_of(self.stream)

    @property
    def category(self) -> str:
        return category_of(self.stream)

    @property
    def event(self) -> Event:
        """`data` as its typed event. Raises `UnknownEventType` or `UnreadableEvent`."""
        known = event_type_of(self.type)
        if self.unreadable:
            raise errors.UnreadableEvent(self.unreadable, self.stream, self.version, self.position)
        return msgspec.convert(self.data, known.cls)

    def to_wire(self) -> JsonDict:
        """The event as JSON for the API and the socket, which share this shape."""
        event: JsonDict = {
            "position": self.position,
            "stream": self.stream,
            "version": self.version,
            "event": self.type,
            "schema_version": self.schema_version,
            "data": self.data,
            "timestamp": self.recorded_at.isoformat().replace("+00:00", "Z"),
            "actor": self.actor,
            "correlation_id": str(self.correlation_id) if self.correlation_id else None,
            "causation_id": str(self.causation_id) if self.causation_id else None,
            "event_id": str(self.event_id),
        }
        if self.reason:
            event["reason"] = self.reason
        if self.unreadable:
            event["unreadable"] = self.unreadable
        return event


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One requested write. `id` is its idempotency key; `key` names the record (chosen by the client on create).

    `base_version` is the version that the editor opened; it reveals changes that others made since.
    """

    id: uuid.UUID
    key: str
    data: CommandData
    base_version: int | None = None
    reason: str | None = None

    @property
    def type(self) -> str:
        return command_type_of(type(self.data)).name


def stream_name(category: str, key: str | uuid.UUID) -> str:
    return f"{category}-{key}"


def category_of(stream: str) -> str:
    return stream.partition("-")[0]


def key_of(stream: str) -> str:
    return stream.partition("-")[2]


def new_id() -> uuid.UUID:
    """A UUID version 7 (RFC 9562 §5.7): time-ordered, so that its index grows at one end."""
    millis = time.time_ns() // 1_000_000
    rand = int.from_bytes(os.urandom(10))
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (rand >> 68 & 0xFFF) << 64 | 0b10 << 62 | rand & (1 << 62) - 1
    return uuid.UUID(int=value)


def named_id(namespace: uuid.UUID, name: str) -> uuid.UUID:
    """A UUID version 5 (RFC 9562 §5.5), in half the time of `uuid.uuid5`."""
    value = int.from_bytes(sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    return uuid.UUID(int=value & ~(0xF << 76 | 0b11 << 62) | 0x5 << 76 | 0b10 << 62)
