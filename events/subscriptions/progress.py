"""Waits until a subscription has handled the log up to a position."""

from __future__ import annotations

import time

from events import errors, store
from events.subscriptions.checkpoints import Subscription, registered

POSITIONS = "select name, position from events_checkpoint where split_part(name, '/', 1) = %s"


def position(subscription: Subscription | str) -> int:
    """The lowest position of a subscription's partitions; 0 while one of them has not begun."""
    name = subscription if isinstance(subscription, str) else subscription.name
    declared = next((known for known in registered() if known.name == name), None)
    found = dict(store.query(POSITIONS, (name,)))
    wanted = subscription if isinstance(subscription, Subscription) else declared
    names = wanted.checkpoints if wanted else list(found)
    return min((found.get(checkpoint, 0) for checkpoint in names), default=0)


def wait_for(subscription: Subscription | str, reached: int, timeout: float = 5.0) -> None:
    """Return when everything up to `reached` has had its effect, in every partition.

    The checkpoints show that, because they move with the effect. Parked events have not had theirs; look for the
    stream that matters with `parked.parked`. Raises `WaitTimeout` after `timeout` seconds.
    """
    deadline, pause = time.monotonic() + timeout, 0.002
    while position(subscription) < reached:
        if time.monotonic() >= deadline:
            name = subscription if isinstance(subscription, str) else subscription.name
            raise errors.WaitTimeout(f"{name} did not reach {reached} within {timeout:g} s.")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
