"""Structs of the monitoring API."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

import msgspec

from backoffice.api import shapes


class Checkpoint(shapes.Shape, frozen=True, kw_only=True):
    """Progress of a subscription, or of one partition of it. `behind` counts the events of the backlog (`many`: more
    than 10,000), `seconds` is the age of the oldest one. `pace` is in positions per second over the last minute, or
    null."""

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


class Checkpoints(shapes.Shape, frozen=True, kw_only=True):
    """All checkpoints; the log can be read up to `head`."""

    items: list[Checkpoint]
    head: int


class CacheProcess(shapes.Shape, frozen=True, kw_only=True):
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


class CacheQuery(shapes.Shape, frozen=True, kw_only=True):
    """Figures of one cached query, over all processes since they started. `within` is the permitted age in seconds,
    null if values must be current; `seconds` the time to live, 0 if the query is not cached. `shared`: also cached in
    Valkey, with `shared_hits`; `hits` are those from memory."""

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


class CacheFigures(shapes.Shape, frozen=True, kw_only=True):
    processes: list[CacheProcess]
    queries: list[CacheQuery]
    complete: bool


class ParkedStream(shapes.Shape, frozen=True, kw_only=True):
    """A parked stream: its first event, the error of that event, and the number of events waiting behind it.

    The error is null if the event waits for a replay, or if the caller may not see errors.
    """

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


class ParkedStreams(shapes.Shape, frozen=True, kw_only=True):
    """Parked streams in the order of positions. While `more`, continue with `after` = the last position."""

    items: list[ParkedStream]
    more: bool


class Replay(shapes.Shape, frozen=True, kw_only=True):
    """A request to replay these parked streams, or all (null)."""

    streams: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    reason: shapes.Reason | None = None


class Replayed(shapes.Shape, frozen=True, kw_only=True):
    """The result of a replay for one stream: events handled, events left, and the error of the next one."""

    stream: str
    handled: int
    left: int
    error: str | None


class Replays(shapes.Shape, frozen=True, kw_only=True):
    """Results by stream. A missing stream was not started within the time limit, or is no longer parked: replay
    again."""

    results: list[Replayed]


class Skip(shapes.Shape, frozen=True, kw_only=True):
    """A request to skip one parked event, with the reason."""

    stream: str
    position: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Holder(shapes.Shape, frozen=True, kw_only=True):
    """A session, or a prepared transaction (`gid`), that holds the head back. `doing` is its statement without
    values."""

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


class Partition(shapes.Shape, frozen=True, kw_only=True):
    """A partition of the log: positions `first` to `last`, of which `drawn` are used."""

    name: str
    first: int
    last: int
    drawn: int
    bytes: int


class LastSeal(shapes.Shape, frozen=True, kw_only=True):
    """The newest seal, and the number of `unsealed` events after it (`many`: more than 10,000)."""

    number: int
    upto: int
    hash: str | None
    sealed_at: datetime | None
    unsealed: int
    many: bool


class Verification(shapes.Shape, frozen=True, kw_only=True):
    """The result of the last requested verification of the whole log."""

    at: datetime
    actor: str
    ok: bool
    events: int
    head: int
    sealed_upto: int
    total: int
    findings: list[str]


class LogHead(shapes.Shape, frozen=True, kw_only=True):
    """State of the log: readable up to `head`, positions drawn up to `last`.

    `holders` are the sessions that hold the head back. `checking` is the start of a running verification.
    """

    epoch: str
    head: int
    last: int
    holders: list[Holder]
    partitions: list[Partition]
    room: int
    seal: LastSeal
    verification: Verification | None
    checking: datetime | None


class Rebuild(shapes.Shape, frozen=True, kw_only=True):
    """A read table and its latest rebuild. `state`: idle, waits (for a worker), running, silent (no progress report for
    a minute), interrupted."""

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


class Rebuilds(shapes.Shape, frozen=True, kw_only=True):
    items: list[Rebuild]


class RebuildRequest(shapes.Shape, frozen=True, kw_only=True):
    """A request to rebuild. `fresh` restarts an interrupted rebuild from the beginning; `take_over` replaces a builder
    that hangs."""

    fresh: bool = False
    take_over: bool = False
    reason: shapes.Reason | None = None


class History(shapes.Shape, frozen=True, kw_only=True):
    """The points of a metric: rows of `[t, min, avg, max, n]`, one per step, `t` in Unix seconds.

    The three values are null in a gap. `n` counts samples, so a row with fewer than the others is partial. A sample is
    taken every five seconds; its slot is `t / 5`, and `slot` the newest one. `tier` says from which table they come.
    """

    metric: str
    target: str
    unit: Literal["percent", "s", "1", "1/s", "1/min", "GiB", "days"]
    step: int
    tier: Literal["raw", "minute", "hour"]
    slot: int | None
    points: list[tuple[int, float | None, float | None, float | None, int]]


class SystemLoad(shapes.Shape, frozen=True, kw_only=True):
    """The busiest host: processors and memory in percent of its limits, and percent of free disk."""

    cpu: float | None
    memory: float | None
    disk_free: float | None
    load_per_cpu: float | None


class DatabaseHealth(shapes.Shape, frozen=True, kw_only=True):
    """`state` is that of this moment; latency in seconds, connections in percent of those that may be used."""

    state: str
    latency: float | None
    connections: float | None


class WebsocketHealth(shapes.Shape, frozen=True, kw_only=True):
    """Open connections, the p99 of the seconds from commit to socket, and processes that poll the log."""

    connections: float | None
    lag_p99: float | None
    polling: float | None


class ErrorHealth(shapes.Shape, frozen=True, kw_only=True):
    """The percentage of failed requests of the last five minutes, and the requests and errors of the last slot."""

    rate: float | None
    requests: float | None
    errors: float | None


class SystemHealth(shapes.Shape, frozen=True, kw_only=True):
    """The newest sample. Unknown values are null, and all are when it is older than 30 seconds.

    `active_users` counts users with a sign-in or a submission in the last five minutes.
    """

    active_users: float | None
    system_load: SystemLoad
    database: DatabaseHealth
    websockets: WebsocketHealth
    errors: ErrorHealth
    timestamp: datetime | None


# -- figures ----------------------------------------------------------------------------------------------------------


class AsOf(shapes.Shape, frozen=True, kw_only=True):
    """Every event up to `position` is in the numbers, which were read at `at`."""

    position: int
    at: datetime


class UserSegment(shapes.Shape, frozen=True, kw_only=True):
    """Users who are not deleted, of one plan and one month of sign-up (its first day).

    `active_30d` signed in on one of the last 30 UTC days or today. Deleted forms and their submissions do not count.
    """

    plan: Literal["free", "premium", "enterprise"]
    signup_month: date
    users: int
    active_30d: int
    with_forms: int
    with_submissions: int
    forms: int
    submissions: int


class UserMetrics(shapes.Shape, frozen=True, kw_only=True):
    items: list[UserSegment]
    as_of: AsOf


class FormMetricsDay(shapes.Shape, frozen=True, kw_only=True):
    """One UTC day. Forms created and their owners (`unique_users`) count also when the forms are deleted later;
    submissions count unless they are deleted. `avg_completion_time` is in seconds, and null where no submission has a
    time, or a single one whose time this caller may not see."""

    date: date
    forms_created: int
    unique_users: int
    submissions: int
    avg_completion_time: float | None


class FormMetrics(shapes.Shape, frozen=True, kw_only=True):
    """One item for every day of the range, the oldest first."""

    items: list[FormMetricsDay]
    as_of: AsOf
