"""Structs of the conflict API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from backoffice.api import shapes
from events.types import JsonDict


class ConflictItem(shapes.Shape, frozen=True, kw_only=True):
    """A change that could not be merged.

    `stream` is the record's stream, `fields` are the paths that both sides changed, `assignee` is the number of a
    login. `why` is `conflict`, or `age` for a change that was queued offline for too long."""

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


class ConflictPage(shapes.Shape, frozen=True, kw_only=True):
    """A page of the inbox."""

    items: list[ConflictItem]
    page_info: shapes.PageInfo


class ConflictNow(shapes.Shape, frozen=True, kw_only=True):
    """The current record of a conflict, and the open conflicts with it.

    `record` is at `version`; `merged` are the two sides merged, with the value of `record` at each path in
    `conflicts`. `merged` is null for a change that is applied as a whole or not at all."""

    version: int
    record: JsonDict
    conflicts: list[JsonDict]
    merged: JsonDict | None


class ConflictRecord(ConflictItem, frozen=True, kw_only=True):
    """A conflict with its three versions as filed.

    `data` is the data of the command, `record_version` the record's version when the conflict was filed; `events` are
    the actions on the conflict."""

    base: JsonDict
    theirs: JsonDict
    mine: JsonDict
    data: JsonDict
    record_version: int
    source: JsonDict | None
    now: ConflictNow
    events: list[JsonDict]


class Resolution(shapes.Shape, frozen=True, kw_only=True):
    """A person's decisions about a conflict.

    `choices` maps each path to `theirs`, `mine` or `value`; `values` maps paths to typed values. A change that is
    applied as a whole or not at all (a deletion) has the path `*`. `version` is the record's version that you saw."""

    choices: dict[str, Literal["theirs", "mine", "value"]] = {}
    values: JsonDict = {}
    reason: shapes.Reason | None = None
    version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


class Settled(shapes.Shape, frozen=True, kw_only=True):
    """The closed conflict. `result` is the applied change, null if the record was not changed."""

    conflict: ConflictRecord
    result: shapes.Applied | None
    version: int


class Assignment(shapes.Shape, frozen=True, kw_only=True):
    assignee: int | Literal["me"] | None


class Remark(shapes.Shape, frozen=True, kw_only=True):
    text: Annotated[str, msgspec.Meta(max_length=2000)]
