"""Display names of the actors of events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from events.types import RecordedEvent

SOURCES: Final = {
    "staff": pgettext_lazy("source", "Backoffice"),
    "key": pgettext_lazy("source", "API"),
    "command": pgettext_lazy("source", "Command line"),
    "system": pgettext_lazy("source", "System"),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of an event. `name` was recorded with the event, so it stays when the login is gone."""

    ref: str
    name: str
    kind: str

    @property
    def source(self) -> Any:
        """The way by which the actor's events arrive, such as the API; empty if it is not known."""
        return SOURCES.get(self.kind, "")


def actor(ref: str, name: str | None = None) -> Actor:
    """Parses ``staff:7``, ``key:<id>``, ``command:<name>`` or ``system``."""
    kind, _colon, key = ref.partition(":")
    words = {
        "system": _("FormEase"),
        "anonymous": _("Anonymous"),
        "command": _("Command %(name)s") % {"name": key},
        "key": _("API key %(name)s") % {"name": key},
        "staff": _("Staff %(name)s") % {"name": key},
    }
    return Actor(ref, name or words.get(kind, ref), kind)


def author(event: RecordedEvent) -> Actor:
    return actor(event.actor, event.metadata.get("actor_name"))


def authors(events: Iterable[RecordedEvent]) -> list[Actor]:
    """Returns the authors of these events, each once, in order."""
    return list({found.ref: found for found in map(author, events)}.values())
