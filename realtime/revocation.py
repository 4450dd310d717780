"""What events take away from live sockets: the end of some, a second look at the rights of others.

An event is asked what it revokes before it, or anything later, is shown. A socket whose rights have to be looked at
again is held meanwhile: it is shown nothing until the database has answered a question asked after the last revocation.
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

# Revocations remembered for handshakes that were under way when they happened.
REMEMBERED: Final = 1000
# Between two questions to a database that does not answer.
PAUSE: Final = 0.2


class Guard:
    """Takes away. The hub says how: `end` a socket (reason, code, whether to come back), `hold` it (fall behind), and
    `trim` it to what its new identity may follow. `people` are its sockets by person.
    """

    def __init__(
        self,
        limits: conf.Limits,
        people: dict[str, set[sockets.Socket]],
        *,
        end: Callable[[sockets.Socket, int, str, bool], object],
        hold: Callable[[sockets.Socket], None],
        trim: Callable[[sockets.Socket], None],
    ) -> None:
        self._limits, self._people = limits, people
        self._end, self._hold, self._trim = end, hold, trim
        self._loop = asyncio.get_running_loop()
        self._remembered: deque[tuple[int, auth.Revocation]] = deque(maxlen=REMEMBERED)

    def revoke(self, event: types.RecordedEvent) -> None:
        """If this event takes something away, take it before anything later is shown."""
        read = auth.REVOCATIONS.get(event.type)
        if read is not None and event.unreadable:  # what exactly was taken away is not known: all of the person's
            revocation: auth.Revocation | None = auth.Revocation(event.key, "close")
        else:
            revocation = read(event) if read is not None else None
        if revocation is None:
            return
        self._remembered.append((event.position, revocation))
        for socket in list(self._people.get(revocation.person, ())):
            self._take(socket, revocation)

    def catch_up(self, socket: sockets.Socket, since: int) -> None:
        """What was revoked after the position at which the socket's identity was read."""
        missed = [revocation for position, revocation in self._remembered if position > since]
        for revocation in missed:
            self._take(socket, revocation)
        if len(missed) == REMEMBERED:  # and perhaps more
            self.recheck(socket)

    def _take(self, socket: sockets.Socket, revocation: auth.Revocation) -> None:
        if not revocation.concerns(socket.identity):
            return
        prometheus.REVOCATIONS.labels(revocation.action).inc()
        if revocation.action == "close":
            self._end(socket, frames.REVOKED, "session revoked", False)
        else:
            self.recheck(socket)

    def recheck(self, socket: sockets.Socket, hold: bool = True) -> None:
        """Ask again who this is; with `hold` nothing more is shown until the answer is here."""
        socket.rechecks += 1
        if hold and not socket.held:
            socket.held = True
            self._hold(socket)
        if socket.rechecking is None:
            socket.rechecking = self._loop.create_task(self._recheck(socket))

    async def _recheck(self, socket: sockets.Socket) -> None:
        """Until an answer that was asked for after the last revocation."""
        try:
            async with asyncio.timeout(self._limits.slow_after):
                asked, identity = -1, None
                while asked != socket.rechecks:
                    asked = socket.rechecks
                    identity = await _identify_again(socket.identity)
        except Exception as error:
            if not isinstance(error, TimeoutError):
                logger.exception("permissions could not be checked")
            if socket.held:  # what may not be shown must not wait for ever
                self._end(socket, frames.TRY_LATER, "permissions cannot be checked", True)
            return
        finally:
            socket.rechecking = None
        if identity is None:
            self._end(socket, frames.REVOKED, "session revoked", False)
        else:
            socket.identity = identity
            socket.check_later()
            self._trim(socket)
            socket.release()


async def _identify_again(identity: auth.Identity) -> auth.Identity | None:
    """Until the database answers; the caller sets the patience."""
    while True:
        try:
            return await auth.identify_again(identity)
        except auth.Unavailable:
            await asyncio.sleep(PAUSE)
