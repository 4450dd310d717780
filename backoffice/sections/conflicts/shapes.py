"""Conflicts as the API shows them, and what their resolution takes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from backoffice.api import shapes
from events.types import JsonDict


class ConflictItem(shapes.Shape, frozen=True, kw_only=True):
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


class ConflictPage(shapes.Shape, frozen=True, kw_only=True):
    """A page of the inbox."""

    items: list[ConflictItem]
    page_info: shapes.PageInfo


class ConflictNow(shapes.Shape, frozen=True, kw_only=True):
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


class Resolution(shapes.Shape, frozen=True, kw_only=True):
    """Path -> `theirs`, `mine` or `value`; what was typed is in `values`. A change that is carried out or not as a
    whole (a deletion) has the path `*`. `version` is that of the record when you decided."""

    choices: dict[str, Literal["theirs", "mine", "value"]] = {}
    values: JsonDict = {}
    reason: shapes.Reason | None = None
    version: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


class Settled(shapes.Shape, frozen=True, kw_only=True):
    """The conflict afterwards; `result` is the change that was made, null when the record stays as it is."""

    conflict: ConflictRecord
    result: shapes.Applied | None
    version: int


class Assignment(shapes.Shape, frozen=True, kw_only=True):
    assignee: int | Literal["me"] | None


class Remark(shapes.Shape, frozen=True, kw_only=True):
    text: Annotated[str, msgspec.Meta(max_length=2000)]
