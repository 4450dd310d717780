"""Brings topics that are behind up to the hub's position, from the store and then from the ring.

A topic name of a socket is either live (in the index, complete up to the hub's position) or behind (complete up to a
position of its own). `_advance` moves it from behind to live in the same turn in which nothing is left in between. The
proof that no event is lost or sent twice is in docs/realtime.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Set
from typing import Any

from realtime import conf, encoding, follower, frames, log_reader, prometheus, sockets, topic_index

logger = logging.getLogger(__name__)


class CatchUp:
    """Brings the topics of all sockets of a hub up to its position.

    `presence_of` returns the presence snapshot that follows the answer to a subscription; `close` ends a socket whose
    catching up failed.
    """

    def __init__(
        self,
        limits: conf.Limits,
        log: log_reader.LogReader,
        log_follower: follower.Follower,
        index: topic_index.TopicIndex,
        *,
        presence_of: Callable[[str], frames.PresenceFrame],
        close: Callable[[sockets.Socket, int, str], object],
    ) -> None:
        self._limits, self._log, self._follower, self._index = limits, log, log_follower, index
        self._presence_of, self._close = presence_of, close
        self._loop = asyncio.get_running_loop()
        self._readers = asyncio.Semaphore(limits.catch_up_readers)

    def start(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        """Add a `Behind` record to a socket. The common case, a position within the ring, is complete on return."""
        socket.behind.append(behind)
        within_ring = self._follower.ring.floor <= behind.position <= self._follower.position
        if len(socket.behind) == 1 and socket.can_send and within_ring:
            self._advance_in_ring(socket, behind)
        if socket.behind and socket.catch_up_task is None:
            socket.catch_up_task = self._loop.create_task(self._run(socket))

    def fall_behind(self, socket: sockets.Socket) -> None:
        """Remove the live names of a socket from the index; they stay complete up to the current position only."""
        if not socket.live:
            return
        prometheus.CREDIT_WAITS.inc()
        self.start(socket, sockets.Behind(self._index.take_live(socket), self._follower.position))

    # -- steps -------------------------------------------------------------------------------------------------------

    async def _run(self, socket: sockets.Socket) -> None:
        try:
            while socket.behind:
                await socket.wait_until_sendable()
                await self._advance(socket, socket.behind[0])
        except sockets.SocketClosed:
            pass
        except Exception:
            logger.exception("catching up failed")
            self._close(socket, frames.INTERNAL, "internal error")
        finally:
            socket.catch_up_task = None

    async def _advance(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        """Take one step of catching up, depending on the position:

        1  ahead of this hub (the client was served by a faster one): wait until the hub is there; reset where the log
           never assigned that position
        2  older than the ring: one page of the store; reset where the hub is too far ahead, or where the socket has
           read too much from the store without reaching the ring: it would stay behind for as long as others write
        3  within the ring: to the end of it, and live in the same turn
        """
        if not behind.names:  # unsubscribed, lost or reset meanwhile
            self._advance_in_ring(socket, behind)
        elif behind.position > self._follower.position:
            if not await self._follower.wait_for(behind.position) and behind in socket.behind:
                self._give_up(socket, behind, "rewound")
        elif behind.position < self._follower.ring.floor:
            if max(self._follower.position - behind.position, behind.scanned) > self._limits.catch_up_events:
                self._give_up(socket, behind, "too_old")
            else:
                await self._advance_in_store(socket, behind)
        else:
            self._advance_in_ring(socket, behind)

    async def _advance_in_store(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        epoch, start, upto = self._follower.epoch, behind.position, self._follower.position
        async with self._readers:
            try:
                page = await self._log.read(start, upto, self._limits.page)
            except log_reader.Unavailable:
                await self._follower.wait_for_change()
                return
            except log_reader.Archived:
                self._give_up(socket, behind, "too_old")
                return
        if behind not in socket.behind or epoch != self._follower.epoch or not socket.can_send:
            return  # the page is no longer wanted, or cannot be sent now
        for event in page:
            behind.scanned += 1  # also where credit ends within the page and the rest is read again
            if not self._replay(socket, behind, encoding.EncodedEvent(event)):
                return
        behind.position = page[-1].position if len(page) == self._limits.page else upto

    def _advance_in_ring(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        if behind.names:
            for event in self._follower.ring.after(behind.position):
                if not self._replay(socket, behind, event):
                    return
        socket.behind.remove(behind)
        self._index.make_live(socket, behind.names)
        self._answer(socket, behind)

    def _replay(self, socket: sockets.Socket, behind: sockets.Behind, event: encoding.EncodedEvent) -> bool:
        """Send one event to the names that are behind. Returns False when the socket cannot take another one."""
        behind.position = event.position
        names = tuple(name for name, _topic in event.names if name in behind.names)
        frame = event.frame_for(names, socket, replayed=True) if names else None
        if frame is None or socket.send_event(frame):
            return True
        self.fall_behind(socket)  # its live names cannot be sent either
        return False

    def _answer(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        """Send `subscribed`, and who is present, where a subscribe frame is still to be answered."""
        if behind.request is None:
            return
        names = sorted(behind.names)
        position = self._follower.position
        socket.announced = max(socket.announced, position)
        socket.send_frame(
            frames.Subscribed(
                id=behind.request, topics=names, denied=behind.denied, position=position, epoch=self._follower.epoch
            )
        )
        for name in names:
            present = self._presence_of(name)
            if present.full:
                socket.send_frame(present)

    # -- resets ------------------------------------------------------------------------------------------------------

    def give_up_beyond(self, socket: sockets.Socket, position: int, seen: Set[str]) -> None:
        """Reset names whose catch-up is beyond a position, because the history lacks what their client has read.

        Names that fell behind without an event of `seen`, the topics of lost events, go back to that position.
        """
        for behind in [one for one in socket.behind if one.position > position]:
            if behind.request is None and not behind.names & seen:
                behind.position = position
            else:
                self._give_up(socket, behind, "epoch")

    def _give_up(self, socket: sockets.Socket, behind: sockets.Behind, reason: str) -> None:
        """Reset the names of a `Behind` record instead of replaying; its request is still answered."""
        socket.behind.remove(behind)
        names = set(behind.names)
        self.reset(socket, names, reason)
        behind.names.clear()
        self._answer(socket, behind)

    def reset(self, socket: sockets.Socket, names: set[str], reason: str) -> None:
        """Stop following these names and ask the client to reload them."""
        self._index.unfollow(socket, names)
        self.send_reset(socket, names, reason)

    def send_reset(self, socket: sockets.Socket, names: set[str], reason: Any) -> None:
        """Ask the client to reload names that it does not follow (any more)."""
        if names:
            prometheus.RESETS.labels(reason).inc()
            epoch, position = self._follower.epoch, self._follower.position
            socket.send_frame(frames.Reset(topics=sorted(names), reason=reason, epoch=epoch, position=position))
