"""After a commit, ring: readers that wait look at the log at once instead of at their next poll.

A hint, never the truth. Valkey away costs a reader its poll interval, and a writer nothing but one attempt a second.

A ring speaks for `QUIET` seconds: what its process commits within that time is not rung for again, and whoever has
heard it looks at once and, `ECHO` seconds later, once more. A busy writer is spared most of its rings, and nobody
misses one: a commit passed over came less than QUIET after the ring was on its way, so the second look comes after it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

import redis
from django.conf import settings

log = logging.getLogger(__name__)

QUIET = 0.001
ECHO = 0.0015
PAUSE_AFTER_FAILURE = 1.0
READ_EVERY = 64  # answers are four bytes or so: that many fit any buffer many times over

_local = threading.local()
_silent_until = 0.0
_rung_at = 0.0


def channel() -> str:
    """The pub/sub channel; its messages are positions in decimal."""
    return f"{settings.REDIS_PREFIX}:events:bell"


def ring(position: int) -> None:
    """Say that the log has grown to `position`. Never raises, and never waits for an answer."""
    global _silent_until, _rung_at  # noqa: PLW0603 - one pause for the whole process
    now = time.monotonic()
    if now < _silent_until or now - _rung_at < QUIET:
        return
    _rung_at = now  # before it is sent: what counts is that nobody can have heard it earlier
    try:
        _line().send(b"%b$%d\r\n%d\r\n" % (_local.head, len(str(position)), position))
        _local.sent += 1
        if _local.sent % READ_EVERY == 0:
            _read_answers(_local.socket)
    except (redis.RedisError, OSError) as error:
        _hang_up()
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        log.warning("bell: Valkey does not answer (%s); readers fall back to polling", error)


def _line() -> socket.socket:
    """This thread's own connection, made and authenticated by redis-py, then spoken to directly: its round trip would
    cost a quarter of an append.
    """
    if getattr(_local, "pid", None) != os.getpid():  # a forked worker must not write on its parent's line
        _local.__dict__.clear()
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)
        _local.client = client  # it would take the connection with it
        _local.connection = client.connection_pool.get_connection()
        _local.socket = _local.connection._sock
        _local.socket.setblocking(False)
        name = channel().encode()
        _local.head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(name), name)
        _local.sent, _local.pid = 0, os.getpid()
    return _local.socket  # type: ignore[no-any-return]


def _read_answers(line: socket.socket) -> None:
    """Empty the line of answers; one that ended is noticed here, or by the next send."""
    try:
        while answers := line.recv(65536):
            if b"-" in answers:
                raise OSError(answers[:100].decode(errors="replace"))
        raise ConnectionResetError("the connection was closed")
    except BlockingIOError:
        pass


def _hang_up() -> None:
    line = getattr(_local, "connection", None)
    _local.__dict__.clear()
    if line is not None:
        line.disconnect()
