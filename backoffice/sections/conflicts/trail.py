"""The history of a conflict: each action with its actor."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import access, models, section
from backoffice.section import Kind
from backoffice.sections.conflicts import domain, situations
from backoffice.web import actors, diffs, timeline
from events import store, types
from events.conflicts import values

VERBS: Final = {
    "filed": (gettext_lazy("made a conflicting change"), "merge"),
    "assigned": (gettext_lazy("assigned it"), "staff"),
    "commented": (gettext_lazy("commented"), "edit"),
    "resolved": (gettext_lazy("resolved it"), "check"),
    "dismissed": (gettext_lazy("discarded it"), "close"),
    "reopened": (gettext_lazy("reopened it"), "restore"),
}
CHOICES: Final = {
    "theirs": gettext_lazy("theirs"),
    "mine": gettext_lazy("the author's"),
    "value": gettext_lazy("a new value"),
}


def trail(row: models.Conflict, staff: Any) -> list[dict[str, Any]]:
    """Returns each action on the conflict with its actor, newest first, as this person may see it."""
    events = store.read_stream(types.stream_name(domain.CATEGORY, row.pk))
    names = dict(models.Staff.objects.values_list("pk", "username"))
    found = []
    for event in reversed(events):
        data = access.redact(staff, domain.CATEGORY, event.data)
        word = event.type.partition(".")[2]
        verb, icon = VERBS.get(word) or timeline.verb_of(event.type)
        text = data.get("text", "")
        if word == "assigned":
            text = names.get(data.get("assignee") or 0) or _("nobody")
        if word == "resolved" and not event.unreadable:
            text = ", ".join(_chosen(section.kind(row.category), where, how) for where, how in data["choices"].items())
        found.append({"event": event, "actor": actors.author(event), "verb": verb, "icon": icon, "text": text})
    return found


def _chosen(kind: Kind, where: str, how: str) -> str:
    label = "" if where == situations.WHOLE else diffs.label_of(kind, values.steps(where), {})
    return _("%(field)s: %(choice)s") % {"field": label, "choice": CHOICES[how]} if label else str(CHOICES[how])
