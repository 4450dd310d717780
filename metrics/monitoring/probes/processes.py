"""Probe of the processes, from their reports: requests, tasks, hosts, workers, beat, people.

A process reports every five seconds, not aligned with slots. So its counts of two slots may come in one; no count
is lost and none is added twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from events import store
from metrics.monitoring import buckets, request_counts
from metrics.monitoring.history import read as history
from metrics.monitoring.history import write
from metrics.monitoring.metric_types import METRICS, POSITIONS
from metrics.monitoring.probes import differences
from metrics.monitoring.probes.readings import Readings

ALIVE_SECONDS: Final = 60  # a process that has not reported for this long is gone
HOST_SECONDS: Final = 15  # figures of a host that are older are missing
ERROR_SECONDS: Final = 300  # of `errors.rate`

# The counts of a process become "seen" in the statement that reads them, so no sample has them twice.
TAKE = """
update metrics_process as p set seen = p.counts, seen_buckets = p.buckets, seen_slot = %(slot)s
  from (select process, seen, seen_buckets,
               coalesce(seen_slot, floor(extract(epoch from started_at) / 5)::bigint) as seen_slot
          from metrics_process where reported_at > clock_timestamp() - %(alive)s * interval '1 second'
           for update) as before
 where p.process = before.process
returning p.kind, p.counts, before.seen, p.buckets, before.seen_buckets, %(slot)s - before.seen_slot, p.people
"""
# Scheduled tasks are sent by any process (`events.schedule`), not only by beat.
AGES = """
select kind, extract(epoch from clock_timestamp() - max(active_at))::float from metrics_process
 where active_at is not null and kind = 'worker' group by kind
 union all
select 'schedule', extract(epoch from clock_timestamp() - max(sent_at))::float from events_schedule
having count(*) > 0
"""
# The first reading of a new process has no processor time, so that of an older process is preferred.
HOSTS = """
select distinct on (host) host, host_values from metrics_process
 where reported_at > clock_timestamp() - %s * interval '1 second'
 order by host, host_values[1] is null, reported_at desc
"""


def read(slot: int) -> Readings:
    taken = store.query(TAKE, {"slot": slot, "alive": ALIVE_SECONDS})
    ages = dict(store.query(AGES))
    found: Readings = {
        ("worker.age", ""): _age(ages, "worker"),
        ("beat.age", ""): _age(ages, "schedule"),
        **_people(taken),
        **_counts(slot, taken),
    }
    for host, values in store.query(HOSTS, (HOST_SECONDS,)):
        for metric in METRICS.values():
            if metric.group == "host" and POSITIONS[metric.name] < len(values):
                found[(metric.name, host)] = values[POSITIONS[metric.name]]
    return found


def _age(ages: dict[str, float], kind: str) -> float | None:
    return max(0.0, ages[kind]) if kind in ages else None


def _people(taken: Sequence[Sequence[Any]]) -> Readings:
    """The number of different people over all web processes; missing without any."""
    web = [row[6] for row in taken if row[0] == "web"]
    return {("staff.online", ""): float(len({person for people in web for person in people})) if web else None}


def _counts(slot: int, taken: Sequence[Sequence[Any]]) -> Readings:
    """Requests, errors and tasks of this slot. After a gap they are missing: they would be those of many slots."""
    numbers, durations = [0] * request_counts.SIZE, [0] * buckets.SIZE
    known = [row for row in taken if row[5] <= differences.MOST_SLOTS]
    for _kind, counts, seen, counted, seen_counted, _slots, _people in known:
        numbers = [*map(_plus, numbers, counts, seen or [0] * request_counts.SIZE)]
        durations = [*map(_plus, durations, counted, seen_counted or [0] * buckets.SIZE)]
    if not known:
        return {}
    requests, failed = numbers[request_counts.REQUESTS], numbers[request_counts.ERRORS]
    merged = write.add_durations(slot, history.DURATIONS, durations)
    cached = numbers[request_counts.CACHE_HITS] + numbers[request_counts.CACHE_MISSES]
    return {
        ("requests.count", ""): requests,
        ("errors.count", ""): failed,
        ("errors.rate", ""): _error_rate(slot, requests, failed),
        ("tasks.done", ""): numbers[request_counts.TASKS],
        ("tasks.failed", ""): numbers[request_counts.FAILED_TASKS],
        ("cache.hit", ""): 100 * numbers[request_counts.CACHE_HITS] / cached if cached else None,
        **{(name, ""): buckets.percentile(merged, share) for name, share in history.SHARES.items()},
    }


def _plus(total: int, counted: int, seen: int) -> int:
    return total + counted - seen


def _error_rate(slot: int, requests: int, failed: int) -> float | None:
    """The percentage of failed requests in five minutes, from sums, never the mean of ratios. None without requests."""
    before = ERROR_SECONDS - 5
    total = requests + sum(one or 0 for one in history.window("requests.count", before, slot - 1))
    wrong = failed + sum(one or 0 for one in history.window("errors.count", before, slot - 1))
    return 100 * wrong / total if total else None
