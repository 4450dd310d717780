"""After a commit, ring: readers that wait look at the log at once instead of at their next poll.

A hint, never the truth. Valkey away costs a reader its poll interval, and a writer nothing but one attempt a second.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import redis
from django.conf import settings

log = logging.getLogger(__name__)

PAUSE_AFTER_FAILURE = 1.0

_local = threading.local()
_silent_until = 0.0


def channel() -> str:
    """The pub/sub channel; its messages are positions in decimal."""
    return f"{settings.REDIS_PREFIX}:events:bell"


def ring(position: int) -> None:
    """Say that the log has grown to `position`. Never raises, and never waits for an answer: the one to the ring before
    is read when it has come.
    """
    global _silent_until  # noqa: PLW0603 - one pause for the whole process
    if time.monotonic() < _silent_until:
        return
    try:
        line = _line()
        while line.can_read(timeout=0):
            line.read_response()
        line.send_command("PUBLISH", channel(), position, check_health=False)
    except (redis.RedisError, OSError) as error:
        _hang_up()
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        log.warning("bell: Valkey does not answer (%s); readers fall back to polling", error)


def _line() -> Any:
    """This thread's own connection, with short timeouts."""
    if getattr(_local, "pid", None) != os.getpid():  # a forked worker must not write on its parent's line
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)
        _local.line = client.connection_pool.get_connection()
        _local.pid = os.getpid()
    return _local.line


def _hang_up() -> None:
    line = getattr(_local, "line", None)
    _local.__dict__.clear()
    if line is not None:
        line.disconnect()
