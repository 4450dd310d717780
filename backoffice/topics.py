"""Live topics: who may subscribe to each, and which fields each role receives.

Each kind of record has a topic; sections add others. The permissions come from `access`; the sockets call these
functions.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from backoffice import access, section
from events import types
from realtime import topics


class KeyHolder(msgspec.Struct, frozen=True, kw_only=True):
    """A program with an API key: its owner's permissions, limited by the key's scopes. `access` treats it as staff."""

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
    """Returns whether a person has any role; a program also needs the scope for all events."""
    return access.role_of(staff) is not None and in_scope(staff, "events:read")


# Widget -> the right to see its values: an action and a category of `access`, and the scope a program needs. None: all
# who may follow the dashboard see them.
WIDGETS: Final[dict[str, tuple[str, str, str] | None]] = {}


def may_see_widget(staff: Any, key: str) -> bool:
    """Returns whether a principal may see the values of a key (`<widget>` or `<widget>:<part>`) on the dashboard.

    Only administrators see keys that no widget declares.
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
    """Returns the event as JSON without the fields that are hidden from the role."""
    shown = event.to_wire()
    hidden = access.role_hidden_fields(role, event.category)
    if hidden:
        shown["data"] = {name: value for name, value in event.data.items() if name not in hidden}
    return shown


def of_kind(kind: section.Kind) -> tuple[topics.Topic, topics.Topic]:
    """Returns two topics of a kind: its events, and the presence of people who have a record open."""
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
