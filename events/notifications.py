"""Notifications after commits: readers that wait look at the log at once instead of at their next poll.

A notification is a hint, never the truth. Without Valkey a reader is as late as its poll interval, and a writer loses
one attempt a second.

A notification covers `QUIET` seconds: later commits of the same machine within that time send none, and a listener that
got one looks at once and again `ECHO` seconds later. So busy writers save most of their notifications, and no commit is
missed: a commit without one came less than QUIET after a notification was sent, hence before the second look. The
processes of a machine share the time of the last notification in eight bytes of a memory-mapped file.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import select
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import redis
from django.conf import settings

from events import valkey

log = logging.getLogger(__name__)

QUIET = 0.002
ECHO = 0.0025
PAUSE_AFTER_FAILURE = 1.0
READ_EVERY = 64  # replies have about four bytes: that many fit any buffer many times over

_TIME: Final = struct.Struct("d")  # seconds of the monotonic clock, which all processes of a machine share

_local = threading.local()
_silent_until = 0.0
_shared: mmap.mmap | None = None


def channel() -> str:
    """The pub/sub channel; its messages are positions in decimal."""
    return f"{settings.REDIS_PREFIX}:events:bell"


# -- notify -----------------------------------------------------------------------------------------------------------


def notify(position: int) -> None:
    """Announce that the log has grown to `position`. Never raises, and never waits for a reply."""
    global _silent_until  # noqa: PLW0603 - one pause for the whole process
    now = time.monotonic()
    last = _shared_time() if _shared is None else _shared
    if now < _silent_until or 0 <= now - _TIME.unpack_from(last)[0] < QUIET:
        return
    _TIME.pack_into(last, 0, now)  # before it is sent: no listener can have got it earlier
    try:
        _connected_socket().send(b"%b$%d\r\n%d\r\n" % (_local.head, len(str(position)), position))
        _local.sent += 1
        if _local.sent % READ_EVERY == 0:
            _read_replies(_local.socket)
    except (redis.RedisError, OSError) as error:
        _TIME.pack_into(last, 0, 0.0)
        _disconnect()
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        log.warning("notifications: Valkey does not answer (%s); readers fall back to polling", error)


def _shared_time() -> mmap.mmap:
    """The time of the last notification: in a file with the installation's data, else in the temporary folder.

    Without such a file it is this process's own memory: then it notifies more often than necessary.
    """
    global _shared  # noqa: PLW0603 - one map for the whole process
    name = hashlib.sha256(f"{settings.REDIS_URL} {channel()}".encode()).hexdigest()[:16]
    folder = settings.DATA_DIR if os.access(settings.DATA_DIR, os.W_OK) else Path(tempfile.gettempdir())
    path = folder / f"bell-{os.geteuid()}-{name}"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to another user")
            os.ftruncate(file, _TIME.size)
            _shared = mmap.mmap(file, _TIME.size)
        finally:
            os.close(file)
    except OSError as error:
        log.warning("notifications: %s; this process does not see those of other processes", error)
        _shared = mmap.mmap(-1, _TIME.size)
    return _shared


def _connected_socket() -> socket.socket:
    """The socket of this thread's own connection, which redis-py opens and authenticates.

    It is written to directly: a round trip of redis-py would cost a quarter of an append.
    """
    if getattr(_local, "pid", None) != os.getpid():  # a forked worker must not use its parent's connection
        _local.__dict__.clear()
        client = valkey.client("request", retry=None)
        _local.client = client  # its garbage collection would close the connection
        _local.connection = client.connection_pool.get_connection()
        _local.socket = _local.connection._sock
        _local.socket.setblocking(False)
        name = channel().encode()
        _local.head = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n" % (len(name), name)
        _local.sent, _local.pid = 0, os.getpid()
    return _local.socket  # type: ignore[no-any-return]


def _read_replies(connected: socket.socket) -> None:
    """Discard the replies read so far. Raises `OSError` for an error reply or a closed connection."""
    try:
        while replies := connected.recv(65536):
            if b"-" in replies:
                raise OSError(replies[:100].decode(errors="replace"))
        raise ConnectionResetError("the connection was closed")
    except BlockingIOError:
        pass


def _disconnect() -> None:
    connection = getattr(_local, "connection", None)
    _local.__dict__.clear()
    if connection is not None:
        connection.disconnect()


# -- listen -----------------------------------------------------------------------------------------------------------


class Listener:
    """Waits for notifications, at most a poll interval. Without Valkey it only waits.

    The positions in notifications are not read: each means no more than that there is something to read.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._client: Any = None
        self._readable = select.poll()
        self._look_again_at: float | None = None

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Return on a notification or its second look, after `seconds`, or when `stop` is set."""
        if stop.is_set():
            return
        if self._look_again_at is not None:
            seconds = min(seconds, max(self._look_again_at - time.monotonic(), 0))
            self._look_again_at = None
        try:
            self._listen(seconds)
        except (redis.RedisError, OSError) as error:
            log.warning("notifications: cannot listen (%s); polling", error)
            self.close()
            stop.wait(seconds)

    def _listen(self, seconds: float) -> None:
        if self._connection is None:
            self._connect()  # and return at once: something may have been committed before the subscription
        elif self._readable.poll(seconds * 1000):
            if not self._connection._sock.recv(65536):
                raise ConnectionResetError("the connection was closed")
            self._look_again_at = time.monotonic() + ECHO

    def _connect(self) -> None:
        """Subscribe on a connection that redis-py opens; its own way to listen takes as long as reading the log."""
        client = valkey.client("background", retry=None)
        self._connection = client.connection_pool.get_connection()
        self._client = client  # its garbage collection would close the connection
        self._connection.send_command("SUBSCRIBE", channel())
        reply = self._connection._sock.recv(65536)  # redis-py would wait for more, because a RESP3 push is no reply
        if not reply or reply.startswith(b"-"):
            raise OSError(reply[:100].decode(errors="replace") or "the connection was closed")
        self._readable = select.poll()
        self._readable.register(self._connection._sock, select.POLLIN)

    def close(self) -> None:
        """Close the connection; the next `wait` opens another."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.disconnect()
        self._connection = self._client = None
