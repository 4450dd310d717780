"""From the log to the hubs: one subscription, active in one process at a time, that publishes what was committed.

Delivery is the hubs' own business: whatever does not arrive, they read from the store. So the relay never waits for a
Valkey that is away, and claims only what it can prove: its batch is all there is after the position it was read from.
That stays true when another runner has taken over meanwhile, so two for a moment do no harm. Nothing is asked of the
database between reading and publishing: each question would be a delay of everybody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from events import head, types
from events.subscriptions import checkpoints
from events.subscriptions import runner as subscriptions
from realtime import publish

NAME: Final = "relay"


def publish_batch(lease: checkpoints.Lease, events: Sequence[types.RecordedEvent]) -> None:
    """Publish the next events. Runs before the checkpoint moves, so a crash publishes again rather than never."""
    for raw in publish.batches(lease.epoch, lease.position, events):
        if not publish.send_raw(raw):
            break  # Valkey is away: the hubs notice the silence or the gap, and read the store


def beacon(position: int) -> None:
    """We are alive, and the log is readable up to here."""
    publish.send(publish.Beacon(epoch=head.epoch(), head=position))


SUBSCRIPTION: Final = subscriptions.Subscription(
    name=NAME, publish=publish_batch, tick=beacon, batch=256, start=None, park=False
)
