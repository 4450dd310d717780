"""The log as one process knows it: how far it was handled, the newest events, and the only reader of the store.

Invariant: everything at or below `position` has been handled, in order, and the ring holds all of (`ring.floor`,
`position`]. Only `apply` moves it, one loop turn per call, from any source that covers the log without a hole from
`position` on: a batch of the relay that joins up, or a page of the store up to its safe head. Sources may overlap,
repeat or race; what is not above `position` is dropped. What does not join up only wakes the reader of the store.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final

from django.utils import timezone

from events import types
from realtime import conf, encoding, log_reader, prometheus, publish

logger = logging.getLogger(__name__)

# Delays of the newest events, for operators: of the last minute, at most so many.
LAG_SECONDS: Final = 60.0
LAGS: Final = 2_000
# A beacon may overtake nothing, but its batches may still be on their way from the relay.
BEACON_GRACE: Final = 0.2
# Between two tries to read a store that is away, at most.
STORE_PAUSE: Final = 5.0


class Follower:
    """Follows the log. `before` sees each event first, then `deliver` gets it as a fan, in one turn of the loop;
    `rewound` is called with a reason when history is not what it was. `line_up`: can the relay be heard at all?
    """

    def __init__(
        self,
        limits: conf.Limits,
        reader: log_reader.Log,
        *,
        before: Callable[[types.RecordedEvent], None],
        deliver: Callable[[encoding.Fan], None],
        rewound: Callable[[str], None],
        line_up: Callable[[], bool],
    ) -> None:
        self._limits, self._log = limits, reader
        self._before, self._deliver, self._rewind, self._line_up = before, deliver, rewound, line_up
        self.epoch = ""
        self.position = 0
        self.ring = encoding.Ring(limits.ring_events, limits.ring_bytes)
        self._lags = prometheus.Recent(LAG_SECONDS, LAGS)
        self._began_at = 0  # events up to here were committed before we followed: their age is no delay of ours
        self.ready = asyncio.Event()
        self.store_up = False
        self.relay_at = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._heard = 0  # the highest position anybody spoke of
        self._fills = 0
        self._drawn = 0
        self._changed: asyncio.Future[None] = self._loop.create_future()

    # -- hearing -----------------------------------------------------------------------------------------------------

    def hear_batch(self, batch: publish.Batch) -> None:
        """Apply a batch that joins up with what we have; anything else sends us to the store."""
        self.relay_at = self._loop.time()
        if batch.epoch != self.epoch or not self.ready.is_set():
            self.look()
        elif batch.last <= self.position:
            return
        elif batch.previous is not None and batch.previous <= self.position:
            prometheus.EVENTS.labels("relay").inc(len(batch.events))
            self.apply(batch.events, batch.last)
        else:
            prometheus.FILLS.labels("gap").inc()
            self._want(batch.last)

    def hear_beacon(self, beacon: publish.Beacon) -> None:
        """The log can be read up to its head: have we come that far?"""
        self.relay_at = self._loop.time()
        if beacon.epoch != self.epoch:
            self.look()
        elif beacon.head > self.position:
            self._loop.call_later(BEACON_GRACE, self._want_if_missing, beacon.head)

    def hear_bell(self) -> None:
        """A writer rang: only worth a look at the store while the relay is silent."""
        if not self.relay_heard():
            self.look()

    def relay_heard(self) -> bool:
        return self._line_up() and self._loop.time() - self.relay_at < self._limits.beacon_silence

    def look(self) -> None:
        """Read the store as soon as may be."""
        self._wanted.set()

    def _want(self, position: int) -> None:
        self._heard = max(self._heard, position)
        self.look()

    def _want_if_missing(self, position: int) -> None:
        if position > self.position:
            prometheus.FILLS.labels("beacon").inc()
            self._want(position)

    # -- handling ----------------------------------------------------------------------------------------------------

    def apply(self, events: Iterable[types.RecordedEvent], upto: int) -> None:
        """Handle events that cover the log from at or below `position` up to `upto` without a hole."""
        now = timezone.now()
        for event in events:
            if event.position <= self.position:
                continue
            self._before(event)  # first: what it takes away, this very event is not shown to
            if types.erases(event.type):
                self.ring.restart(self.position)  # whoever catches up reads the store, which knows what is left
            self.position = event.position
            going = encoding.Fan(event)
            self.ring.add(going)
            self._deliver(going)
            if event.position > self._began_at and event.unreadable != "no_instant":
                lag = max(0.0, (now - event.recorded_at).total_seconds())
                prometheus.LAG.observe(lag)
                self._lags.add(self._loop.time(), lag)
        self.position = max(self.position, upto)
        self._notify()

    def lags(self) -> list[float]:
        """Seconds from the commit to here, of the events of the last minute."""
        return self._lags.values(self._loop.time())

    # -- reading -----------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """The only reader of the store: at the start, on a gap, and all the time while the relay is silent."""
        pause = self._limits.poll
        while True:
            self._wanted.clear()
            try:
                await self._fill()
                self.store_up, pause = True, self._limits.poll
            except log_reader.Unavailable as error:
                if self.store_up:
                    logger.warning("the event store cannot be read: %s", error)
                self.store_up, pause = False, min(pause * 2, STORE_PAUSE)
                self._notify()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                continue
            self._fills += 1
            self._notify()
            quiet = self._limits.poll if self._heard > self.position or not self.relay_heard() else None
            try:
                async with asyncio.timeout(quiet):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _fill(self) -> None:
        """Read the log up to its safe head."""
        before = self.position  # the relay may take us further while we ask
        head = await self._log.head()
        self._drawn = head.last
        if not self.ready.is_set():
            self._begin(head)
        elif head.epoch != self.epoch or head.last < before:
            self._begin_again(head)
        while self.position < head.safe:
            page = await self._log.read(self.position, head.safe, self._limits.page)
            prometheus.EVENTS.labels("store").inc(len(page))
            self.apply(page, head.safe if len(page) < self._limits.page else page[-1].position)
        self.ready.set()

    def _begin(self, head: log_reader.Head) -> None:
        """Start a little in the past: a fresh process serves the reconnects of the one before it from its ring."""
        self.epoch, self._began_at = head.epoch, head.last
        self.position = max(0, head.safe - self._limits.ring_events)
        self.ring.restart(self.position)

    def _begin_again(self, head: log_reader.Head) -> None:
        """Positions may have been issued twice: everybody reloads."""
        reason = "epoch" if head.epoch != self.epoch else "rewound"
        logger.error("history was rewound (%s): from %d of %s to %s", reason, self.position, self.epoch, head)
        self.epoch, self.position, self._heard = head.epoch, head.safe, head.safe
        self._began_at = head.last
        self.ring.restart(head.safe)
        self._rewind(reason)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _notify(self) -> None:
        """Wake whoever waits for `position` to grow or for a read of the store to end."""
        if not self._changed.done():
            self._changed.set_result(None)

    async def change(self) -> None:
        """Until `position` has grown or a read of the store has ended, well or badly."""
        if self._changed.done():
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)

    async def reach(self, position: int) -> bool:
        """Until `position` is handled; False when the log has not been drawn that far: another history."""
        asked = self._fills
        while self.position < position:
            if self._fills >= asked + 2 and self._drawn < position:  # a read that began after we were asked
                return False
            self.look()
            await self.change()
        return True
