"""The subscription `counters`: one runner, because days and users are shared by all streams."""

from __future__ import annotations

from typing import Final

from events.rebuild import read_tables
from events.subscriptions import runner as subscriptions
from metrics.counters import applying, folding, seed, truth, updates

SUBSCRIPTION: Final = subscriptions.Subscription(
    name=applying.NAME,
    handle=updates.handle,
    types=folding.TYPES,
    batch=500,
    pause=0.1,  # a batch of one costs almost as much as one of fifty, and the processor it takes is the writers'
    tick=updates.tick,
    partitions=1,
    seed=updates.start,
)

REBUILDABLE: Final = read_tables.SeededTables(name=applying.NAME, build=seed.build, tables=truth.TABLES)


def register() -> None:
    subscriptions.register(SUBSCRIPTION)
    read_tables.register(REBUILDABLE)
