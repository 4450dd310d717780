"""The history of metrics beside a (metric, time, value) table in the same database: bytes, charts, and the tick.

Two days of every metric of the cluster. The chart is that of 24 hours; the tick is measured in processor time of this
process and of the sessions of PostgreSQL, as a share of one core at one tick in five seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import harness

SLOTS_A_DAY = 17_280
PLAIN = "create table plain_sample (metric text, at timestamptz, value double precision, primary key (metric, at))"
PLAIN_CHART = """
select date_bin('5 minutes', at, 'epoch'), min(value), avg(value), max(value), count(*) from plain_sample
 where metric = %s and at >= %s and at < %s group by 1 order by 1
"""
SIZE = """
select sum(pg_total_relation_size(c.oid)) from pg_class c
 where c.relkind = 'r' and (c.relname = %(name)s or c.oid in (
       select inhrelid from pg_inherits where inhparent = to_regclass(%(name)s)))
"""


def fill(first: int, slots: int, names: list[str]) -> int:
    """Write the same values into both layouts; returns the number of samples."""
    from django.db import connection

    from metrics.monitoring.history import tables

    rows = random.Random(7)
    level = {name: rows.uniform(0, 100) for name in names}
    values = []
    for _ in range(slots):
        for name in names:
            level[name] = min(100.0, max(0.0, level[name] + rows.gauss(0, 1)))
        values.append([round(level[name], 3) for name in names])
    for day in range(slots // SLOTS_A_DAY + 2):
        tables.create_partitions(first + day * SLOTS_A_DAY)
    with connection.cursor() as cursor:
        cursor.execute(PLAIN)
        with cursor.copy("copy metrics_sample (slot, source, v) from stdin") as copy:
            for number, row in enumerate(values):
                copy.write_row((first + number, "cluster", row))
        with cursor.copy("copy plain_sample (metric, at, value) from stdin") as copy:
            for number, row in enumerate(values):
                at = datetime.fromtimestamp((first + number) * 5, UTC)
                for name, value in zip(names, row, strict=True):
                    copy.write_row((name, at, value))
        cursor.execute("vacuum analyze metrics_sample")
        cursor.execute("vacuum analyze plain_sample")
    return slots * len(names)


def timed(work: Callable[[], Any], times: int) -> float:
    """The median duration in milliseconds, after one run that is not counted."""
    work()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append((time.perf_counter() - start) * 1000)
    return statistics.median(found)


def processor_seconds() -> float:
    """Processor time of this process and of all sessions of PostgreSQL."""
    from events import store

    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for (pid,) in store.query("select pid from pg_stat_activity"):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def ticks(count: int) -> tuple[list[float], float]:
    """Durations of ticks in milliseconds, and the processor milliseconds of one."""
    from metrics.monitoring import process_reports, sampling
    from metrics.monitoring.history import tables

    reporter = process_reports.Reporter("web")
    present = tables.present_slot()
    clock, found = tables.present_slot, []
    try:
        for number in range(count + 3):
            tables.present_slot = lambda slot=present + number: slot  # type: ignore[misc]
            reporter.write()
            if number == 3:  # caches are warm, statements are prepared
                before = processor_seconds()
            start = time.perf_counter()
            assert sampling.tick() is not None
            if number >= 3:
                found.append((time.perf_counter() - start) * 1000)
        used = processor_seconds() - before
    finally:
        tables.present_slot = clock
    return found, used / count * 1000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--days", type=int, default=2)
    options.add_argument("--times", type=int, default=15)
    options.add_argument("--ticks", type=int, default=60)
    asked = options.parse_args()
    with harness.services():
        measure(asked)


def measure(asked: argparse.Namespace) -> None:
    from events import store
    from metrics.monitoring.history import ranges, read, rollup, tables
    from metrics.monitoring.metric_types import METRICS

    names = [name for name, metric in METRICS.items() if metric.group == "cluster"]
    last = tables.present_slot() // tables.MINUTE_SLOTS * tables.MINUTE_SLOTS - tables.HOUR_SLOTS
    first = last - asked.days * SLOTS_A_DAY
    samples = fill(first, asked.days * SLOTS_A_DAY, names)
    bytes_of = {name: int(store.query(SIZE, {"name": name})[0][0]) for name in ("metrics_sample", "plain_sample")}

    before, start = None, time.perf_counter()
    while before != (before := rollup.checkpoints()):
        rollup.roll_up(last + 4)
    rolled = time.perf_counter() - start
    end = datetime.fromtimestamp(last * 5, UTC)
    day, name = ranges.Range(end - timedelta(days=1), end), "db.latency"
    rows: list[dict[str, Any]] = [
        {
            "24 h chart, 288 points": "(metric, at, value), indexed",
            "ms": timed(lambda: store.query(PLAIN_CHART, (name, day.start, day.end)), asked.times),
            "points": len(store.query(PLAIN_CHART, (name, day.start, day.end))),
        },
        {
            "24 h chart, 288 points": "history, minutes",
            "ms": timed(lambda: read.points(name, day), asked.times),
            "points": len(read.points(name, day).points),
        },
        {
            "24 h chart, 288 points": "history, year of days",
            "ms": timed(lambda: read.points(name, ranges.Range(end - timedelta(days=365), end)), asked.times),
            "points": len(read.points(name, ranges.Range(end - timedelta(days=365), end)).points),
        },
    ]
    for row in rows:
        row["ratio"] = row["ms"] / rows[0]["ms"]
    raw = timed(lambda: read.window(name, 86_400, last - 1), asked.times)
    sizes = [
        {
            "layout": table,
            "samples": samples,
            "bytes a sample": size / samples,
            "ratio": size / bytes_of["plain_sample"],
        }
        for table, size in bytes_of.items()
    ]
    harness.table("Bytes", sizes)
    harness.table("Charts", rows)
    print(f"window of 17,280 samples: {raw:.1f} ms; roll-up of {asked.days} days: {rolled:.1f} s")
    durations, used = ticks(asked.ticks)
    tick = {
        "metrics": len(METRICS),
        "median ms": statistics.median(durations),
        "p95 ms": sorted(durations)[int(len(durations) * 0.95)],
        "processor ms": used,
        "percent of a core": used / 50,
    }
    harness.table("Tick, with PostgreSQL", [tick])
    harness.save("history", {"bytes": sizes, "charts": rows, "window_ms": raw, "tick": tick})


if __name__ == "__main__":
    main()
