"""The throughput of subscriptions: positions a second, from the observations of pages and calls in the last minute.

Valkey keeps the observations for all processes. Without Valkey only the throughput is unknown.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

import redis
from django.core.cache import cache
from django_redis.exceptions import ConnectionInterrupted

log = logging.getLogger(__name__)

KEY: Final = "subscriptions:throughput"
SPAN: Final = 60.0
EVERY: Final = 1.0  # seconds between two stored observations

Observation = tuple[float, dict[str, int]]


def observed(positions: Mapping[str, int]) -> dict[str, float]:
    """Maps each checkpoint to its positions a second; omits those not observed for long enough."""
    now = time.time()
    try:
        seen: list[Observation] = [one for one in cache.get(KEY) or [] if now - SPAN <= one[0] <= now]
        if not seen or now - seen[-1][0] >= EVERY:
            cache.set(KEY, [*seen, (now, dict(positions))], timeout=2 * SPAN)
    except (ConnectionInterrupted, redis.RedisError, OSError) as error:
        log.warning("the throughput of subscriptions is unknown: %s", error)
        return {}
    return {
        name: rate for name, reached in positions.items() if (rate := _throughput(name, reached, now, seen)) is not None
    }


def _throughput(name: str, reached: int, now: float, seen: list[Observation]) -> float | None:
    """Positions a second since the oldest observation of this checkpoint.

    None when that is less than `EVERY` seconds ago, or when it was further ahead (the log was restored).
    """
    first, before = next(((at, positions[name]) for at, positions in seen if name in positions), (now, reached))
    return (reached - before) / (now - first) if now - first >= EVERY and reached >= before else None
