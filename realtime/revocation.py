"""Applies revocations to live sockets: closes some and checks the identity of others again.

Each event is checked for a revocation before it, or any later event, is sent. A socket whose identity must be checked
again is suspended meanwhile: it receives no event until the database has answered a query made after the last
revocation.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from events import types
from realtime import auth, conf, frames, prometheus, sockets

logger = logging.getLogger(__name__)

# Revocations kept for handshakes that were in progress when they happened.
MAX_REMEMBERED: Final = 1000
# Seconds between two queries to a database that does not answer.
RETRY_PAUSE: Final = 0.2


class Revoker:
    """Applies revocations with three functions of the hub.

    `close` ends a socket (code, reason, whether the client may reconnect), `suspend` takes its live topics out of
    delivery, and `reapply_grants` limits it to the topics that its new identity may follow.
    """

    def __init__(
        self,
        limits: conf.Limits,
        sockets_by_person: dict[str, set[sockets.Socket]],
        *,
        close: Callable[[sockets.Socket, int, str, bool], object],
        suspend: Callable[[sockets.Socket], None],
        reapply_grants: Callable[[sockets.Socket], None],
    ) -> None:
        self._limits, self._sockets_by_person = limits, sockets_by_person
        self._close, self._suspend, self._reapply_grants = close, suspend, reapply_grants
        self._loop = asyncio.get_running_loop()
        self._remembered: deque[tuple[int, auth.Revocation]] = deque(maxlen=MAX_REMEMBERED)

    def revoke(self, event: types.RecordedEvent) -> None:
        """Apply the revocation of this event, if it is one."""
        read = auth.REVOCATIONS.get(event.type)
        if read is not None and event.unreadable:  # the details are unknown: close all sockets of the person
            revocation: auth.Revocation | None = auth.Revocation(event.key, "close")
        else:
            revocation = read(event) if read is not None else None
        if revocation is None:
            return
        self._remembered.append((event.position, revocation))
        for socket in list(self._sockets_by_person.get(revocation.person, ())):
            self._apply(socket, revocation)

    def apply_missed(self, socket: sockets.Socket, since: int) -> None:
        """Apply the revocations after `since`, the hub's position when the socket's identity was read."""
        missed = [revocation for position, revocation in self._remembered if position > since]
        for revocation in missed:
            self._apply(socket, revocation)
        if len(missed) == MAX_REMEMBERED:  # older ones may have been dropped
            self.recheck(socket)

    def _apply(self, socket: sockets.Socket, revocation: auth.Revocation) -> None:
        if not revocation.concerns(socket.identity):
            return
        prometheus.REVOCATIONS.labels(revocation.action).inc()
        if revocation.action == "close":
            self._close(socket, frames.REVOKED, "session revoked", False)
        else:
            self.recheck(socket)

    def recheck(self, socket: sockets.Socket) -> None:
        """Suspend the socket and read its identity again."""
        if not socket.recheck_pending:
            socket.recheck_pending = True
            self._suspend(socket)
        self.recheck_without_suspending(socket)

    def recheck_without_suspending(self, socket: sockets.Socket) -> None:
        """Read the identity of a socket again while events continue, for checks by the clock."""
        socket.rechecks += 1
        if socket.recheck_task is None:
            socket.recheck_task = self._loop.create_task(self._recheck(socket))

    async def _recheck(self, socket: sockets.Socket) -> None:
        """Read the identity until one query began after the last revocation."""
        try:
            async with asyncio.timeout(self._limits.slow_after):
                checked, identity = -1, None
                while checked != socket.rechecks:
                    checked = socket.rechecks
                    identity = await _identify_again(socket.identity)
        except Exception as error:
            if not isinstance(error, TimeoutError):
                logger.exception("permissions could not be checked")
            if socket.recheck_pending:  # a suspended socket must not wait for ever
                self._close(socket, frames.TRY_LATER, "permissions cannot be checked", True)
            return
        finally:
            socket.recheck_task = None
        if identity is None:
            self._close(socket, frames.REVOKED, "session revoked", False)
        else:
            socket.identity = identity
            socket.schedule_recheck()
            self._reapply_grants(socket)
            socket.recheck_finished()


async def _identify_again(identity: auth.Identity) -> auth.Identity | None:
    """Ask until the database answers; the caller sets the timeout."""
    while True:
        try:
            return await auth.identify_again(identity)
        except auth.Unavailable:
            await asyncio.sleep(RETRY_PAUSE)
