"""Samples in the history: plausible values for every slot of the last hours, without waiting for a sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from metrics.monitoring.metric_types import METRICS, POSITIONS, SIZES

INSERT = """
insert into metrics_sample (slot, source, v)
select slot, source, v::real[] from unnest(%s::bigint[], %s::text[], %s::text[]) one(slot, source, v)
on conflict do nothing returning slot
"""
PRESENT = "select floor(extract(epoch from clock_timestamp()) / 5)::bigint"
PARTITIONS = "select metrics_history_partitions(to_timestamp(%s))"

SHAPES: dict[str, Callable[[int], float]] = {
    "cpu.percent": lambda n: 38 + 22 * math.sin(n / 50) + 6 * math.sin(n / 3),
    "memory.percent": lambda n: 61 + n % 90 / 30,
    "disk.free": lambda _n: 43.0,
    "load.per_cpu": lambda n: 0.6 + 0.2 * math.sin(n / 40),
    "db.connections": lambda n: 21 + 8 * math.sin(n / 70),
    "db.latency": lambda n: 0.0011 + 0.0004 * math.sin(n / 11),
    "db.oldest_transaction": lambda _n: 0.2,
    "db.blocked": lambda _n: 0.0,
    "log.head_lag": lambda _n: 0.0,
    "subscriptions.parked": lambda _n: 0.0,
    "seal.age": lambda n: n % 60 * 5.0,
    "beat.age": lambda _n: 2.0,
    "tasks.failed": lambda _n: 0.0,
    "sockets.polling": lambda _n: 0.0,
    "errors.rate": lambda n: max(0.0, 0.4 * math.sin(n / 60)),
    "errors.count": lambda n: float(n % 40 == 0),
    "requests.count": lambda n: 60 + n % 17,
    "requests.p50": lambda n: 0.021 + 0.004 * math.sin(n / 20),
    "requests.p95": lambda n: 0.094 + 0.05 * abs(math.sin(n / 33)),
    "requests.p99": lambda n: 0.31 + 0.1 * abs(math.sin(n / 41)),
    "queue.depth": lambda n: float(max(0, n % 60 - 45)),
    "queue.age": lambda _n: 1.0,
    "worker.age": lambda _n: 2.0,
    "valkey.reachable": lambda _n: 1.0,
    "valkey.memory": lambda _n: 12.5,
    "sockets.open": lambda n: 34 + round(6 * math.sin(n / 80)),
    "sockets.lag_p99": lambda n: 0.045 + 0.01 * math.sin(n / 9),
    "sockets.delivered": lambda n: 120 + 30 * math.sin(n / 25),
    "staff.online": lambda n: 6 + round(2 * math.sin(n / 90)),
    "users.active": lambda n: 212 + round(40 * math.sin(n / 120)),
    "users.active_day": lambda _n: 1840.0,
    "submissions.rate": lambda n: 34 + 12 * math.sin(n / 45),
}


def row(group: str, number: int) -> str:
    """The values of one group in one slot as a PostgreSQL array literal; null for metrics without a shape."""
    size: int = SIZES[group]  # type: ignore[index]
    values = ["null"] * size
    for name, shape in SHAPES.items():
        if METRICS[name].group == group:
            values[POSITIONS[name]] = f"{shape(number):.6g}"
    return f"{{{','.join(values)}}}"


def store(query: Callable[..., Any], slots: int = 720, *, until: int = 0, gap: Sequence[int] = ()) -> int:
    """Store the last slots, up to `until` slots before the present one; returns the newest.

    `gap` has the slots to leave out, counted back from the newest.
    """
    ((present,),) = query(PRESENT)
    for slot in (present - slots, present):
        query(PARTITIONS, slot * 5)
    newest: int = present - until
    stored = [slot for slot in range(newest - slots + 1, newest + 1) if newest - slot not in gap]
    rows = [
        (slot, source, row(source.partition(":")[0], slot)) for slot in stored for source in ("cluster", "host:web-1")
    ]
    query("delete from metrics_rollup")  # a sampler that runs already has gone past these slots
    query(INSERT, *map(list, zip(*rows, strict=True)))
    return newest
