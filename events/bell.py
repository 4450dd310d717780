"""After a commit, ring: readers that wait look at the log at once instead of at their next poll.

A hint, never the truth. Valkey away costs a reader its poll interval, and a writer nothing but one attempt a second.
"""

from __future__ import annotations

import logging
import threading
import time

import redis
from django.conf import settings

log = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE = 1.0

_local = threading.local()
_silent_until = 0.0


def channel() -> str:
    """The pub/sub channel; its messages are positions in decimal."""
    return f"{settings.REDIS_PREFIX}:events:bell"


def client() -> redis.Redis:
    """This thread's connection, with short timeouts: a writer must never wait for a bell."""
    if not hasattr(_local, "client"):
        _local.client = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None
        )
    return _local.client  # type: ignore[no-any-return]


def ring(position: int) -> None:
    """Say that the log has grown to `position`. Never raises."""
    global _silent_until  # noqa: PLW0603 - one pause for the whole process
    if time.monotonic() < _silent_until:
        return
    try:
        client().publish(channel(), position)
    except redis.RedisError as error:
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        log.warning("bell: Valkey does not answer (%s); readers fall back to polling", error)
