"""Connects this package with the layers below when the application starts."""

from __future__ import annotations

from backoffice import health
from events import extension
from events.subscriptions import companions
from metrics import catalogue, queries
from metrics.caching import pages, tags
from metrics.counters import subscription
from metrics.dashboard import push
from metrics.materialized import freshness
from metrics.monitoring import exported, fallback, request_counts, sampling
from metrics.monitoring.alerting import judge, report, windows
from metrics.monitoring.history import read, tables
from realtime import cluster, prometheus

__all__ = ["catalogue"]  # imported so that its queries are registered


def connect() -> None:
    """Connect everything; called once from `ready()`. A repeated call changes nothing."""
    subscription.register()
    tags.register()
    cluster.extras[pages.EXTRA] = queries.report
    health.register("views", freshness.probe)
    for function in ("metrics_refresh_view(text)", "metrics_replace_view(text, text)", *tables.OWNER_FUNCTIONS):
        extension.run_as_owner(function)
    prometheus.COLLECTORS["samples"] = exported.SampleCollector()
    companions.register("sampling", fallback.run)
    request_counts.counts.cache_reads = queries.hits_and_misses
    windows.register(read.window, read.targets)
    sampling.STEPS = (sampling.keep_history, judge.judge, push.step)
    sampling.PENDING = report.pending
