"""Figures from the database for Prometheus: the newest sample, the processes and the checks of `/readyz`.

Beside them `/metrics` has the figures of the process that answers (`realtime.prometheus`, `request_counts`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import psycopg
from django.db import DatabaseError
from django.utils import translation
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backoffice import health
from events import errors, store
from metrics.monitoring import metric_types, request_counts
from metrics.monitoring.history import read, tables
from metrics.monitoring.metric_types import SLOT_SECONDS
from metrics.monitoring.probes import processes

log = logging.getLogger(__name__)


class SampleCollector(Collector):
    """Reads the newest sample at each scrape. A missing value has no line: a 0 would be wrong."""

    def collect(self) -> Iterator[Metric]:
        try:
            present, slot = tables.present_slot(), read.newest_slot()
            by_target = read.targets(slot) if slot is not None else {}
        except (errors.EventsError, psycopg.Error, DatabaseError) as error:
            log.warning("no sample for /metrics: %s", error)
            return
        if slot is None:
            return
        age = float((present - slot) * SLOT_SECONDS)
        yield GaugeMetricFamily("formease_sample_age_seconds", "Age of the newest sample", value=age)
        with translation.override("en"):
            for metric in metric_types.METRICS.values():
                known = {target: value for target, value in by_target.get(metric.name, {}).items() if value is not None}
                if known:
                    yield _family(metric, known)


# Rows of processes that reported in the last minute; the columns that are counters only grow while a process lives.
PROCESSES: Final = f"""
select kind, host, process, extract(epoch from clock_timestamp() - reported_at)::float, counts
  from metrics_process where reported_at > clock_timestamp() - interval '{processes.ALIVE_SECONDS} seconds'
"""  # noqa: S608 - a constant
COUNTERS: Final = {
    "requests": (request_counts.REQUESTS, "HTTP requests of a process"),
    "failed_requests": (request_counts.ERRORS, "HTTP requests that failed with a 5xx answer"),
    "tasks": (request_counts.TASKS, "Celery tasks that a worker process finished"),
    "failed_tasks": (request_counts.FAILED_TASKS, "Celery tasks that failed"),
}
LABELS: Final = ("kind", "host", "process")


class ProcessCollector(Collector):
    """The counters of every process that reports, including workers, which cannot be scraped."""

    def collect(self) -> Iterator[Metric]:
        try:
            rows = store.query(PROCESSES)
        except (errors.EventsError, psycopg.Error, DatabaseError) as error:
            log.warning("no processes for /metrics: %s", error)
            return
        age = GaugeMetricFamily("formease_process_report_age_seconds", "Since the last report", labels=LABELS)
        for kind, host, process, seconds, _counts in rows:
            age.add_metric((kind, host, process), max(0.0, seconds))
        yield age
        for name, (position, text) in COUNTERS.items():
            family = CounterMetricFamily(f"formease_process_{name}_total", text, labels=LABELS)
            for kind, host, process, _seconds, counts in rows:
                family.add_metric((kind, host, process), counts[position])
            yield family


class CheckCollector(Collector):
    """The checks of `/readyz`: 1 where one is `ok`, 0 where it is not; `unknown` has no line."""

    def collect(self) -> Iterator[Metric]:
        database, log_state, more = health.database_and_checks()
        family = GaugeMetricFamily("formease_check_ok", "Checks of /readyz that are ok", labels=["check"])
        for name, state in {"database": database, "log": log_state, **more}.items():
            if state != "unknown":
                family.add_metric([name], float(state == "ok"))
        yield family


def _family(metric: metric_types.Metric, values: dict[str, float]) -> Metric:
    label = "" if metric.group == "cluster" else metric.group
    unit = "" if metric.unit == "1" else f", {metric.unit}"
    family = GaugeMetricFamily(
        f"formease_{metric.name.replace('.', '_')}", f"{metric.label}{unit}", labels=[label] if label else None
    )
    for target, value in values.items():
        family.add_metric([target] if label else [], value)
    return family
