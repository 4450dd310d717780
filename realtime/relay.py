"""The relay: a subscription, active in one process at a time, that publishes committed events to the hubs.

It does not guarantee delivery: hubs read missing events from the store. So the relay never waits for an unreachable
Valkey, and a batch claims only that it contains all events after the position it was read from. The claim stays true
when another runner has taken over meanwhile, so two active relays for a moment do no harm. No query runs between
reading and publishing, because each would delay every event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from events import types, witness
from events.subscriptions import checkpoints
from events.subscriptions import runner as subscriptions
from realtime import publish

NAME: Final = "relay"


def publish_batch(lease: checkpoints.Lease, events: Sequence[types.RecordedEvent]) -> None:
    """Publish the next events. It runs before the checkpoint moves, so a crash repeats events and loses none."""
    for raw in publish.batches(lease.epoch, lease.position, events):
        if not publish.send_raw(raw):
            break  # Valkey is unavailable: hubs notice the silence or the gap and read the store


def beacon(position: int) -> None:
    """Publish that the relay is alive and that the log is readable up to `position`, after a look at the witness."""
    publish.send(publish.Beacon(epoch=witness.observe(position), head=position))


SUBSCRIPTION: Final = subscriptions.Subscription(
    name=NAME, publish=publish_batch, tick=beacon, batch=256, start=None, park=False
)
