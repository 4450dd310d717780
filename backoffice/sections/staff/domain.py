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


@event_type("staff.logged_in")
class StaffLoggedIn(Event, frozen=True):
    """Signed in. `session` is a digest of the session's key, never the key. `known_device`: its cookie says that this
    browser had signed in to this login before.
    """

    session: str
    known_device: bool = False


@event_type("staff.login_failed")
class StaffLoginFailed(Event, frozen=True):
    """Failed attempts to sign in as this login between two moments, told together; in `staff-unknown` those with a name
    that is no login's, which is not kept: people type passwords there.

    attempts   wrong passwords               refused    more attempts, not tried because they were too many
    addresses  how many different addresses they came from
    """

    attempts: int
    refused: int
    addresses: int
    since: datetime
    until: datetime


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
