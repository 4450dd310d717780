"""Operator page for the cache: its queries and levels, and the state of every process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from events import head
from metrics import queries
from metrics.caching import figures
from metrics.monitoring import operator_action
from metrics.monitoring.operator_action import OperatorPages, Route
from realtime import cluster, local_hub

EXTRA: Final = "cache"  # the part of a process report that this page shows


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process for display; `own`: it served this page."""

    host: str
    pid: int
    late: int
    own: bool
    cache: figures.CacheReport

    @property
    def look(self) -> str:
        return "warn" if not self.cache.connected or self.cache.valkey == "open" else "good"


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A query for display: its declaration, and its counts in all processes."""

    query: str
    within: float | None
    seconds: float
    shared: bool
    counts: figures.QueryReport

    @property
    def hit_share(self) -> float | None:
        hits = self.counts.hits + self.counts.shared
        return hits / (hits + self.counts.loads) if hits + self.counts.loads else None


class CachePages(OperatorPages):
    def routes(self) -> Sequence[Route]:
        return (Route("cache/", "cache", self.index),)

    @operator_action.page
    def index(self, request: HttpRequest) -> HttpResponse:
        found, complete = process_rows()
        context = {
            "title": _("Cache"),
            "complete": complete,
            "processes": found,
            "rows": query_rows([one.cache for one in found]),
            "well": all(one.look == "good" for one in found),
            "bytes": sum(one.cache.bytes for one in found),
            "limit": sum(one.cache.limit for one in found),
            "differences": sum(query.differences for one in found for query in one.cache.queries),
            "compared": sum(query.compared for one in found for query in one.cache.queries),
        }
        return self.render(request, "cache", context)


def process_rows() -> tuple[list[ProcessRow], bool]:
    """The caches of all processes and True; without Valkey only that of this process, and False."""
    own, safe = local_hub.report(), head.safe()
    try:
        reports, complete = cluster.reports(), True
    except cluster.Unreachable:
        reports, complete = [own] if own else [], False
    rows = []
    for report in reports:
        mine = own is not None and own.process == report.process
        cache = queries.report() if mine else decoded(report)
        if cache is not None and (mine or time.time() - report.at < cluster.REPORT_TTL):
            rows.append(ProcessRow(report.host, report.pid, max(0, safe - cache.position), mine, cache))
    return rows, complete


def decoded(report: cluster.ProcessReport) -> figures.CacheReport | None:
    """The cache's part of a process report; None where it has none, or one of another release."""
    try:
        return msgspec.convert(report.extra.get(EXTRA), figures.CacheReport)
    except msgspec.ValidationError:
        return None


def query_rows(caches: Sequence[figures.CacheReport]) -> list[QueryRow]:
    """Every registered query with its counts over all processes."""
    rows = []
    for name, query in queries.registered().items():
        counts = [one for cache in caches for one in cache.queries if one.query == name]
        together = figures.added([figures.QueryReport(query=name), *counts])
        rows.append(QueryRow(name, query.within, query.seconds, query.shared, together))
    return rows
