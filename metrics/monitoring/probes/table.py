"""The probes, and how they run: all at once, each for at most a second.

The values of a probe that fails are missing, never 0.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import time
from dataclasses import dataclass
from typing import Final

from django.db import connection

from events.db import timeouts
from metrics.monitoring.probes import certificate, database, log, processes, product, sockets, valkey
from metrics.monitoring.probes.readings import Read, Readings

logger = logging.getLogger(__name__)

SECONDS: Final = 1.0
# Each may have a connection of the pool, which a worker keeps; ten probes of a few milliseconds need no more.
THREADS: Final = 6

# Name -> the probe. Sections add theirs in `ready()`.
PROBES: Final[dict[str, Read]] = {
    "database": database.read,
    "log": log.read,
    "subscriptions": log.read_subscriptions,
    "processes": processes.read,
    "sockets": sockets.read,
    "valkey": valkey.read,
    "queue": valkey.read_queue,
    "product": product.read,
    "active users": product.read_active,
    "certificate": certificate.read,
}


@dataclass(frozen=True, slots=True)
class Result:
    """The values of a run, the probes that failed with the reason, and how long the run took."""

    values: Readings
    failed: dict[str, str]
    seconds: float


_pools: dict[int, concurrent.futures.ThreadPoolExecutor] = {}  # by process id: a fork has no threads
_failing: set[str] = set()
_running: dict[str, concurrent.futures.Future[Readings]] = {}


def run(slot: int, seconds: float = SECONDS) -> Result:
    """Run every probe at once and wait at most `seconds`.

    A probe that hangs keeps its thread; it is not started again before it ends, so it costs one thread.
    """
    start = time.perf_counter()
    pool = _pool()
    failed: dict[str, str] = {}
    started: dict[str, concurrent.futures.Future[Readings]] = {}
    for name, read in PROBES.items():
        earlier = _running.get(name)
        if earlier is not None and not earlier.done():
            failed[name] = "still running since an earlier slot"
            continue
        started[name] = _running[name] = pool.submit(_read, read, slot, seconds)
    concurrent.futures.wait(started.values(), timeout=seconds)
    values: Readings = {}
    for name, future in started.items():
        if not future.done():
            future.cancel()  # if no thread has begun it: a later run would take counts that nobody stores
            failed[name] = f"no answer within {seconds:g} s"
        elif (error := future.exception()) is not None:
            failed[name] = f"{type(error).__name__}: {error}".strip()
        else:
            values |= future.result()
    _log_changes(failed)
    return Result(values, failed, time.perf_counter() - start)


def _log_changes(failed: dict[str, str]) -> None:
    """Log a failure when it begins and when it ends, not every five seconds."""
    for name in failed.keys() - _failing:
        logger.warning("probe %s: %s", name, failed[name])
    for name in _failing - failed.keys():
        logger.info("probe %s works again", name)
    _failing.clear()
    _failing.update(failed)


def _pool() -> concurrent.futures.ThreadPoolExecutor:
    if os.getpid() not in _pools:
        _pools.clear()
        _running.clear()
        _pools[os.getpid()] = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="probe")
    return _pools[os.getpid()]


def _read(read: Read, slot: int, seconds: float) -> Readings:
    """Run one probe with a limit for its statements, on a connection that goes back to the pool."""
    try:
        with timeouts.at_most(seconds):
            return read(slot)
    finally:
        connection.close()
