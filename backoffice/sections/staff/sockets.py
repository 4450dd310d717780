"""Authenticates sockets by API key, and closes or rechecks sockets after events of staff."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final

from backoffice.sections.staff import keys
from backoffice.topics import KeyHolder
from events import store, types
from realtime import auth, session_reader, versions

API_KEYS: Final = versions.Source("backoffice_apikey", "id", "bigint")
KEY_ROWS: Final = """
select k.id::text, k.xmin::text, s.id::text, s.xmin::text
  from backoffice_apikey k join staff s on s.id = k.owner_id where k.prefix = %s
"""


def by_api_key(token: str) -> auth.Identity | None:
    """Authenticates a bearer token for a socket; None when it is invalid."""
    rows = _rows_of_key(token)  # first, so that later changes are noticed
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
    """Returns the current rows of a key and of its owner; none for an unknown key."""
    found = store.query(KEY_ROWS, (keys.prefix_of(token),))
    if not found:
        return ()
    key, key_version, owner, owner_version = found[0]
    return (versions.Row(API_KEYS, key, key_version), versions.Row(session_reader.staff(), owner, owner_version))


def _session_of_key(prefix: str) -> str:
    """Returns the identifier that the sockets of a key use instead of a session."""
    return f"key:{prefix}"


def _close(event: types.RecordedEvent) -> auth.Revocation:
    """Closes all sockets of the person."""
    return auth.Revocation(event.key, "close")


def _close_sessions(event: types.RecordedEvent) -> auth.Revocation:
    """Closes the sockets of the session that the event names, or of all sessions; sockets of keys stay.

    Events name a session by `auth.session_digest`.
    """
    return auth.Revocation(event.key, "close", event.data.get("session") or auth.ANY_SESSION)


def _close_key(event: types.RecordedEvent) -> auth.Revocation:
    return auth.Revocation(event.key, "close", _session_of_key(event.data["key"]))


def _recheck(event: types.RecordedEvent) -> auth.Revocation:
    return auth.Revocation(event.key, "recheck")


REVOCATIONS: Final[Mapping[str, Callable[[types.RecordedEvent], auth.Revocation]]] = {
    "staff.session_revoked": _close_sessions,
    "staff.logged_out": _close_sessions,
    "staff.key_revoked": _close_key,
    "staff.deactivated": _close,
    "staff.password_changed": _recheck,  # the session that changed it stays valid, the others do not
    "staff.role_changed": _recheck,
}


def authenticate_keys() -> None:
    """Lets sockets accept API keys; calling it again changes nothing."""
    if by_api_key not in auth.TOKEN_AUTHENTICATORS:
        auth.TOKEN_AUTHENTICATORS.append(by_api_key)
