"""The newest sample for Prometheus: a gauge for each metric, beside the figures of the process at `/metrics`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
from django.db import DatabaseError
from django.utils import translation
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from events import errors
from metrics.monitoring import metric_types
from metrics.monitoring.history import read, tables
from metrics.monitoring.metric_types import SLOT_SECONDS

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


def _family(metric: metric_types.Metric, values: dict[str, float]) -> Metric:
    label = "" if metric.group == "cluster" else metric.group
    unit = "" if metric.unit == "1" else f", {metric.unit}"
    family = GaugeMetricFamily(
        f"formease_{metric.name.replace('.', '_')}", f"{metric.label}{unit}", labels=[label] if label else None
    )
    for target, value in values.items():
        family.add_metric([target] if label else [], value)
    return family
