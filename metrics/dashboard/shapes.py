"""Layouts of the dashboard, as the API shows and takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from backoffice.api import shapes
from events.types import JsonDict


class DashboardTile(shapes.Shape, frozen=True, kw_only=True):
    """A tile: a widget with a width in columns, a height in rows, and the options of its kind."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,40}$")]
    kind: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,40}$")]
    w: Annotated[int, msgspec.Meta(ge=1, le=4)]
    h: Annotated[int, msgspec.Meta(ge=1, le=3)]
    options: JsonDict = {}


class DashboardLayout(shapes.Shape, frozen=True, kw_only=True):
    """Tiles in reading order. Tiles of unknown kinds are kept."""

    schema: Literal[1] = 1
    tiles: Annotated[list[DashboardTile], msgspec.Meta(max_length=40)] = []


class SavedDashboardLayout(shapes.Shape, frozen=True, kw_only=True):
    """The layout of the caller; `own` is false for the default of the role."""

    version: int
    own: bool
    layout: DashboardLayout


class ImportedDashboardLayout(shapes.Shape, frozen=True, kw_only=True):
    """The result of an import. `unknown`: kinds that this installation does not know; `forbidden`: kinds that were left
    out because the caller may not see them."""

    version: int
    own: bool
    layout: DashboardLayout
    unknown: list[str]
    forbidden: list[str]


class ShareDashboard(shapes.Shape, frozen=True, kw_only=True):
    """The name of a shared copy of the caller's present layout."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]


class SharedDashboard(shapes.Shape, frozen=True, kw_only=True):
    """A shared copy. A person who opens `url` sees it with their own rights."""

    id: UUID
    name: str
    url: str
    created_at: datetime


class SharedDashboards(shapes.Shape, frozen=True, kw_only=True):
    """The copies that the caller shares."""

    items: list[SharedDashboard]
