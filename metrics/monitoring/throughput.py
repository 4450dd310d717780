"""How fast subscriptions move: positions a second, from what pages and calls saw during the last minute.

What was seen is kept in Valkey, for all processes. While Valkey is away no pace is known, and nothing else is missing.
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

KEY: Final = "subscriptions:pace"
SPAN: Final = 60.0
EVERY: Final = 1.0  # seconds between two notes

Note = tuple[float, dict[str, int]]


def observed(positions: Mapping[str, int]) -> dict[str, float]:
    """Checkpoint -> positions a second; those that were not seen long enough to tell are left out."""
    now = time.time()
    try:
        notes: list[Note] = [note for note in cache.get(KEY) or [] if now - SPAN <= note[0] <= now]
        if not notes or now - notes[-1][0] >= EVERY:
            cache.set(KEY, [*notes, (now, dict(positions))], timeout=2 * SPAN)
    except (ConnectionInterrupted, redis.RedisError, OSError) as error:
        log.warning("the pace of subscriptions is not known: %s", error)
        return {}
    return {name: pace for name, reached in positions.items() if (pace := _pace(name, reached, now, notes)) is not None}


def _pace(name: str, reached: int, now: float, notes: list[Note]) -> float | None:
    """Since the oldest note that knows it; None when that is this moment, or it stood further ahead (a new history)."""
    moment, before = next(((at, seen[name]) for at, seen in notes if name in seen), (now, reached))
    return (reached - before) / (now - moment) if now - moment >= EVERY and reached >= before else None
