"""Differences of counters that others keep: PostgreSQL, Valkey, the processes of the cluster.

The last values are in a table, because the next slot may be sampled by another process. After a gap there is no
difference: it would be that of several slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from events import store

MOST_SLOTS: Final = 3  # a difference over more than this is none
KEEP_SLOTS: Final = 720  # an unused counter is deleted

STORE = """
with stored as (
    insert into metrics_counter (name, value, slot)
    select name, value, %(slot)s from unnest(%(names)s::text[], %(values)s::float8[]) as given(name, value)
    on conflict (name) do update set value = excluded.value, slot = excluded.slot
    returning name, value, slot)
select stored.name, stored.value - before.value from stored join metrics_counter as before using (name)
 where stored.slot - before.slot between 1 and %(most)s
"""
EXPIRE = "delete from metrics_counter where slot < %s returning 1"


def since_last_slot(slot: int, values: Mapping[str, float]) -> dict[str, float]:
    """Store these counters; returns by how much each grew since the last slot.

    Counters have no entry the first time, after a gap, and when they restarted.
    """
    asked = {"slot": slot, "names": list(values), "values": list(values.values()), "most": MOST_SLOTS}
    return {name: grown for name, grown in store.query(STORE, asked) if grown >= 0}


def expire(slot: int) -> None:
    """Delete counters that nobody has stored for an hour."""
    store.query(EXPIRE, (slot - KEEP_SLOTS,))
