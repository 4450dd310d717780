"""What can be followed live, by whom, and what each role sees of it; and which staff events end a live socket.

`access` decides, here as everywhere; the socket floor only asks these functions.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from backoffice import access
from backoffice.api import keys
from events import types
from realtime import auth, topics


class KeyHolder(msgspec.Struct, frozen=True, kw_only=True):
    """A program: what its owner may, as far as the scopes of its key go. Looks like staff to `access`."""

    is_active: bool
    is_staff: bool
    is_superuser: bool
    role: str
    scopes: tuple[str, ...]


def _in_scope(who: Any, scope: str) -> bool:
    return not isinstance(who, KeyHolder) or keys.allows(who.scopes, scope)


def _may_view(category: str, staff: Any) -> bool:
    return access.may(staff, "view", category) and _in_scope(staff, f"{category}s:read")


def _may_work(staff: Any) -> bool:
    """Anybody who is let into the backoffice at all; programs need the scope for all events."""
    return access.role_of(staff) is not None and _in_scope(staff, "events:read")


def _may_decide(staff: Any) -> bool:
    """Conflicts are for those whose edits can conflict."""
    may = access.may(staff, "update", "user") or access.may(staff, "update", "form")
    return may and _in_scope(staff, "events:read")


def by_api_key(token: str) -> auth.Identity | None:
    """Who a bearer token is, for the socket; None when it opens nothing."""
    try:
        key = keys.verify(token)
    except keys.KeyRefused:
        return None
    owner = key.owner
    holder = KeyHolder(
        is_active=owner.is_active,
        is_staff=owner.is_staff,
        is_superuser=owner.is_superuser,
        role=owner.role,
        scopes=tuple(key.scopes),
    )
    again = functools.partial(by_api_key, token)
    session = _session_of_key(key.prefix)
    return auth.Identity(
        principal=holder,
        person=str(owner.pk),
        name=key.name,
        session=session,
        is_program=True,
        ends_at=key.expires_at,
        again=again,
    )


def _session_of_key(prefix: str) -> str:
    """What a key's sockets have instead of a session."""
    return f"key:{prefix}"


def show(event: types.RecordedEvent, role: str) -> types.JsonDict:
    """The event as the role may see it: fields hidden from it are not there."""
    shown = event.wire()
    hidden = access.role_hidden_fields(role, event.category)
    if hidden:
        shown["data"] = {name: value for name, value in event.data.items() if name not in hidden}
    return shown


def show_submission(event: types.RecordedEvent, role: str) -> types.JsonDict | None:
    """Of forms, only that one was erased, and with it the answers on an open page."""
    return show(event, role) if event.category == "submission" or event.type == "form.erased" else None


def show_conflict(event: types.RecordedEvent, role: str) -> types.JsonDict:
    """That something happened to a conflict, and about which record; what it holds is read from the inbox."""
    shown = event.wire()
    seen = access.role_redact(role, event.category, event.data)
    shown["data"] = {name: seen[name] for name in ("stream", "fields", "author", "assignee") if name in seen}
    if not seen:
        shown.pop("reason", None)
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


def _desk(name: str, category: str) -> topics.Topic:
    """No events, only presence: who has which record open, for who looks at the list."""
    return topics.Topic(name=f"{name}.here", may_subscribe=functools.partial(_may_view, category))


TOPICS: Final = (
    _of_records("users", "user", record=True),
    _of_records("forms", "form", record=True),
    topics.Topic(
        name="submissions",
        categories=("submission", "form"),
        may_subscribe=functools.partial(_may_view, "submission"),
        projection_key=access.projection_key,
        project=show_submission,
    ),
    _of_records("settings", "setting"),
    topics.Topic(
        name="conflicts",
        categories=("conflict",),
        may_subscribe=_may_decide,
        projection_key=access.projection_key,
        project=show_conflict,
    ),
    topics.Topic(
        name="alerts",
        categories=("alert",),
        may_subscribe=_may_work,
        projection_key=access.projection_key,
        project=show,
    ),
    _desk("users", "user"),
    _desk("forms", "form"),
    _desk("submissions", "submission"),
    _desk("settings", "setting"),
    topics.Topic(name="dashboard", may_subscribe=_may_work),
    topics.Topic(name="system", may_subscribe=_may_work),
)


def _close(event: types.RecordedEvent) -> auth.Revocation:
    """All sockets of the person."""
    return auth.Revocation(event.key, "close")


def _close_sessions(event: types.RecordedEvent) -> auth.Revocation:
    """The sockets of one session when the event names it (by `auth.session_digest`), else of all; keys are none."""
    return auth.Revocation(event.key, "close", event.data.get("session") or auth.ANY_SESSION)


def _close_key(event: types.RecordedEvent) -> auth.Revocation:
    return auth.Revocation(event.key, "close", _session_of_key(event.data["key"]))


def _recheck(event: types.RecordedEvent) -> auth.Revocation:
    return auth.Revocation(event.key, "recheck")


REVOCATIONS: Final = {
    "staff.session_revoked": _close_sessions,
    "staff.logged_out": _close_sessions,
    "staff.key_revoked": _close_key,
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
    if by_api_key not in auth.TOKEN_AUTHENTICATORS:
        auth.TOKEN_AUTHENTICATORS.append(by_api_key)
