"""Connects this package with the layers below when the application starts."""

from __future__ import annotations

from metrics import catalogue, queries
from metrics.caching import pages, tags
from metrics.counters import subscription
from realtime import cluster

__all__ = ["catalogue"]  # imported so that its queries are registered


def connect() -> None:
    """Called once from `ready()`; calling it again changes nothing."""
    subscription.register()
    tags.register()
    cluster.extras[pages.EXTRA] = queries.report
