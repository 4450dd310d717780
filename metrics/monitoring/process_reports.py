"""Reports of every process: its counts and the figures of its host, as a row of an unlogged table.

In PostgreSQL and not in Valkey: the sampler must know the error rate also while Valkey is unreachable. A process writes
its row every five seconds; after a minute of silence it no longer counts. A row is one update of about 1 ms.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection

from events import errors, store
from metrics.monitoring import request_counts
from metrics.monitoring.metric_types import POSITIONS, SIZES
from metrics.monitoring.probes import host
from realtime import local_hub

log = logging.getLogger(__name__)

REPORT_SECONDS: Final = 5.0
EXPIRES_SECONDS: Final = 3600  # a row that nobody writes any more is deleted

# The instants of a report are those of the database, so that clocks of hosts do not matter.
WRITE = """
insert into metrics_process (process, kind, host, started_at, reported_at, active_at, host_values, counts, buckets,
                             people)
values (%(process)s, %(kind)s, %(host)s, clock_timestamp(), clock_timestamp(),
        clock_timestamp() - %(idle)s::float * interval '1 second', %(values)s::real[], %(counts)s::bigint[],
        %(buckets)s::int[], %(people)s::text[])
on conflict (process) do update set reported_at = excluded.reported_at, active_at = excluded.active_at,
       host_values = excluded.host_values, counts = excluded.counts, buckets = excluded.buckets,
       people = excluded.people
returning extract(epoch from clock_timestamp())::float
"""
# The last row of each kind stays, so that the age of a worker that died goes on growing.
EXPIRE = """
delete from metrics_process as old
 where reported_at < clock_timestamp() - %s * interval '1 second'
   and exists (select from metrics_process as newer where newer.kind = old.kind and newer.reported_at > old.reported_at)
returning 1
"""


class Reporter:
    """Writes the reports of this process. `kind`: web, worker, beat or subscriptions."""

    def __init__(self, kind: str, counts: request_counts.Counts = request_counts.counts) -> None:
        self.kind, self._counts = kind, counts
        self.host = socket.gethostname()
        self.process = f"{self.host}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._figures = host.Host(host.Paths(disk=Path(settings.DATA_DIR)))
        self._skew: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Write a report every five seconds until `stop` is set."""
        while not stop.is_set():
            try:
                self.write()
            except (errors.EventsError, psycopg.Error, DatabaseError) as error:
                log.debug("the report of this process was not written: %s", error)
            finally:
                connection.close()  # back to the pool
            stop.wait(REPORT_SECONDS)

    def write(self) -> None:
        """Write one report, and measure the difference between the clocks of this host and of the database."""
        report = self.report()
        before = time.time()
        database = store.query(WRITE, report)[0][0]
        self._skew = abs((before + time.time()) / 2 - database)

    def report(self) -> dict[str, Any]:
        active = self._counts.active_at
        values: list[float | None] = [None] * SIZES["host"]
        found: dict[str, float | None] = {**self._figures.read(), "host.skew": self._skew}
        for name, value in found.items():
            values[POSITIONS[name]] = value
        return {
            "process": self.process,
            "kind": self.kind,
            "host": self.host,
            "idle": None if active is None else time.monotonic() - active,
            "values": values,
            "counts": self._counts.snapshot(),
            "buckets": list(self._counts.buckets),
            "people": sorted(local_hub.people()),
        }


_started: dict[int, Reporter] = {}  # by process id: a fork has no thread of its parent
_lock: Final = threading.Lock()


def start(kind: str) -> None:
    """Start the reports of this process, once; a forked process starts its own. Needs `PROCESS_REPORTS`."""
    if os.getpid() in _started or not settings.PROCESS_REPORTS:
        return
    with _lock:
        if os.getpid() in _started:
            return
        reporter = _started[os.getpid()] = Reporter(kind)
    threading.Thread(target=reporter.run, args=(threading.Event(),), name="process reports", daemon=True).start()


def expire() -> None:
    """Delete the rows of processes that ended long ago."""
    store.query(EXPIRE, (EXPIRES_SECONDS,))
