"""Layouts: an ordered list of tiles. Reads, checks, saves, exports, imports and shares them.

A layout is checked when it is received. Tiles of unknown kinds are kept: another release may know them.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from django.utils import timezone
from django.utils.translation import gettext as _

from backoffice import access
from events import errors, store
from metrics.dashboard import widgets
from metrics.dashboard.models import SavedLayout, SharedLayout

log = logging.getLogger(__name__)

MAX_TILES: Final = 40
MAX_SHARED: Final = 50  # shared copies of one person
MAX_OPTIONS_BYTES: Final = 4_096
NAME_LENGTH: Final = 80

TileId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,40}$")]
KindName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,40}$")]


class Tile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tile: a widget with its size and options. `w`: 1 to 4 columns; `h`: 1 to 3 rows."""

    id: TileId
    kind: KindName
    w: Annotated[int, msgspec.Meta(ge=1, le=4)]
    h: Annotated[int, msgspec.Meta(ge=1, le=3)]
    options: dict[str, Any] = {}


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tiles in reading order."""

    schema: Literal[1] = 1
    tiles: Annotated[list[Tile], msgspec.Meta(max_length=MAX_TILES)] = []


class InvalidLayout(errors.EventsError):
    """This is not a layout."""

    code = "invalid_layout"
    status = 422


class StaleLayout(errors.EventsError):
    """The layout was saved elsewhere since you read it."""

    code = "precondition_failed"
    status = 412

    def __init__(self, version: int) -> None:
        super().__init__(f"The layout is at version {version}; yours is older.")
        self.version = version


class TooManyShared(errors.EventsError):
    """You have shared too many copies. Remove one first."""

    code = "too_many_shared"
    status = 409


@dataclass(frozen=True, slots=True)
class Stored:
    """A person's layout. `own` is false for the default of the role, whose version is 0 before the first save."""

    layout: Layout
    version: int
    own: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """The layout of an import, and the kinds of its tiles that are unknown here or forbidden to this person."""

    layout: Layout
    unknown: Sequence[str]
    forbidden: Sequence[str]


# -- checks -----------------------------------------------------------------------------------------------------------


def checked(value: Any) -> Layout:
    """A layout from JSON. Raises `InvalidLayout` with the place of the first mistake."""
    try:
        layout = msgspec.convert(value, Layout)
    except msgspec.ValidationError as error:
        raise InvalidLayout(str(error)) from error
    seen: set[str] = set()
    for tile in layout.tiles:
        if tile.id in seen:
            raise InvalidLayout(f"Two tiles have the id {tile.id!r}.")
        seen.add(tile.id)
        _check_options(tile)
    return layout


def _check_options(tile: Tile) -> None:
    if len(msgspec.json.encode(tile.options)) > MAX_OPTIONS_BYTES:
        raise InvalidLayout(f"The options of tile {tile.id!r} have more than {MAX_OPTIONS_BYTES} bytes.")
    widget = widgets.find(tile.kind)
    if widget is None:
        return
    try:
        widget.options_of(tile.options)
    except msgspec.ValidationError as error:
        raise InvalidLayout(f"Tile {tile.id!r}: {error}") from error


def imported(value: Any, staff: Any) -> Imported:
    """A layout from an export, with new ids and without the tiles that this person may not see."""
    layout = checked(value)
    unknown = sorted({tile.kind for tile in layout.tiles if widgets.find(tile.kind) is None})
    forbidden = [tile for tile in layout.tiles if not widgets.may_see(staff, tile.kind, tile.options)]
    kept = [msgspec.structs.replace(tile, id=new_id()) for tile in layout.tiles if tile not in forbidden]
    return Imported(Layout(tiles=kept), unknown, sorted({tile.kind for tile in forbidden}))


def new_id() -> str:
    return uuid.uuid4().hex[:12]


# -- defaults ---------------------------------------------------------------------------------------------------------


def default(staff: Any) -> Layout:
    """The layout of a role, read each time, so that later changes reach everybody who has not arranged their own."""
    kinds = widgets.DEFAULTS.get(access.role_of(staff) or "", ())
    return Layout(
        tiles=[
            Tile(id=widget.kind.replace("_", "-"), kind=widget.kind, w=widget.w, h=widget.h)
            for kind in kinds
            if (widget := widgets.find(kind)) and widgets.may_see(staff, kind, {})
        ]
    )


# -- one person's -----------------------------------------------------------------------------------------------------


def of(staff: Any) -> Stored:
    """The layout of this person, else the default of the role."""
    row = SavedLayout.objects.filter(person_id=staff.pk).first()
    version = row.version if row else 0
    layout = _readable(row.body) if row and row.body is not None else None
    return Stored(layout or default(staff), version, own=layout is not None)


def _readable(body: Any) -> Layout | None:
    """A stored layout; None for one that this release cannot read."""
    try:
        return msgspec.convert(body, Layout)
    except msgspec.ValidationError as error:
        log.warning("a stored layout cannot be read: %s", error)
        return None


SAVE = """
insert into metrics_layout as stored (person_id, version, body, updated_at)
select %(person)s, 1, %(body)s::jsonb, now()
 where coalesce(%(base)s::bigint, 0) = 0 or exists (select from metrics_layout where person_id = %(person)s)
on conflict (person_id) do update
   set version = stored.version + 1, body = excluded.body, updated_at = excluded.updated_at
 where %(base)s::bigint is null or stored.version = %(base)s::bigint
returning version
"""


def save(staff: Any, layout: Layout, base: int | None) -> int:
    """Save a layout that is based on version `base` (None: on any); returns its version. Raises `StaleLayout`."""
    return _save(staff, msgspec.json.encode(layout).decode(), base)


def reset(staff: Any, base: int | None = None) -> int:
    """Return to the default of the role. Raises `StaleLayout`."""
    return _save(staff, None, base)


def _save(staff: Any, body: str | None, base: int | None) -> int:
    found = store.query(SAVE, {"person": staff.pk, "body": body, "base": base})
    if not found:
        raise StaleLayout(of(staff).version)
    version: int = found[0][0]
    return version


# -- shared copies ----------------------------------------------------------------------------------------------------


def share(staff: Any, name: str, layout: Layout) -> SharedLayout:
    """Store a named copy. Raises `InvalidLayout` for a name that is empty or too long, and `TooManyShared`."""
    name = name.strip()
    if not 0 < len(name) <= NAME_LENGTH:
        raise InvalidLayout(_("Enter a name of at most %(n)s characters.") % {"n": NAME_LENGTH})
    if SharedLayout.objects.filter(owner_id=staff.pk).count() >= MAX_SHARED:
        raise TooManyShared
    return SharedLayout.objects.create(
        owner_id=staff.pk, name=name, body=msgspec.to_builtins(layout), created_at=timezone.now()
    )


def shared_by(staff: Any) -> list[SharedLayout]:
    """The copies that this person shares, by name."""
    return list(SharedLayout.objects.filter(owner_id=staff.pk).order_by("name", "id"))


def find_shared(key: uuid.UUID) -> tuple[SharedLayout, Layout] | None:
    """A shared copy; None where there is none to read, or where its owner may not enter any more."""
    row = SharedLayout.objects.select_related("owner").filter(pk=key).first()
    if row is None or access.role_of(row.owner) is None:
        return None
    layout = _readable(row.body)
    return (row, layout) if layout else None


def unshare(staff: Any, key: uuid.UUID) -> bool:
    """Remove a copy; administrators may remove those of others. False where there is none."""
    found = SharedLayout.objects.filter(pk=key)
    if not access.is_admin(staff):
        found = found.filter(owner_id=staff.pk)
    return bool(found.delete()[0])
