"""The event browser: the log itself, for roles that may view events."""

from __future__ import annotations

from functools import partial

from django.utils.translation import gettext_lazy as _

from backoffice import access, navigation
from backoffice.section import Section
from backoffice.sections.event_log.event_browser import EventAdmin
from events.models import StoredEvent

SECTION = Section(
    name="event_log",
    navigation=navigation.of_pages(
        "system",
        partial(access.sees, "event"),
        (_("Events"), "admin:events_storedevent_changelist", "events", "e"),
    ),
    admins={StoredEvent: EventAdmin},
    rights={"event": {"manager": frozenset({"view"}), "dpo": frozenset({"view"})}},
)
