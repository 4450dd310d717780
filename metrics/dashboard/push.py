"""Publishes after each sample which widgets changed; the metrics themselves are in the frames of `sampling`.

Open pages then load the tile with the rights of their reader, so these frames have no content. `realtime.ephemeral`
keeps the newest value of each key and sends at most ten in one frame.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.db import DatabaseError
from django.utils import timezone

from backoffice.models import Conflict
from events import errors, head
from events.privacy import erasure
from events.subscriptions import status as subscription_status
from metrics.dashboard.widgets import WIDGETS
from metrics.monitoring import dependencies
from realtime import publish

log = logging.getLogger(__name__)

TOPIC: Final = "dashboard"
EVENT: Final = "dashboard.widget.update"


def _subscriptions() -> Any:
    found = subscription_status.statuses()
    return [sum(1 for one in found if one.state != "running"), sum(one.checkpoint.parked for one in found)]


def _health() -> Any:
    return [(one.dependency.name, one.state) for one in dependencies.statuses(since=False)]


# Kind -> the number whose change makes pages load the widget again. Records are pushed by the counters
# (`metrics.counters.updates`).
COUNTS: Final[dict[str, Callable[[], Any]]] = {
    "health": _health,
    "conflicts": lambda: Conflict.objects.filter(status=Conflict.Status.OPEN).count(),
    "erasures": lambda: erasure.status().unpurged,
    "subscriptions": _subscriptions,
    "log": head.safe,
}
_published: dict[str, Any] = {}


def rights() -> dict[str, tuple[str, str, str] | None]:
    """Maps the key of each published value to the right and the scope to receive it (`Section.widgets`)."""
    found: dict[str, tuple[str, str, str] | None] = {}
    for kind in COUNTS:
        right = WIDGETS[kind].right
        found[kind] = (*right, _scope(right[1])) if right else None
    return found


def step(_slot: int) -> None:
    """Publish the widgets that changed since this process published them last: a step of `sampling`."""
    for kind, count in COUNTS.items():
        try:
            found = count()
        except (errors.EventsError, DatabaseError) as error:
            log.warning("the widget %s was not compared: %s", kind, error)
            continue
        if _published.get(kind, _published) != found and _send(kind, {"changed": True}):
            _published[kind] = found


def forget() -> None:
    """Push every widget again at the next step."""
    _published.clear()


def _send(key: str, data: Mapping[str, Any]) -> bool:
    at = timezone.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return publish.ephemeral(TOPIC, EVENT, {"widget_id": key, "data": dict(data), "timestamp": at}, key=key)


def _scope(category: str) -> str:
    return f"{category}:read" if category == "system" else f"{category}s:read"
