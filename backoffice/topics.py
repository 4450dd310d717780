"""What can be followed live, by whom, and what each role sees of it.

Each kind of record has a topic; sections add others.
`access` decides, here as everywhere; the layer of the sockets only asks these functions.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from backoffice import access, section
from events import types
from realtime import topics


class KeyHolder(msgspec.Struct, frozen=True, kw_only=True):
    """A program: what its owner may, as far as the scopes of its key go. Looks like staff to `access`."""

    is_active: bool
    is_staff: bool
    is_superuser: bool
    role: str
    scopes: tuple[str, ...]


def in_scope(who: Any, scope: str) -> bool:
    return not isinstance(who, KeyHolder) or access.scopes_allow(who.scopes, scope)


def _may_view(kind: section.Kind, staff: Any) -> bool:
    return access.may(staff, "view", kind.category) and in_scope(staff, f"{kind.name}:read")


def may_work(staff: Any) -> bool:
    """Anybody who is let into the backoffice at all; programs need the scope for all events."""
    return access.role_of(staff) is not None and in_scope(staff, "events:read")


# Widget -> the right to see its values: an action and a category of `access`, and the scope a program needs. None: all
# who may follow the dashboard see them.
WIDGETS: Final[dict[str, tuple[str, str, str] | None]] = {}


def may_see_widget(staff: Any, key: str) -> bool:
    """May this principal see a value of this key (`<widget>` or `<widget>:<which>`) on the dashboard? What no widget
    declared is for administrators only.
    """
    widget = key.partition(":")[0]
    if widget not in WIDGETS:
        return access.role_of(staff) == "admin" and in_scope(staff, "*")
    right = WIDGETS[widget]
    if right is None:
        return may_work(staff)
    action, category, scope = right
    return access.may(staff, action, category) and in_scope(staff, scope)


def show(event: types.RecordedEvent, role: str) -> types.JsonDict:
    """The event as the role may see it: fields hidden from it are not there."""
    shown = event.to_wire()
    hidden = access.role_hidden_fields(role, event.category)
    if hidden:
        shown["data"] = {name: value for name, value in event.data.items() if name not in hidden}
    return shown


def of_kind(kind: section.Kind) -> tuple[topics.Topic, topics.Topic]:
    """The feed of a kind's events, and the one of who has which record open, which is only presence."""
    may_view = functools.partial(_may_view, kind)
    return (
        topics.Topic(
            name=kind.topic,
            categories=(kind.category, *kind.follows),
            record_topic=kind.record_topic + ":{key}" if kind.record_topic else None,
            may_subscribe=may_view,
            projection_key=access.projection_key,
            project=kind.show or show,
        ),
        topics.Topic(name=f"{kind.topic}.here", may_subscribe=may_view),
    )
