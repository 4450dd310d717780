"""What happens to staff logins, as events in `staff-<id>`: for the audit trail, and so that live sockets can be closed.

Logins live in Django's table; these events tell of them and are appended beside the change, in its transaction.
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
    """Another role, or the superuser's mark given or taken."""

    before: str
    after: str
    is_superuser: bool = False


@event_type("staff.deactivated")
class StaffDeactivated(Event, frozen=True):
    """The login may not come in any more; its sessions end."""


@event_type("staff.reactivated")
class StaffReactivated(Event, frozen=True):
    """The login may come in again."""


@event_type("staff.password_changed")
class StaffPasswordChanged(Event, frozen=True):
    """A new password; all other sessions end."""


@event_type("staff.logged_out")
class StaffLoggedOut(Event, frozen=True):
    """`session` is a digest of the session's key, never the key."""

    session: str


@event_type("staff.session_revoked")
class StaffSessionRevoked(Event, frozen=True):
    """Somebody ended one session of this login (`session` a digest), or all of them (None)."""

    session: str | None = None


@event_type("staff.key_created")
class StaffKeyCreated(Event, frozen=True):
    """An API key that acts for this login. `key` is the part that names it, never the secret."""

    key: str
    name: str
    scopes: list[str]
    expires_at: datetime | None = None


@event_type("staff.key_revoked")
class StaffKeyRevoked(Event, frozen=True):
    """The key opens nothing any more, and its sockets are closed."""

    key: str
