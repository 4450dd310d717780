"""Events about staff logins, in `staff-<id>`: for the audit trail, and to close live sockets.

Django's table stores the logins; the events are appended in the transaction that changes a login.
"""

from __future__ import annotations

from datetime import datetime

from events.types import Event, event_type

CATEGORY = "staff"


@event_type("staff.created")
class StaffCreated(Event, frozen=True):
    username: str
    role: str
    is_superuser: bool = False


@event_type("staff.role_changed")
class StaffRoleChanged(Event, frozen=True):
    """The role or the superuser status changed."""

    before: str
    after: str
    is_superuser: bool = False


@event_type("staff.deactivated")
class StaffDeactivated(Event, frozen=True):
    """The login was deactivated; its sessions end."""


@event_type("staff.reactivated")
class StaffReactivated(Event, frozen=True):
    """The login was activated again."""


@event_type("staff.password_changed")
class StaffPasswordChanged(Event, frozen=True):
    """The password changed; all other sessions end."""


@event_type("staff.logged_in")
class StaffLoggedIn(Event, frozen=True):
    """The person signed in.

    session       digest of the session's key, never the key
    known_device  a cookie proves that this browser had signed in to this login before
    """

    session: str
    known_device: bool = False


@event_type("staff.login_failed")
class StaffLoginFailed(Event, frozen=True):
    """Attempts to sign in as this login failed, between `since` and `until`.

    Attempts with an unknown name are in `staff-unknown`, without the name, because people type passwords there.

    attempts   wrong passwords
    refused    further attempts, rejected by the limits
    addresses  number of different addresses
    """

    attempts: int
    refused: int
    addresses: int
    since: datetime
    until: datetime


@event_type("staff.logged_out")
class StaffLoggedOut(Event, frozen=True):
    """The person signed out. `session` is a digest of the session's key, never the key."""

    session: str


@event_type("staff.session_revoked")
class StaffSessionRevoked(Event, frozen=True):
    """One session of this login was ended (`session` is its digest), or all of them (None)."""

    session: str | None = None


@event_type("staff.key_created")
class StaffKeyCreated(Event, frozen=True):
    """An API key for this login was created. `key` is its public prefix, never the secret."""

    key: str
    name: str
    scopes: list[str]
    expires_at: datetime | None = None


@event_type("staff.key_revoked")
class StaffKeyRevoked(Event, frozen=True):
    """An API key was revoked; its sockets are closed."""

    key: str
