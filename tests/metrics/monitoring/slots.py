"""Fills the history with known values, rolls it up and empties it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db import connection

from metrics.monitoring.history import rollup, tables
from metrics.monitoring.metric_types import POSITIONS, SIZES, metric, source

TABLES = (
    "metrics_sample, metrics_minute, metrics_hour, metrics_histogram, metrics_histogram_hour, metrics_rollup, "
    "metrics_process, metrics_counter, metrics_lease"
)


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"truncate {TABLES}")


def of(at: datetime) -> int:
    """The slot of an instant."""
    return int(at.timestamp()) // 5


def fill(name: str, values: Iterable[tuple[int, float | None]], target: str = "") -> None:
    """Store these samples of one metric, as (slot, value)."""
    known = metric(name)
    rows = list(values)
    for day in sorted({slot // tables.DAY_SLOTS for slot, _ in rows}):
        tables.create_partitions(day * tables.DAY_SLOTS)
    width = SIZES[known.group]
    with connection.cursor() as cursor, cursor.copy("copy metrics_sample (slot, source, v) from stdin") as copy:
        for slot, value in rows:
            array: list[float | None] = [None] * width
            array[POSITIONS[name]] = value
            copy.write_row((slot, source(known.group, target), array))


def roll_up(slot: int) -> None:
    """Roll up everything that closed before a slot."""
    before = None
    while before != (before := rollup.checkpoints()):
        rollup.roll_up(slot)
