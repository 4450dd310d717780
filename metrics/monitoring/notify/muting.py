"""Muting: whether a message about an alert must wait. It is never a state of the alert.

Muting is checked just before a message is sent. A muted message is kept. `sweep` releases it once nothing mutes it;
when the alert is resolved first, it is dropped.
Messages that say "resolved" are never muted: people who were notified of an alert are notified of its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from events import store
from metrics.monitoring.notify import sources
from metrics.monitoring.notify.sources import SOURCES

# An alert that flaps is reported as flapping once, and for an hour its next episodes are not reported one by one.
FLAPPING: Final = """
select alert, max(episode) from metrics_delivery
 where kind = 'flapping' and decided_at > clock_timestamp() - interval '1 hour' group by alert
"""


class Muting:
    """The causes that mute alerts at one instant; made once for a batch of deliveries."""

    def __init__(self, at: datetime, firing: frozenset[str], flapping: Mapping[str, int]) -> None:
        self._at, self._firing, self._flapping = at, firing, flapping

    def reason(self, alert: str, episode: int, severity: str, kind: str = "firing") -> str:
        """The reason to wait: ``silence:<id>``, ``inhibited:<rule>`` or ``flapping``; empty when there is none."""
        if silence := SOURCES.silence(alert, severity, self._at):
            return f"silence:{silence}"
        rule = sources.rule_of(alert)
        if inhibitor := SOURCES.inhibitor(rule, self._firing - {rule}):
            return f"inhibited:{inhibitor}"
        flaps = kind == "firing" and self._flapping.get(alert, episode) < episode
        return "flapping" if flaps else ""


def current(at: datetime) -> Muting:
    """The causes that mute alerts at this time of the database."""
    firing = frozenset(sources.rule_of(one.alert) for one in SOURCES.firing())
    return Muting(at, firing, dict(store.query(FLAPPING)))


def is_muted(alert: str, episode: int, severity: str, at: datetime) -> bool:
    """Whether a message about this episode would have to wait at that time."""
    return bool(current(at).reason(alert, episode, severity))
