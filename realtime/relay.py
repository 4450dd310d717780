"""From the log to the hubs: one subscription, active in one process at a time, that publishes what was committed.

Delivery is the hubs' own business: whatever does not arrive, they read from the store. So the relay never waits for a
Valkey that is away, and claims only what it can prove: `previous` is the checkpoint our batch was read from, or, while
nobody else has held the lease in between (same fence), the last event this runner handled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from events import store, subscriptions, types
from realtime import publish

NAME: Final = "relay"

STAND = """
select c.position, c.fence, (select epoch::text from events_epoch)
  from events_checkpoint c where c.name = %s
"""


class Relay:
    """What this process has published, and under which fence."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._fence = -1

    def handle(self, events: Sequence[types.RecordedEvent]) -> None:
        """Publish the next events. Runs before the checkpoint moves, so a crash publishes again rather than never."""
        checkpoint, fence, epoch = store.query(STAND, (NAME,))[0]
        previous = self._last if fence == self._fence and self._last is not None else checkpoint
        for raw in publish.batches(epoch, previous, events):
            if not publish.send_raw(raw):
                break  # Valkey is away: the hubs notice the silence or the gap, and read the store
        self._last, self._fence = events[-1].position, fence

    def tick(self, position: int) -> None:
        """The beacon: we are alive, and the log is readable up to here."""
        epoch = store.query(STAND, (NAME,))[0][2]
        publish.send(publish.Beacon(epoch=epoch, head=position))


_relay = Relay()

SUBSCRIPTION: Final = subscriptions.Subscription(
    name=NAME, handle=_relay.handle, tick=_relay.tick, batch=256, start=None, park=False
)
