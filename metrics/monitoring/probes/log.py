"""Probe of the log: its head, its seals, the subscriptions and the materialized views."""

from __future__ import annotations

from events import decoding, head, store
from events.subscriptions import status
from metrics.materialized import freshness
from metrics.monitoring.metric_types import SLOT_SECONDS
from metrics.monitoring.probes import differences
from metrics.monitoring.probes.readings import Readings

# The age of the first event after the last seal.
UNSEALED = f"""
select extract(epoch from clock_timestamp() - {decoding.INSTANT})::float from events_event
 where position > coalesce((select upto from events_seal order by number desc limit 1), 0) order by position limit 1
"""  # noqa: S608 - a constant


def read(slot: int) -> Readings:
    grown = differences.since_last_slot(slot, {"log.last": head.last()})
    unsealed = store.query(UNSEALED)
    ages = [view.age for view in freshness.statuses(store.query) if view.age is not None]
    return {
        ("log.head_lag", ""): max((holder.seconds or 0.0 for holder in head.holders()), default=0.0),
        ("log.events", ""): grown["log.last"] / SLOT_SECONDS if "log.last" in grown else None,
        ("seal.age", ""): max(0.0, unsealed[0][0]) if unsealed else 0.0,
        ("views.age", ""): max(ages, default=None),
    }


def read_subscriptions(_slot: int) -> Readings:
    """The progress of each checkpoint. Of one that this release does not declare only parked streams count."""
    found: Readings = {}
    parked = 0
    for one in status.statuses():
        parked += one.checkpoint.parked
        if one.state != "unknown":
            name = one.checkpoint.name
            found[("subscription.lag", name)] = max(0.0, one.seconds or 0.0)
            found[("subscription.behind", name)] = one.behind
            found[("subscription.parked", name)] = one.checkpoint.parked
    return found | {("subscriptions.parked", ""): parked}
