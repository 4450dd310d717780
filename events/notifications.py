"""After a commit, ring: readers that wait look at the log at once instead of at their next poll.

A hint, never the truth. Valkey away costs a reader its poll interval, and a writer nothing but one attempt a second.

A ring speaks for `QUIET` seconds: what its machine commits within that time is not rung for again, and whoever has
heard it looks at once and, `ECHO` seconds later, once more. Busy writers are spared most of their rings, and nobody
misses one: a commit passed over came less than QUIET after the ring was on its way, so the second look comes after it.
When that was, the processes of a machine tell each other in eight bytes of a file that all of them have in memory.
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

log = logging.getLogger(__name__)

QUIET = 0.002
ECHO = 0.0025
PAUSE_AFTER_FAILURE = 1.0
READ_EVERY = 64  # answers are four bytes or so: that many fit any buffer many times over

_MOMENT: Final = struct.Struct("d")  # seconds of the monotonic clock, which all processes of a machine share

_local = threading.local()
_silent_until = 0.0
_shared: mmap.mmap | None = None


def channel() -> str:
    """The pub/sub channel; its messages are positions in decimal."""
    return f"{settings.REDIS_PREFIX}:events:bell"


def notify(position: int) -> None:
    """Say that the log has grown to `position`. Never raises, and never waits for an answer."""
    global _silent_until  # noqa: PLW0603 - one pause for the whole process
    now = time.monotonic()
    rung = _share() if _shared is None else _shared
    if now < _silent_until or 0 <= now - _MOMENT.unpack_from(rung)[0] < QUIET:
        return
    _MOMENT.pack_into(rung, 0, now)  # before it is sent: what counts is that nobody can have heard it earlier
    try:
        _line().send(b"%b$%d\r\n%d\r\n" % (_local.head, len(str(position)), position))
        _local.sent += 1
        if _local.sent % READ_EVERY == 0:
            _read_answers(_local.socket)
    except (redis.RedisError, OSError) as error:
        _MOMENT.pack_into(rung, 0, 0.0)
        _hang_up()
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        log.warning("bell: Valkey does not answer (%s); readers fall back to polling", error)


def _share() -> mmap.mmap:
    """Where the moment of the last ring is kept: with the installation's data, else in the temporary folder. Memory of
    this process alone where there can be no such file: then it rings more often than it needs to.
    """
    global _shared  # noqa: PLW0603 - one place for the whole process
    bell = hashlib.sha256(f"{settings.REDIS_URL} {channel()}".encode()).hexdigest()[:16]
    folder = settings.DATA_DIR if os.access(settings.DATA_DIR, os.W_OK) else Path(tempfile.gettempdir())
    path = folder / f"bell-{os.geteuid()}-{bell}"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_uid != os.geteuid():
                raise PermissionError(f"{path} is somebody else's")
            os.ftruncate(file, _MOMENT.size)
            _shared = mmap.mmap(file, _MOMENT.size)
        finally:
            os.close(file)
    except OSError as error:
        log.warning("bell: %s; this process does not know when others rang", error)
        _shared = mmap.mmap(-1, _MOMENT.size)
    return _shared


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


# -- heard ----------------------------------------------------------------------------------------------------------


class Listener:
    """Waiting for the bell, with the poll interval as its longest patience. Without Valkey it only waits.

    What a ring says is not read: that there is something to read is all there is to know.
    """

    def __init__(self) -> None:
        self._connection: Any = None
        self._client: Any = None
        self._heard = select.poll()
        self._look_again_at: float | None = None

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Until the bell rings, `seconds` pass or `stop` is set; or it is time to look again after a ring."""
        if stop.is_set():
            return
        if self._look_again_at is not None:
            seconds = min(seconds, max(self._look_again_at - time.monotonic(), 0))
            self._look_again_at = None
        try:
            self._listen(seconds)
        except (redis.RedisError, OSError) as error:
            log.warning("bell: cannot listen (%s); polling", error)
            self.close()
            stop.wait(seconds)

    def _listen(self, seconds: float) -> None:
        if self._connection is None:
            self._connect()  # and look once more: something may have been committed before we listened
        elif self._heard.poll(seconds * 1000):
            if not self._connection._sock.recv(65536):
                raise ConnectionResetError("the connection was closed")
            self._look_again_at = time.monotonic() + ECHO

    def _connect(self) -> None:
        """A connection made and authenticated by redis-py; its way of listening takes as long as a look at the log."""
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=1, retry=None)
        self._connection = client.connection_pool.get_connection()
        self._client = client  # it would take the connection with it
        self._connection.send_command("SUBSCRIBE", channel())
        answer = self._connection._sock.recv(65536)  # redis-py would wait for more: to RESP3 it is no answer
        if not answer or answer.startswith(b"-"):
            raise OSError(answer[:100].decode(errors="replace") or "the connection was closed")
        self._heard = select.poll()
        self._heard.register(self._connection._sock, select.POLLIN)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.disconnect()
        self._connection = self._client = None
