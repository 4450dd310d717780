"""Events about personal-data exports, in `privacy-<user id>`: for the audit trail.

Actor and reason are columns of the event. These events stay readable after the person's erasure.
"""

from __future__ import annotations

from events.types import Event, event_type

CATEGORY = "privacy"


@event_type("privacy.exported")
class PersonExported(Event, frozen=True):
    """The personal data of a user were exported as a file.

    `way`: admin, api or command; download: a file that a worker had made.
    """

    way: str
