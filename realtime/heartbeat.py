"""Checks one socket by the clock: slow readers, pings, and identities that are due for a check."""

from __future__ import annotations

from collections.abc import Callable

from realtime import conf, frames, sockets


class Heartbeat:
    """Checks sockets by the clock. `close` ends one with a code and a reason; `recheck` reads its identity again."""

    def __init__(
        self,
        limits: conf.Limits,
        *,
        close: Callable[[sockets.Socket, int, str], object],
        recheck: Callable[[sockets.Socket], None],
    ) -> None:
        self._limits, self._close, self._recheck = limits, close, recheck

    def check(self, socket: sockets.Socket, now: float, position: int, epoch: str) -> None:
        """Close a socket that makes no progress, ping one that is due, recheck an identity that is due.

        `now` is the loop's clock, `position` and `epoch` are the hub's.
        """
        if not socket.open:
            return
        if socket.stalled_since is not None and now - socket.stalled_since > self._limits.slow_after:
            self._close(socket, frames.SLOW, "slow reader")
        elif now - socket.pinged_at >= self._limits.heartbeat_ms / 1000:
            self._ping(socket, now, position, epoch)
        if socket.open and socket.recheck_task is None and now >= socket.recheck_at:
            socket.schedule_recheck()
            self._recheck(socket)

    def _ping(self, socket: sockets.Socket, now: float, position: int, epoch: str) -> None:
        if socket.pong_number < socket.ping_number:
            self._close(socket, frames.SLOW, "no answer to ping")
            return
        socket.ping_number += 1
        self.announce(socket, now, position, epoch)

    def announce(self, socket: sockets.Socket, now: float, position: int, epoch: str) -> None:
        """Send a ping under the last number: also before the last one is answered."""
        socket.pinged_at = now
        complete = min((behind.position for behind in socket.behind), default=position)
        position = min(complete, position)
        socket.announced = max(socket.announced, position)
        socket.send_frame(frames.Ping(n=socket.ping_number, position=position, epoch=epoch))
