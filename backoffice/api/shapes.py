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

from backoffice import values
from events import answers, commands, errors
from events.types import JsonDict

Reason = Annotated[str, msgspec.Meta(max_length=200, description="Why, in the person's words.")]
T = TypeVar("T", bound=msgspec.Struct)


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the shapes below."""


# -- people ---------------------------------------------------------------------------------------------------------


class Person(Shape, frozen=True, kw_only=True):
    """Everything held about a user; records carry their events under `events`."""

    format: str
    head: int
    user: JsonDict
    events: list[JsonDict]
    forms: list[JsonDict]
    submissions: list[JsonDict]
    conflicts: list[JsonDict]
    audit: list[JsonDict]


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


# -- conflicts ------------------------------------------------------------------------------------------------------


class ConflictItem(Shape, frozen=True, kw_only=True):
    """A change that waits for a person. `stream` is the record's; `fields` the paths both changed; `why`: conflict, or
    age (it was queued offline for too long to be applied unseen); `assignee` the number of a login."""

    id: UUID
    status: Literal["open", "resolved", "dismissed"]
    stream: str
    command: str
    why: Literal["conflict", "age"]
    fields: list[str]
    reason: str
    base_version: int
    author: str
    author_name: str
    assignee: int | None
    comments: int
    created_at: datetime
    closed_at: datetime | None
    version: int


class ConflictPage(Shape, frozen=True, kw_only=True):
    """A page of the inbox."""

    items: list[ConflictItem]
    page_info: PageInfo


class ConflictNow(Shape, frozen=True, kw_only=True):
    """How things stand: the `record` at `version`, what is still to be decided, and the two `merged` as far as they go
    (theirs where they do not; null when the change is one that is carried out or not)."""

    version: int
    record: JsonDict
    conflicts: list[JsonDict]
    merged: JsonDict | None


class ConflictRecord(ConflictItem, frozen=True, kw_only=True):
    """A conflict with its three versions as they were filed; `data` is what was asked for, `record_version` the
    record's version then, `events` what was done about it."""

    base: JsonDict
    theirs: JsonDict
    mine: JsonDict
    data: JsonDict
    record_version: int
    source: JsonDict | None
    now: ConflictNow
    events: list[JsonDict]


class Resolution(Shape, frozen=True, kw_only=True):
    """Path -> `theirs`, `mine` or `value`; what was typed is in `values`. A change that is carried out or not as a
    whole (a deletion) has the path `*`. `version` is that of the record when you decided."""

    choices: dict[str, Literal["theirs", "mine", "value"]] = {}
    values: JsonDict = {}
    reason: Reason | None = None
    version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


class Settled(Shape, frozen=True, kw_only=True):
    """The conflict afterwards; `result` is the change that was made, null when the record stays as it is."""

    conflict: ConflictRecord
    result: Applied | None
    version: int


class Assignment(Shape, frozen=True, kw_only=True):
    assignee: int | Literal["me"] | None


class Remark(Shape, frozen=True, kw_only=True):
    text: Annotated[str, msgspec.Meta(max_length=2000)]


class Because(Shape, frozen=True, kw_only=True):
    reason: Reason | None = None


# -- system ---------------------------------------------------------------------------------------------------------


class Checkpoint(Shape, frozen=True, kw_only=True):
    """Where one subscription, or one partition of it, stands. `behind` counts events (at most 10,000 when `many`);
    `seconds` is the age of the first of them; `pace` positions a second over the last minute, null when not known."""

    name: str
    subscription: str
    state: Literal["running", "late", "failing", "stopped", "new", "unknown"]
    position: int
    behind: int
    many: bool
    seconds: float | None
    pace: float | None
    owner: str | None
    leased_until: datetime | None
    fence: int
    updated_at: datetime | None
    error: str | None
    parked: int


class Checkpoints(Shape, frozen=True, kw_only=True):
    """All of them; the log can be read up to `head`."""

    items: list[Checkpoint]
    head: int


class CacheProcess(Shape, frozen=True, kw_only=True):
    """The cache of one web process. `connected`: it follows the log closely enough to use cached values; `valkey` is
    `open` after a failed call."""

    host: str
    pid: int
    behind: int
    connected: bool
    position: int
    valkey: Literal["ok", "open", "unused"]
    bytes: int
    limit: int


class CacheQuery(Shape, frozen=True, kw_only=True):
    """One query in all processes since they started. `within`: the seconds an answer may be old, null when it is always
    current; `seconds`: how long it is kept at most, 0 when it is not cached; `shared`: also kept in Valkey, from where
    it was answered `shared_hits` times; `hits` came from memory."""

    query: str
    within: float | None
    seconds: float
    shared: bool
    hits: int
    shared_hits: int
    misses: int
    loads: int
    waits: int
    evictions: int
    compared: int
    differences: int
    entries: int
    bytes: int


class CacheFigures(Shape, frozen=True, kw_only=True):
    processes: list[CacheProcess]
    queries: list[CacheQuery]
    complete: bool


class ParkedStream(Shape, frozen=True, kw_only=True):
    """A stream that was put aside: its first event, what that failed on (null when it only waits to be replayed, or
    when errors are not for the caller), and how many wait behind it."""

    subscription: str
    stream: str
    position: int
    event: str | None
    version: int | None
    error: str | None
    traceback: str | None
    attempts: int
    parked_at: datetime
    tried_at: datetime | None
    waiting: int


class ParkedStreams(Shape, frozen=True, kw_only=True):
    """In the order of positions; go on with `after` = the last position while `more`."""

    items: list[ParkedStream]
    more: bool


class Replay(Shape, frozen=True, kw_only=True):
    """Which parked streams are to be handled again: these, or all (null)."""

    streams: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    reason: Reason | None = None


class Replayed(Shape, frozen=True, kw_only=True):
    """What a replay came to for one stream: events handled and left, and what the next one failed on."""

    stream: str
    handled: int
    left: int
    error: str | None


class Replays(Shape, frozen=True, kw_only=True):
    """Streams that are missing here were not begun within the time of one call, or flow by now: replay again."""

    results: list[Replayed]


class Skip(Shape, frozen=True, kw_only=True):
    """One parked event that is given up, and why."""

    stream: str
    position: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Holder(Shape, frozen=True, kw_only=True):
    """A session, or a prepared transaction (`gid`), that holds the head back; `doing` without the values in it."""

    floor: int
    pid: int | None
    gid: str | None
    application: str | None
    login: str | None
    state: str | None
    since: datetime | None
    seconds: float | None
    doing: str | None
    waits_for: list[int]


class Partition(Shape, frozen=True, kw_only=True):
    """A part of the log on disk: positions `first` to `last`, of which `drawn` are used."""

    name: str
    first: int
    last: int
    drawn: int
    bytes: int


class LastSeal(Shape, frozen=True, kw_only=True):
    """How far the log is sealed; `unsealed` events (at most 10,000 when `many`) follow."""

    number: int
    upto: int
    hash: str | None
    sealed_at: datetime | None
    unsealed: int
    many: bool


class Verification(Shape, frozen=True, kw_only=True):
    """The last check of the whole log that was asked for."""

    at: datetime
    actor: str
    ok: bool
    events: int
    head: int
    sealed_upto: int
    total: int
    findings: list[str]


class LogHead(Shape, frozen=True, kw_only=True):
    """How far the log can be read (`head`), what is given out (`last`), who is in between, how it is laid out, sealed
    and checked. `checking` says since when a check is under way."""

    epoch: str
    head: int
    last: int
    holders: list[Holder]
    partitions: list[Partition]
    room: int
    seal: LastSeal
    verification: Verification | None
    checking: datetime | None


class Rebuild(Shape, frozen=True, kw_only=True):
    """A read table and its latest rebuild. `state`: idle, waits (for a worker), running, silent (no sign for a minute),
    interrupted."""

    table: str
    state: Literal["idle", "waits", "running", "silent", "interrupted"]
    phase: str
    position: int
    target: int
    events: int
    unreadable: int
    seconds_left: float | None
    owner: str | None
    started_at: datetime | None
    updated_at: datetime | None
    finished_at: datetime | None
    error: str | None
    rows: int
    bytes: int


class Rebuilds(Shape, frozen=True, kw_only=True):
    items: list[Rebuild]


class RebuildWish(Shape, frozen=True, kw_only=True):
    """`fresh` starts anew where an interrupted one is left; `take_over` relieves a builder that hangs."""

    fresh: bool = False
    take_over: bool = False
    reason: Reason | None = None


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
