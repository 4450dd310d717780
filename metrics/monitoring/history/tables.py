"""The tables of the history: how long each keeps its rows, and their partitions.

Old rows are dropped with their partition: a DELETE of one day took 750 ms and freed no disk space.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import psycopg
from django.db import DatabaseError

from events import errors, store
from metrics.monitoring.metric_types import SLOT_SECONDS

log = logging.getLogger(__name__)

MINUTE_SLOTS: Final = 60 // SLOT_SECONDS
HOUR_SLOTS: Final = 3600 // SLOT_SECONDS
DAY_SLOTS: Final = 86_400 // SLOT_SECONDS

# Table -> days that it keeps.
KEEP_DAYS: Final[Mapping[str, int]] = {
    "metrics_sample": 14,
    "metrics_minute": 400,
    "metrics_histogram": 400,
    "metrics_hour": 5 * 366,
    "metrics_histogram_hour": 5 * 366,
}
# Functions that need the owner's privileges (`extension.run_as_owner`).
OWNER_FUNCTIONS: Final = (
    "metrics_history_partitions(timestamptz)",
    "metrics_history_retain(text, interval)",
)

PRESENT_SLOT = f"select floor(extract(epoch from clock_timestamp()) / {SLOT_SECONDS})::bigint"  # noqa: S608
PARTITIONS = "select metrics_history_partitions(to_timestamp(%s))"
RETAIN = "select metrics_history_retain(%s, %s * interval '1 day')"


def present_slot() -> int:
    """The slot of this instant, by the clock of the database."""
    slot: int = store.query(PRESENT_SLOT)[0][0]
    return slot


def create_partitions(slot: int) -> int:
    """Create the missing partitions for a slot and for the time after it; returns how many were new."""
    made: int = store.query(PARTITIONS, (slot * SLOT_SECONDS,))[0][0]
    return made


def drop_expired() -> list[str]:
    """Drop the oldest partition of each table where it has expired; returns their names.

    A table in use is left for the next time: nobody waits long for the lock.
    """
    dropped = []
    for table, days in KEEP_DAYS.items():
        try:
            name = store.query(RETAIN, (table, days))[0][0]
        except (errors.EventsError, psycopg.Error, DatabaseError) as error:
            log.warning("no partition of %s was dropped: %s", table, error)
            continue
        if name:
            dropped.append(name)
    return dropped
