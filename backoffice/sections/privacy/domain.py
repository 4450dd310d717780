"""What was done with everything that is held about somebody, as events in `privacy-<user id>`: for the audit trail.

Appended beside the act; who and why are in the event's own columns. They outlive the person's erasure.
"""

from __future__ import annotations

from events.types import Event, event_type

CATEGORY = "privacy"


@event_type("privacy.exported")
class PersonExported(Event, frozen=True):
    """Everything held about a user was put into one file. `way`: admin, api or command."""

    way: str
