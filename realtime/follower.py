"""Follows the log for one process: its position, the newest events, and the only reader of the store.

Invariant: everything at or below `position` has been handled, in order, and the ring holds all of (`ring.floor`,
`position`]. Only `apply` moves `position`, within one loop turn per call, from any source that covers the log without a
gap from `position` on: a contiguous batch of the relay, or a page of the store up to its safe head. Sources may
overlap, repeat or race; events not above `position` are dropped. A batch that is not contiguous only wakes the reader
of the store. Where the log has lost its end, as after a failover, `position` goes back to where both histories part.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from django.utils import timezone

from events import freshness, types
from realtime import conf, encoding, log_reader, prometheus, publish

logger = logging.getLogger(__name__)

# The operator's page shows the lags of this many seconds, and at most this many.
LAG_SECONDS: Final = 60.0
LAGS: Final = 2_000
# A beacon overtakes no batch, but the relay may still have to publish events below the head that it names.
BEACON_GRACE: Final = 0.2
# A beacon comes each second; where the next one is this late, a read of the store replaces it before trust ends.
CONFIRM_AFTER: Final = 1.05
# The longest pause between two attempts to read an unavailable store.
STORE_PAUSE: Final = 5.0


class Follower:
    """Follows the log. For each event it calls `before` and then `deliver`, within one turn of the event loop.

    `on_continue` is called when the history has a new name, with the last position that is shared, and the topics of
    the events that were delivered beyond it, or None if they are not known. `on_rewind` is called with a reason when
    the last position that is shared is not known, or too far back. `relay_reachable` returns whether messages of the
    relay can arrive at all.
    """

    def __init__(
        self,
        limits: conf.Limits,
        reader: log_reader.LogReader,
        *,
        before: Callable[[types.RecordedEvent], None],
        deliver: Callable[[encoding.EncodedEvent], None],
        on_continue: Callable[[int, frozenset[str] | None], None],
        on_rewind: Callable[[str], None],
        relay_reachable: Callable[[], bool],
    ) -> None:
        self._limits, self._log = limits, reader
        self._before, self._deliver, self._on_rewind = before, deliver, on_rewind
        self._on_continue = on_continue
        self._relay_reachable = relay_reachable
        self.epoch = ""
        self.lineage: dict[str, int] = {}  # earlier epochs, and the last position of each that the log still has
        self.position = 0
        self.ring = encoding.Ring(limits.ring_events, limits.ring_bytes)
        self._lags = prometheus.Recent(LAG_SECONDS, LAGS)
        self._followed_from = 0  # events up to here were committed before this process followed: their age is not a lag
        self.ready = asyncio.Event()
        self.store_up = False
        self.relay_at = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._fill_requested = asyncio.Event()
        self._announced = 0  # the highest position announced by a batch or beacon
        self._doubtful = False  # a message of another history has arrived since the last read of the store
        self._fills = 0  # completed reads of the store
        self._last_assigned = 0  # the highest position the log had assigned at the last read
        self._beacon = (0, freshness.NEVER)  # the head of the last beacon, and when it was received
        self._changed: asyncio.Future[None] = self._loop.create_future()

    # -- messages ----------------------------------------------------------------------------------------------------

    def receive_batch(self, batch: publish.Batch) -> None:
        """Apply a batch that is contiguous with `position`; read the store for any other."""
        self.relay_at = self._loop.time()
        if batch.epoch != self.epoch or not self.ready.is_set():
            self._doubtful = True
            self.request_fill()
        elif batch.last <= self.position:
            return
        elif batch.previous is not None and batch.previous <= self.position:
            prometheus.EVENTS.labels("relay").inc(len(batch.events))
            self.apply(batch.events, batch.last)
        else:
            prometheus.FILLS.labels("gap").inc()
            self._fill_up_to(batch.last)

    def receive_beacon(self, beacon: publish.Beacon) -> None:
        """Read the store when the log reaches further than `position`, and no batch arrives within the grace period."""
        self.relay_at = self._loop.time()
        if beacon.epoch != self.epoch:
            self._doubtful = True
            self.request_fill()
            return
        self._beacon = (beacon.head, time.monotonic())
        self._confirm_beacon()
        if beacon.head > self.position:
            self._loop.call_later(BEACON_GRACE, self._fill_if_missing, beacon.head)

    def _confirm_beacon(self) -> None:
        """Confirm what this process knows, once the head of the last beacon is reached."""
        head, received = self._beacon
        if self.position < head:
            return
        self._beacon = (0, freshness.NEVER)
        if freshness.LOCAL.confirm_by_message(received):
            self._loop.call_later(CONFIRM_AFTER, self._confirm_in_time)
        else:
            self.request_fill()

    def _confirm_in_time(self) -> None:
        """Read the store if nothing was confirmed for `CONFIRM_AFTER` seconds, before trust ends."""
        if not freshness.LOCAL.trusted(time.monotonic() + freshness.TRUST_SECONDS - CONFIRM_AFTER + 0.01):
            self.request_fill()

    def receive_notification(self) -> None:
        """Read the store after a commit of a writer, but only while the relay is silent."""
        if not self.relay_alive():
            self.request_fill()

    def relay_alive(self) -> bool:
        """True when a batch or beacon arrived within `beacon_silence`."""
        return self._relay_reachable() and self._loop.time() - self.relay_at < self._limits.beacon_silence

    def request_fill(self) -> None:
        """Wake the reader of the store."""
        self._fill_requested.set()

    def _fill_up_to(self, position: int) -> None:
        self._announced = max(self._announced, position)
        self.request_fill()

    def _fill_if_missing(self, position: int) -> None:
        if position > self.position:
            prometheus.FILLS.labels("beacon").inc()
            self._fill_up_to(position)

    # -- applying ----------------------------------------------------------------------------------------------------

    def apply(self, events: Iterable[types.RecordedEvent], upto: int) -> None:
        """Handle events that cover the log from at or below `position` up to `upto` without a gap."""
        now = timezone.now()
        for event in events:
            if event.position <= self.position:
                continue
            freshness.LOCAL.touch(event)
            self._before(event)  # first: a revocation applies to its own event already
            if types.erases(event.type):
                self.ring.restart(self.position)  # catching up then reads the store, where the erased data is gone
            self.position = event.position
            encoded = encoding.EncodedEvent(event)
            self.ring.add(encoded)
            self._deliver(encoded)
            if event.position > self._followed_from and event.unreadable != "no_instant":
                lag = max(0.0, (now - event.recorded_at).total_seconds())
                prometheus.LAG.observe(lag)
                self._lags.add(self._loop.time(), lag)
        self.position = max(self.position, upto)
        freshness.LOCAL.advance(self.position)
        if self._beacon[0] > 0:
            self._confirm_beacon()
        self._wake_waiters()

    def lags(self) -> list[float]:
        """The seconds from commit to delivery of each event of the last minute."""
        return self._lags.values(self._loop.time())

    # -- reading -----------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Read the store at the start, on a gap, and at intervals while the relay is silent."""
        pause = self._limits.poll
        while True:
            self._fill_requested.clear()
            try:
                await self._fill()
                self.store_up, pause = True, self._limits.poll
            except log_reader.Unavailable as error:
                if self.store_up:
                    logger.warning("the event store cannot be read: %s", error)
                self.store_up, pause = False, min(pause * 2, STORE_PAUSE)
                self._wake_waiters()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                continue
            self._fills += 1
            self._wake_waiters()
            timeout = self._limits.poll if self._announced > self.position or not self.relay_alive() else None
            try:
                async with asyncio.timeout(timeout):
                    await self._fill_requested.wait()
            except TimeoutError:
                continue

    async def _fill(self) -> None:
        """Read the log up to its safe head."""
        before = self.position  # a batch may move it during the query
        begun = time.monotonic()
        doubtful, self._doubtful = self._doubtful, False
        head = await self._log.head(doubtful=doubtful)
        if head.epoch != self.epoch:
            self.lineage = await self._log.lineage()
        self._last_assigned = head.last
        if not self.ready.is_set():
            self._start_at(head)
        elif (shared := self._shared(head)) is not None and head.safe - shared <= self._limits.catch_up_events:
            self._continue_as(head, shared)
        elif head.epoch != self.epoch or head.last < before:
            self._restart_at(head)
        while self.position < head.safe:
            try:
                page = await self._log.read(self.position, head.safe, self._limits.page)
            except log_reader.Archived as archived:
                self._skip_to(archived.upto)
                continue
            prometheus.EVENTS.labels("store").inc(len(page))
            self.apply(page, head.safe if len(page) < self._limits.page else page[-1].position)
        freshness.LOCAL.confirm(begun)
        self._loop.call_later(CONFIRM_AFTER, self._confirm_in_time)
        self.ready.set()

    def _start_at(self, head: log_reader.Head) -> None:
        """Start `ring_events` before the head, so that a new process serves reconnecting clients from its ring."""
        self.epoch, self._followed_from = head.epoch, head.last
        self.position = max(0, head.safe - self._limits.ring_events)
        self.ring.restart(self.position)
        freshness.LOCAL.start(self.epoch, self.position)

    def _skip_to(self, archived: int) -> None:
        """Continue behind the archived part of the log: a socket gets nothing from files, so its client reloads."""
        if self.ready.is_set():
            logger.warning("the log up to position %d was archived before this process read it", archived)
        self.position = archived
        self.ring.restart(archived)
        freshness.LOCAL.restart(self.epoch, archived)
        if self.ready.is_set():
            self._on_rewind("too_old")

    def _shared(self, head: log_reader.Head) -> int | None:
        """The last position that the history followed here shares with a newer one, at most `position`.

        None where the log has the same history, or one that has not continued it.
        """
        if self.epoch == head.epoch or self.epoch not in self.lineage:
            return None
        return min(self.lineage[self.epoch], head.last, self.position)

    def _continue_as(self, head: log_reader.Head, shared: int) -> None:
        """Switch to another name of the history, from `shared` on: only clients reload that have seen what it lacks."""
        limit = self.lineage[self.epoch]
        logger.warning("the history %s continues as %s, from position %d", self.epoch, head.epoch, limit)
        lost: frozenset[str] | None = frozenset()
        if self.position > shared:
            logger.error("the log has lost its end: %d was followed, and it shares %d", self.position, shared)
            lost = self._topics_beyond(shared)
            self.position, self._followed_from = shared, head.last
            self.ring.restart(shared)
        self.epoch, self._announced, self._beacon = head.epoch, self.position, (0, freshness.NEVER)
        freshness.LOCAL.restart(self.epoch, self.position)
        self._on_continue(limit, lost)

    def _topics_beyond(self, position: int) -> frozenset[str] | None:
        """The topics of the events above a position; None where the ring does not have them all."""
        if self.ring.floor > position:
            return None
        return frozenset(name for event in self.ring.after(position) for name, _topic in event.names)

    def shares(self, epoch: str, position: int) -> bool:
        """Whether a client at that position of that history has read nothing that this history lacks."""
        return epoch == self.epoch or position <= self.lineage.get(epoch, -1)

    async def refresh(self) -> None:
        """Wait for a read of the store that began after the call."""
        begun = self._fills
        while self._fills < begun + 2:
            self.request_fill()
            await self.wait_for_change()

    def _restart_at(self, head: log_reader.Head) -> None:
        """Switch to another history of the log. Its positions may have been assigned twice, so every client reloads."""
        reason = "epoch" if head.epoch != self.epoch else "rewound"
        logger.error("history was rewound (%s): from %d of %s to %s", reason, self.position, self.epoch, head)
        self.epoch, self.position, self._announced = head.epoch, head.safe, head.safe
        self._followed_from = head.last
        self._beacon = (0, freshness.NEVER)
        self.ring.restart(head.safe)
        freshness.LOCAL.restart(self.epoch, head.safe)
        self._on_rewind(reason)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wake_waiters(self) -> None:
        """Wake the tasks in `wait_for_change`."""
        if not self._changed.done():
            self._changed.set_result(None)

    async def wait_for_change(self) -> None:
        """Wait until `position` has grown or a read of the store has ended, successfully or not."""
        if self._changed.done():
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)

    async def wait_for(self, position: int) -> bool:
        """Wait until `position` is handled. Returns False when the log never assigned it: it is of another history."""
        fills_before = self._fills
        while self.position < position:
            if self._fills >= fills_before + 2 and self._last_assigned < position:  # one that began after the call
                return False
            self.request_fill()
            await self.wait_for_change()
        return True
