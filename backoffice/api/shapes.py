"""Structs of the API's requests and responses. They validate input and are its OpenAPI schemas.

Fields that are hidden from some role are missing from its responses, hence `UNSET`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import section, values
from backoffice.section import Kind
from events import answers, commands, errors, types
from events.types import JsonDict

Reason = Annotated[str, msgspec.Meta(max_length=200, description="The reason for the change.")]
T = TypeVar("T", bound=msgspec.Struct)


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the structs below."""


# -- lists ----------------------------------------------------------------------------------------------------------


class PageInfo(Shape, frozen=True, kw_only=True):
    """Position of a page in its list. `total_count` is exact up to 10,000 and may be an estimate beyond."""

    has_next_page: bool
    has_previous_page: bool
    next_cursor: str | None
    previous_cursor: str | None
    total_count: int | None
    total_is_exact: bool


@functools.cache
def page_of(item: type[msgspec.Struct], name: str) -> type[msgspec.Struct]:
    """Returns the struct of a page of a list, called ``<name>Page``."""
    fields: list[Any] = [("items", list[item]), ("page_info", PageInfo)]  # type: ignore[valid-type]
    return msgspec.defstruct(f"{name}Page", fields, bases=(Shape,), module=__name__, frozen=True, kw_only=True)


def record_of(kind: Kind) -> type[msgspec.Struct]:
    """Returns the struct of a single record, with the fields of extensions."""
    return _extended(kind, in_record=True)


def item_of(kind: Kind) -> type[msgspec.Struct]:
    """Returns the struct of a list's item, with the fields of extensions."""
    return _extended(kind, in_record=False)


@functools.cache
def new_of(kind: Kind) -> type[msgspec.Struct]:
    """Returns the struct of a POST to a kind's list: the data of the creating command, and the record's id."""
    assert kind.shape is not None
    command = types.command_type_of(kind.create or "").cls
    identity: type[Any] = UUID | UnsetType if kind.is_uuid_keyed else str  # type: ignore[assignment]
    field: Any = ("id", identity, UNSET) if kind.is_uuid_keyed else ("id", identity)
    name = f"New{kind.shape.__name__}"
    return msgspec.defstruct(name, [field], bases=(command,), module=__name__, frozen=True, kw_only=True)


@functools.cache
def _extended(kind: Kind, *, in_record: bool) -> type[msgspec.Struct]:
    """Returns the struct of a kind with the fields of extensions, called ``<name>Item`` if items have more fields."""
    assert kind.shape is not None
    found = [more for more in section.extensions(kind.category) if more.item_fields]
    if not in_record and all(more.in_record for more in found):
        return record_of(kind)
    added = [more.item_fields for more in found if more.item_fields and (more.in_record or not in_record)]
    if not added:
        return kind.shape
    fields: list[Any] = [_field(each) for struct in added for each in msgspec.structs.fields(struct)]
    documented = [kind.shape.__doc__, *(struct.__doc__ for struct in added)]
    return msgspec.defstruct(
        kind.shape.__name__ if in_record else f"{kind.shape.__name__}Item",
        fields,
        bases=(kind.shape,),
        module=kind.shape.__module__,
        namespace={"__doc__": "\n\n".join(inspect.cleandoc(text) for text in documented if text)},
        frozen=True,
        kw_only=True,
    )


def _field(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    """Returns a field in the form that `defstruct` takes."""
    return (field.name, field.type) if field.required else (field.name, field.type, field.default)


# -- events ---------------------------------------------------------------------------------------------------------


Unreadable = Literal["not_json", "unknown_version", "does_not_fit", "unknown_type", "tampered", "no_key", "no_instant"]


class UnreadableEvent(Shape, frozen=True, kw_only=True):
    """An event that this release cannot read, so that its change is missing from a state."""

    position: int
    version: int
    unreadable: Unreadable


class Event(Shape, frozen=True, kw_only=True):
    """An event in the API and on the socket.

    `unreadable` is the reason why it cannot be read; then `data` is empty or, for an unknown type, as stored."""

    position: int
    stream: str
    version: int
    event: str
    schema_version: int
    data: JsonDict
    timestamp: datetime
    actor: str
    reason: str | UnsetType = UNSET
    correlation_id: UUID | None
    causation_id: UUID | None
    event_id: UUID
    unreadable: Unreadable | UnsetType = UNSET


class StreamPage(Shape, frozen=True, kw_only=True):
    """Events of one record, in order; `version` is the record's version now."""

    items: list[Event]
    version: int


class EventPage(Shape, frozen=True, kw_only=True):
    """Events in global order.

    No event can still appear at or below `head`: continue with `after` = the last position, or = `head` if there were
    fewer than `limit` events."""

    items: list[Event]
    head: int


class State(Shape, frozen=True, kw_only=True):
    """A record at a version; `state` is null before its creation. `unreadable` lists events missing from the state."""

    stream: str
    version: int
    state: JsonDict | None
    unreadable: list[UnreadableEvent] | UnsetType = UNSET


# -- commands -------------------------------------------------------------------------------------------------------


class Envelope(Shape, frozen=True, kw_only=True):
    """A command. `id` is its idempotency key; `key` is the record's key, which the client chooses for a new record."""

    id: UUID
    type: str
    key: str
    data: JsonDict = {}
    base_version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    reason: Reason | None = None


class Applied(Shape, frozen=True, kw_only=True):
    """The result of a command.

    `status`: applied; merged (with concurrent changes of other fields); unchanged; duplicate (the `id` was used
    before: the first result). `merged` lists the side from which a merge took each change."""

    id: UUID
    status: answers.Status
    stream: str
    version: int
    position: int | None
    events: list[commands.EventRef]
    merged: list[JsonDict] | UnsetType = UNSET


class Because(Shape, frozen=True, kw_only=True):
    reason: Reason | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). `code` is stable; `errors` has one message per field."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str | UnsetType = UNSET
    request_id: UUID | UnsetType | None = UNSET
    errors: dict[str, str] | UnsetType = UNSET


class ConflictProblem(Problem, frozen=True, kw_only=True):
    """Someone else changed the same fields since `base_version`, or (`why`: age) the command was queued for too long.

    Nothing was applied. `base` is the record at `base_version`, `theirs` at `version`, `mine` is `base` with only this
    command applied; a person must decide `fields`."""

    stream: str
    base_version: int
    version: int
    base: JsonDict
    theirs: JsonDict
    mine: JsonDict
    fields: list[str]
    conflicts: list[JsonDict]
    conflict_id: UUID | None
    why: Literal["conflict", "age"]


# -- sync -----------------------------------------------------------------------------------------------------------


class Mutation(Envelope, frozen=True, kw_only=True):
    """A command that was queued offline.

    `seq` orders the queue. `base_version` is the version that the author edited, including their own queued edits;
    `trunk_version` is the last version from the server. `queued_at` is the time on the device's clock."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    trunk_version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    queued_at: datetime | None = None


class Queue(Shape, frozen=True, kw_only=True):
    """The queue of one browser.

    `client_id` identifies the browser and never changes. `person` is the author (the number from
    `/admin/offline/person/`); another person's session gets the error `other_person`. `sent_at` is the time of sending
    on the device's clock: an edit's age is `sent_at` - `queued_at`, so that a wrong clock does not matter."""

    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    person: int | None = None
    sent_at: datetime | None = None
    mutations: list[JsonDict]


class SyncVerdict(Shape, frozen=True, kw_only=True):
    """The result of one queued command.

    `problem` is the error that the command would receive alone: a conflict with the three versions and its
    `conflict_id`, or another error. `blocked_by` is the `seq` of an earlier command for its record."""

    seq: int
    status: Literal["applied", "merged", "unchanged", "duplicate", "conflict", "rejected"]
    id: UUID | UnsetType | None = UNSET
    stream: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    position: int | UnsetType | None = UNSET
    events: list[commands.EventRef] | UnsetType = UNSET
    merged: list[JsonDict] | UnsetType = UNSET
    conflict_id: UUID | UnsetType = UNSET
    code: str | UnsetType = UNSET
    blocked_by: int | UnsetType = UNSET
    problem: JsonDict | UnsetType = UNSET


class SyncAnswer(Shape, frozen=True, kw_only=True):
    """One verdict for each command, in the order of `seq`."""

    results: list[SyncVerdict]


# -- ingest ---------------------------------------------------------------------------------------------------------


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent (1.0) in structured mode. `subject` is the record's key."""

    specversion: Literal["1.0"]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    time: datetime | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    dataschema: str | UnsetType = UNSET
    data: JsonDict | UnsetType = UNSET
    data_base64: str | UnsetType = UNSET
    baseversion: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET


class Verdict(Shape, frozen=True, kw_only=True):
    """The result of one event of a batch.

    `id` and `source` are the event's; `command_id` and the following fields are the result of its command. `problem`
    is the error that a ``rejected`` event would receive alone."""

    id: str
    source: str
    status: Literal["applied", "merged", "unchanged", "duplicate", "rejected"]
    command_id: UUID | UnsetType = UNSET
    stream: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    position: int | UnsetType | None = UNSET
    events: list[commands.EventRef] | UnsetType = UNSET
    merged: list[JsonDict] | UnsetType = UNSET
    problem: JsonDict | UnsetType = UNSET


class Batch(Shape, frozen=True, kw_only=True):
    """One verdict for each event, in the order sent."""

    results: list[Verdict]


# -- checking -------------------------------------------------------------------------------------------------------


def checked(cls: type[T], given: Mapping[str, Any], *, lenient: bool = False) -> T:
    """Returns `given` as a struct. `lenient` ignores unknown fields.

    Raises `errors.InvalidCommand` with the errors of all fields.
    """
    known = _fields(cls)
    complaints = {} if lenient else {name: "There is no such field." for name in given if name not in known}
    taken: dict[str, Any] = {}
    for name, field in known.items():
        if name in given:
            try:
                taken[field.name] = in_utc(msgspec.convert(given[name], field.type))
            except (msgspec.ValidationError, ValueError) as error:
                complaints[name] = f"{error}."
        elif field.required:
            complaints[name] = "This field is required."
    if complaints:
        raise errors.InvalidCommand(fields=complaints)
    return cls(**taken)


@functools.cache
def _fields(cls: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """Returns the fields by their encoded names. Cached, because msgspec evaluates all annotations at each call."""
    return {field.encode_name: field for field in msgspec.structs.fields(cls)}


def in_utc(value: Any) -> Any:
    """Converts a datetime to UTC (one without a zone is taken as UTC); returns other values unchanged.

    Raises `ValueError` for years that PostgreSQL stores but Python cannot read.
    """
    try:
        return values.utc(value) if isinstance(value, datetime) else value
    except OverflowError:
        raise ValueError("This instant is out of range") from None
