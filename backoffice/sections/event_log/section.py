"""The event browser: the log itself, for roles that may view events."""

from __future__ import annotations

from functools import partial

from django.utils.translation import gettext_lazy as _

from backoffice import access
from backoffice.section import NavItem, Section
from backoffice.sections.event_log.event_browser import EventAdmin
from events.models import StoredEvent

SECTION = Section(
    name="event_log",
    navigation=(
        NavItem(
            label=_("Events"),
            url_name="admin:events_storedevent_changelist",
            icon="events",
            group="system",
            visible=partial(access.sees, "event"),
            key="e",
        ),
    ),
    admins={StoredEvent: EventAdmin},
    rights={"event": {"manager": frozenset({"view"}), "dpo": frozenset({"view"})}},
)
