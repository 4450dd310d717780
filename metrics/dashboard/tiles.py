"""Fills tiles: each with its own permission, its own time limit, and its own failure.

Steps for one tile:

    1  an unknown kind: "not available"
    2  a reader without the right: "not permitted", and nothing is loaded
    3  load the content, at most `BUDGET` for each of its statements
    4  failed or too slow: the last good content of the same tile for the same role, marked as stale, else the failure

A page has `PAGE_SECONDS` for all its tiles; those after that are left to a later request of the page.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec
from django.db import transaction
from django.utils import timezone
from django.utils.translation import get_language

from backoffice import access
from events.db import timeouts
from metrics.dashboard import widgets
from metrics.dashboard.asked import Asked, Span
from metrics.dashboard.layouts import Tile
from metrics.dashboard.widgets import Widget

log = logging.getLogger(__name__)

BUDGET: Final = 0.3
PAGE_SECONDS: Final = 1.5
KEPT: Final = 512  # last good contents that a process keeps

State: TypeAlias = Literal["fresh", "stale", "failed", "pending", "forbidden", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FilledTile:
    """A tile with its content. `at`: when the content was loaded."""

    tile: Tile
    widget: Widget | None
    state: State
    content: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None

    @property
    def label(self) -> Any:
        if self.content.get("title"):
            return self.content["title"]
        return self.widget.label if self.widget else self.tile.kind

    @property
    def shown(self) -> bool:
        """Whether the tile has content, even old content."""
        return self.state in {"fresh", "stale"}

    @property
    def template(self) -> str:
        name = self.widget.template if self.widget and self.shown else "unavailable"
        return f"admin/dashboard/{name}.html"

    @property
    def link(self) -> str:
        own = self.widget.link if self.widget and self.state != "forbidden" else ""
        return str(self.content.get("link", own))

    @property
    def topics(self) -> str:
        return " ".join(self.widget.topics) if self.widget and self.state != "forbidden" else ""


class LastGood:
    """The last good content of each tile and role, bounded; the oldest is dropped first."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._kept: OrderedDict[Any, tuple[dict[str, Any], datetime]] = OrderedDict()

    def put(self, key: Any, content: dict[str, Any], at: datetime) -> None:
        self._kept.pop(key, None)
        self._kept[key] = (content, at)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def get(self, key: Any) -> tuple[dict[str, Any], datetime] | None:
        return self._kept.get(key)

    def clear(self) -> None:
        self._kept.clear()


LAST_GOOD: Final = LastGood()


def fill_all(tiles: Iterable[Tile], staff: Any, span: Span) -> Sequence[FilledTile]:
    """Fill the tiles of a page, in their order."""
    until, memo = time.monotonic() + PAGE_SECONDS, dict[str, Any]()
    return [fill(tile, staff, span, late=time.monotonic() > until, memo=memo) for tile in tiles]


def fill(tile: Tile, staff: Any, span: Span, *, late: bool = False, memo: dict[str, Any] | None = None) -> FilledTile:
    """Fill one tile. Never raises for a failure of its widget. `late`: load nothing."""
    widget = widgets.find(tile.kind)
    if widget is None:
        return FilledTile(tile=tile, widget=None, state="unknown")
    if not widgets.may_see(staff, tile.kind, tile.options):
        return FilledTile(tile=tile, widget=widget, state="forbidden")
    key = _key(tile, staff, span)
    if late:
        return _last_good(tile, widget, key, otherwise="pending")
    try:
        content = _load(tile, widget, staff, span, {} if memo is None else memo)
    except Exception:
        log.exception("the widget %s failed", tile.kind)
        return _last_good(tile, widget, key, otherwise="failed")
    at = timezone.now()
    LAST_GOOD.put(key, content, at)
    return FilledTile(tile=tile, widget=widget, state="fresh", content=content, at=at)


def _load(tile: Tile, widget: Widget, staff: Any, span: Span, memo: dict[str, Any]) -> dict[str, Any]:
    """The content of a tile. In a transaction, so that a failed statement leaves the connection usable."""
    options = widget.options_of(tile.options)
    asked = Asked(staff=staff, w=tile.w, h=tile.h, tile=tile.id, options=options, span=span, memo=memo)
    with transaction.atomic(), timeouts.at_most(BUDGET):
        return widget.load(asked)


def _key(tile: Tile, staff: Any, span: Span) -> Any:
    options = msgspec.json.encode(tile.options, order="sorted")
    return (tile.kind, options, tile.w, tile.h, span, access.projection_key(staff), get_language())


def _last_good(tile: Tile, widget: Widget, key: Any, *, otherwise: State) -> FilledTile:
    found = LAST_GOOD.get(key)
    if found is None:
        return FilledTile(tile=tile, widget=widget, state=otherwise)
    return FilledTile(tile=tile, widget=widget, state="stale", content=found[0], at=found[1])
