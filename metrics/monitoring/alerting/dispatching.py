"""Sends commands to alerts, and announces each stored event to open pages."""

from __future__ import annotations

from typing import Any, Final

from django.template import defaultfilters
from django.utils.translation import gettext, override

from events import commands, types
from events.commands import Result
from metrics.monitoring.alerting import models
from realtime import publish

TOPIC: Final = "alerts"
FRAME: Final = "system.alert"


def dispatch(command: types.Command) -> Result:
    """Carries out a command about an alert. Its events are announced unless it was carried out before."""
    result = commands.dispatch(command)
    if result.status != "duplicate":
        announce(result)
    return result


def announce(result: Result) -> None:
    """Publishes one `system.alert` frame for each event. A lost frame is harmless: pages also follow the events."""
    if not result.events:
        return
    row = models.Alert.objects.get(pk=types.key_of(result.stream))
    for event in result.events:
        key = f"{row.pk}:{event.version}"
        publish.ephemeral(TOPIC, FRAME, frame(row, event.type, event.position), key=key)


def frame(row: models.Alert, event: str, position: int) -> dict[str, Any]:
    """The data of a `system.alert` frame. Its message is in English; pages show a text in the reader's language."""
    with override("en"):
        message = describe(row, titles().get(row.rule_id, row.rule_id))
    return {
        "type": event,
        "severity": row.severity,
        "message": message,
        "rule": row.rule_id,
        "alert": row.pk,
        "episode": row.episode,
        "state": row.state,
        "value": row.value,
        "position": position,
    }


def titles() -> dict[str, str]:
    """The title of each rule."""
    return dict(models.Rule.objects.values_list("id", "title"))


def title_of(text: str) -> str:
    """The title of a rule, translated where it is that of a default rule."""
    return gettext(text) if text else ""


def describe(row: models.Alert, title: str) -> str:
    """An alert in one line: its rule, target and value."""
    words = f"{title_of(title)} ({row.target})" if row.target else title_of(title)
    if row.reason == "no_data":
        return gettext("%(alert)s: no data") % {"alert": words}
    return words if row.value is None else f"{words}: {defaultfilters.floatformat(row.value, '-2')}"
