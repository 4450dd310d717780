"""Probes of Valkey and of the task queue that it keeps."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import redis
from django.conf import settings

from events import valkey
from metrics.monitoring.probes import differences
from metrics.monitoring.probes.readings import Readings

# Celery keeps a list for each priority; the name of the first is that of the queue.
PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")


def read(slot: int) -> Readings:
    """The figures of Valkey. When it is unreachable, `valkey.reachable` is 0 and the others are missing."""
    client = valkey.shared_client("bus")
    start = time.perf_counter()
    try:
        client.ping()
        latency = time.perf_counter() - start
        info: dict[str, Any] = client.info()
    except (redis.RedisError, OSError):
        return {("valkey.reachable", ""): 0.0}
    grown = differences.since_last_slot(slot, {"valkey.evicted": info["evicted_keys"]})
    limit = info.get("maxmemory", 0)
    return {
        ("valkey.reachable", ""): 1.0,
        ("valkey.latency", ""): latency,
        ("valkey.memory", ""): 100 * info["used_memory"] / limit if limit else None,
        ("valkey.evictions", ""): grown.get("valkey.evicted"),
    }


def read_queue(_slot: int) -> Readings:
    """The number of tasks that wait in any queue or are fetched, and the age of the oldest that waits."""
    names = [
        valkey.broker_key(f"{queue}{priority}") for queue in settings.CELERY_TASK_QUEUES for priority in PRIORITIES
    ]
    with valkey.shared_client("queue").pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(name)
        for name in names:
            pipe.lindex(name, -1)
        pipe.hlen(valkey.broker_key("unacked"))
        answers = pipe.execute()
    waiting, oldest, fetched = answers[: len(names)], answers[len(names) : -1], answers[-1]
    sent = [at for raw in oldest if raw is not None and (at := _sent_at(raw)) is not None]
    known = bool(sent) or not any(waiting)
    return {
        ("queue.depth", ""): sum(waiting) + fetched,
        ("queue.age", ""): max(0.0, time.time() - min(sent)) if sent else 0.0 if known else None,
    }


def _sent_at(raw: bytes) -> float | None:
    """The time at which a task was sent (`backoffice.celery`); None for one of another program."""
    try:
        return float(json.loads(raw)["headers"]["sent_at"])
    except (ValueError, KeyError, TypeError):
        return None
