"""What can be followed live, by whom, and what each role sees of it; and which staff events end a live socket.

`access` decides, here as everywhere; the socket floor only asks these functions.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from backoffice import access
from events import types
from realtime import auth, topics


def _may_view(category: str, staff: Any) -> bool:
    return access.may(staff, "view", category)


def _may_work(staff: Any) -> bool:
    """Anybody who is let into the backoffice at all."""
    return access.role_of(staff) is not None


def _may_decide(staff: Any) -> bool:
    """Conflicts are for those whose edits can conflict."""
    return access.may(staff, "update", "user") or access.may(staff, "update", "form")


def show(event: types.RecordedEvent, role: str) -> types.JsonDict:
    """The event as the role may see it: fields hidden from it are not there."""
    shown = event.wire()
    hidden = access.role_hidden_fields(role, event.category)
    if hidden:
        shown["data"] = {name: value for name, value in event.data.items() if name not in hidden}
    return shown


def _of_records(name: str, category: str, record: bool = False) -> topics.Topic:
    return topics.Topic(
        name=name,
        categories=(category,),
        record_topic=category + ":{key}" if record else None,
        may_subscribe=functools.partial(_may_view, category),
        projection_key=access.projection_key,
        project=show,
    )


TOPICS: Final = (
    _of_records("users", "user", record=True),
    _of_records("forms", "form", record=True),
    _of_records("submissions", "submission"),
    _of_records("settings", "setting"),
    topics.Topic(
        name="conflicts",
        categories=("conflict",),
        may_subscribe=_may_decide,
        projection_key=access.projection_key,
        project=show,
    ),
    topics.Topic(
        name="alerts",
        categories=("alert",),
        may_subscribe=_may_work,
        projection_key=access.projection_key,
        project=show,
    ),
    topics.Topic(name="dashboard", may_subscribe=_may_work),
    topics.Topic(name="system", may_subscribe=_may_work),
)


def _close(event: types.RecordedEvent) -> auth.Revocation:
    """All sockets of the person, or those of one session when the event names it (by `auth.session_digest`)."""
    return auth.Revocation(event.key, "close", event.data.get("session"))


def _recheck(event: types.RecordedEvent) -> auth.Revocation:
    return auth.Revocation(event.key, "recheck")


REVOCATIONS: Final = {
    "staff.session_revoked": _close,
    "staff.logged_out": _close,
    "staff.deactivated": _close,
    "staff.password_changed": _recheck,  # the session that changed it stays valid, the others do not
    "staff.role_changed": _recheck,
}


def fill() -> None:
    """Called once from `ready()`; calling it again changes nothing."""
    for topic in TOPICS:
        if topics.find(topic.name) is None:
            topics.register(topic)
    auth.REVOCATIONS.update(REVOCATIONS)
