"""The result of a probe, and a cache for probes whose values change slowly."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeAlias

from metrics.monitoring.metric_types import SLOT_SECONDS

# (metric, target) -> value; None or no entry: missing. The target of a cluster metric is empty.
Readings: TypeAlias = dict[tuple[str, str], float | None]
Read: TypeAlias = Callable[[int], Readings]


def every(seconds: int) -> Callable[[Read], Read]:
    """Decorates a probe that a process runs only once in so many seconds; in between it returns the last values.

    After a failure it runs again in the next slot.
    """

    def decorate(read: Read) -> Read:
        last: dict[str, tuple[int, Readings]] = {}

        @wraps(read)
        def cached(slot: int) -> Readings:
            at, found = last.get("", (0, {}))
            if not 0 <= slot - at < seconds // SLOT_SECONDS:
                found = read(slot)
                last[""] = (slot, found)
            return found

        return cached

    return decorate
