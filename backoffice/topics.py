"""What can be followed live, by whom, and what each role sees of it; and which staff events end a live socket.

`access` decides, here as everywhere; the socket floor only asks these functions.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from backoffice import access
from backoffice.api import keys
from events import store, types
from realtime import auth, session_reader, topics, versions

API_KEYS: Final = versions.Source("backoffice_apikey", "id", "bigint")
KEY_ROWS: Final = """
select k.id::text, k.xmin::text, s.id::text, s.xmin::text
  from backoffice_apikey k join staff s on s.id = k.owner_id where k.prefix = %s
"""


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


def _may_operate(staff: Any) -> bool:
    """Who may see how the system runs; programs need the scope for it."""
    return access.may(staff, "view", "system") and _in_scope(staff, "system:read")


def _may_decide(staff: Any) -> bool:
    """Conflicts are for those whose edits can conflict."""
    may = access.may(staff, "update", "user") or access.may(staff, "update", "form")
    return may and _in_scope(staff, "events:read")


# Widget -> the right to see its values: an action and a category of `access`, and the scope a program needs.
WIDGETS: Final[dict[str, tuple[str, str, str]]] = {}


def may_see_widget(staff: Any, key: str) -> bool:
    """May this principal see a value of this key (`<widget>` or `<widget>:<which>`) on the dashboard? What no widget
    declared is for administrators only.
    """
    right = WIDGETS.get(key.partition(":")[0])
    if right is None:
        return access.role_of(staff) == "admin" and _in_scope(staff, "*")
    action, category, scope = right
    return access.may(staff, action, category) and _in_scope(staff, scope)


def by_api_key(token: str) -> auth.Identity | None:
    """Who a bearer token is, for the socket; None when it opens nothing."""
    rows = _rows_of_key(token)  # first: what changes after it was read here is noticed
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
        rows=rows,
        again=again,
    )


def _rows_of_key(token: str) -> tuple[versions.Row, ...]:
    """The rows of a key and of its owner, as they are now; none for a key that is not known."""
    found = store.query(KEY_ROWS, (keys.prefix_of(token),))
    if not found:
        return ()
    key, key_version, owner, owner_version = found[0]
    return (versions.Row(API_KEYS, key, key_version), versions.Row(session_reader.staff(), owner, owner_version))


def _session_of_key(prefix: str) -> str:
    """What a key's sockets have instead of a session."""
    return f"key:{prefix}"


def show(event: types.RecordedEvent, role: str) -> types.JsonDict:
    """The event as the role may see it: fields hidden from it are not there."""
    shown = event.to_wire()
    hidden = access.role_hidden_fields(role, event.category)
    if hidden:
        shown["data"] = {name: value for name, value in event.data.items() if name not in hidden}
    return shown


def show_submission(event: types.RecordedEvent, role: str) -> types.JsonDict | None:
    """Of forms, only that one was erased, and with it the answers on an open page."""
    return show(event, role) if event.category == "submission" or event.type == "form.erased" else None


def show_conflict(event: types.RecordedEvent, role: str) -> types.JsonDict:
    """That something happened to a conflict, and about which record; what it holds is read from the inbox."""
    shown = event.to_wire()
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
    topics.Topic(name="dashboard", may_subscribe=_may_work, may_see_value=may_see_widget),
    topics.Topic(name="system", may_subscribe=_may_operate),
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
