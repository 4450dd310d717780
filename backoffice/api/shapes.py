"""The shapes of what goes in and out, as structs: they describe the API (OpenAPI) and check what comes in.

A field that some role never sees may be missing from what it reads, hence `UNSET`.
"""

from __future__ import annotations

import functools
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

Reason = Annotated[str, msgspec.Meta(max_length=200, description="Why, in the person's words.")]
T = TypeVar("T", bound=msgspec.Struct)


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the shapes below."""


# -- lists ----------------------------------------------------------------------------------------------------------


class PageInfo(Shape, frozen=True, kw_only=True):
    """Where a page is. Counted exactly up to 10,000; beyond that `total_count` is an estimate."""

    has_next_page: bool
    has_previous_page: bool
    next_cursor: str | None
    previous_cursor: str | None
    total_count: int | None
    total_is_exact: bool


@functools.cache
def page_of(item: type[msgspec.Struct], name: str) -> type[msgspec.Struct]:
    """The shape of a page of a list, called ``<name>Page``."""
    fields: list[Any] = [("items", list[item]), ("page_info", PageInfo)]  # type: ignore[valid-type]
    return msgspec.defstruct(f"{name}Page", fields, bases=(Shape,), module=__name__, frozen=True, kw_only=True)


def record_of(kind: Kind) -> type[msgspec.Struct]:
    """The shape of a single record, with the fields that other sections add to it."""
    return _extended(kind, in_record=True)


def item_of(kind: Kind) -> type[msgspec.Struct]:
    """The shape of a list's item, with the fields that other sections add to it."""
    return _extended(kind, in_record=False)


@functools.cache
def new_of(kind: Kind) -> type[msgspec.Struct]:
    """The body of a POST to the list of a kind: the data of the command that creates a record, and its id."""
    assert kind.shape is not None
    command = types.command_type_of(kind.create or "").cls
    identity: type[Any] = UUID | UnsetType if kind.is_uuid_keyed else str  # type: ignore[assignment]
    field: Any = ("id", identity, UNSET) if kind.is_uuid_keyed else ("id", identity)
    name = f"New{kind.shape.__name__}"
    return msgspec.defstruct(name, [field], bases=(command,), module=__name__, frozen=True, kw_only=True)


@functools.cache
def _extended(kind: Kind, *, in_record: bool) -> type[msgspec.Struct]:
    """The shape of a kind with the fields of its extensions; ``<name>Item`` where items have more than the record."""
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
        namespace={"__doc__": "\n\n".join(text for text in documented if text)},
        frozen=True,
        kw_only=True,
    )


def _field(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    """A field as `defstruct` takes it."""
    return (field.name, field.type) if field.required else (field.name, field.type, field.default)


# -- events ---------------------------------------------------------------------------------------------------------


Unreadable = Literal["not_json", "unknown_version", "does_not_fit", "unknown_type", "tampered", "no_key", "no_instant"]


class UnreadableEvent(Shape, frozen=True, kw_only=True):
    """An event whose change is missing from a state, because this release cannot read it."""

    position: int
    version: int
    unreadable: Unreadable


class Event(Shape, frozen=True, kw_only=True):
    """Something that happened, as the API and the socket show it. `unreadable` says why an event cannot be read; then
    `data` is empty, or of an unknown type as stored."""

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
    """Events in global order. Nothing at or below `head` can still appear: go on with `after` = the last position, or
    with `head` when fewer than `limit` came."""

    items: list[Event]
    head: int


class State(Shape, frozen=True, kw_only=True):
    """A record as it was; `state` is null when there was nothing yet. `unreadable` lists events that it lacks."""

    stream: str
    version: int
    state: JsonDict | None
    unreadable: list[UnreadableEvent] | UnsetType = UNSET


# -- commands -------------------------------------------------------------------------------------------------------


class Envelope(Shape, frozen=True, kw_only=True):
    """One write. `id` is its idempotency key; `key` names the record and is chosen by the client on create."""

    id: UUID
    type: str
    key: str
    data: JsonDict = {}
    base_version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    reason: Reason | None = None


class Applied(Shape, frozen=True, kw_only=True):
    """The answer to a write. `status`: applied; merged (somebody else changed other things meanwhile); unchanged;
    duplicate (the same `id` again: the first answer). `merged` says what a merge took from whom."""

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
    """A refusal (RFC 9457). `code` is stable; `errors` has one message per field."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str | UnsetType = UNSET
    request_id: UUID | UnsetType | None = UNSET
    errors: dict[str, str] | UnsetType = UNSET


class ConflictProblem(Problem, frozen=True, kw_only=True):
    """Somebody else changed the same fields since `base_version`, or (`why`: age) it was queued too long ago. Nothing
    was applied. `base` is the record as it was then, `theirs` as it is now, `mine` as this command alone would have
    left it; `fields` are to be decided."""

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
    """A command that was queued offline. `seq` orders the queue; `base_version` is the version its author would have
    had, `trunk_version` the last one they had from the server, under their own queued edits; `queued_at` when, by
    the device's clock."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    trunk_version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    queued_at: datetime | None = None


class Queue(Shape, frozen=True, kw_only=True):
    """What one browser queued; `client_id` is its own, and the same every time. `person` is who queued it (the number
    that `/admin/offline/person/` gives): from the session of anybody else it is refused as `other_person`. `sent_at` is
    the device's time as it sends: an edit's age is `sent_at` - `queued_at`, whatever the clock of the device shows."""

    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    person: int | None = None
    sent_at: datetime | None = None
    mutations: list[JsonDict]


class SyncVerdict(Shape, frozen=True, kw_only=True):
    """What became of one queued command. `problem` is what it would have been answered alone: a conflict with the three
    versions and its `conflict_id`, or a refusal; `blocked_by` the `seq` of an earlier one of its record."""

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
    """One verdict for each, in `seq` order."""

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
    """What became of one event of a batch. `id` and `source` are the event's own; `command_id` and what follows are the
    command's answer; `problem` is what the event would have been answered alone, when its status is ``rejected``."""

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
    """`given` as a struct; all complaints at once, one per field, as `errors.InvalidCommand`. `lenient` ignores unknown
    fields instead of refusing them."""
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
    """Asked once for each class: msgspec evaluates all annotations every time."""
    return {field.encode_name: field for field in msgspec.structs.fields(cls)}


def in_utc(value: Any) -> Any:
    """An instant in UTC (without a zone it is taken as UTC); anything else as it is. PostgreSQL would keep the year 0,
    and nobody could read the record any more: `ValueError`."""
    try:
        return values.utc(value) if isinstance(value, datetime) else value
    except OverflowError:
        raise ValueError("This instant is out of range") from None
