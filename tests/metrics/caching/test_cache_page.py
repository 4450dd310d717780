"""The page *System → Cache*, `system/cache/` and the figures for Prometheus."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse
from prometheus_client import REGISTRY

from events import head
from metrics import queries
from metrics.caching import cache, pages
from realtime import cluster, publish
from tests.backoffice import api_client
from tests.backoffice.monitoring.test_connections import REPORT, no_other_reports
from tests.metrics.caching.simulated import Process

__all__ = ["no_other_reports"]

PLANS = queries.registered()["metrics:users"]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    process = Process()
    monkeypatch.setattr(cache, "LOCAL", process.cache)
    return process


def store_report(name: str = "other", *, at: float | None = None, **changes: Any) -> None:
    """Store a report of another process, with the cache of this one."""
    shown = msgspec.to_builtins(queries.report()) | changes
    report = msgspec.structs.replace(REPORT, process=name, at=at or time.time(), extra={pages.EXTRA: shown})
    publish.client().set(cluster.report_key(name), msgspec.msgpack.encode(report), ex=10)
    publish.client().zadd(cluster.index_key(), {name: time.time()})


def look(role: str = "manager", **how: str) -> Any:
    client = Client()
    client.force_login(api_client.staff(role))
    return client.get(reverse("admin:system_cache"), how)


def test_page_shows_each_query_and_process(process: Process) -> None:
    before = queries.report()
    staff = api_client.staff("viewer")
    for _ in range(3):
        queries.ask(PLANS(), staff)
    store_report()
    body = look().content.decode()
    assert "metrics:users" in body
    assert "process 4711" in body
    assert "connected to the log" in body
    (counts,) = [row.counts for row in pages.query_rows([queries.report()]) if row.query == "metrics:users"]
    (old,) = [one for one in before.queries if one.query == "metrics:users"]
    assert (counts.hits - old.hits, counts.loads - old.loads, counts.entries) == (2, 1, 1)
    assert counts.bytes > 0


def test_page_warns_of_a_disconnected_process_and_of_a_difference(process: Process) -> None:
    store_report(connected=False)
    assert "disconnected from the log" in look(fragment="1").content.decode()
    changed = [one for one in msgspec.to_builtins(queries.report())["queries"] if one["query"] == "totals"]
    store_report(queries=[changed[0] | {"differences": 2}])
    assert "2 cached values differed" in look(fragment="1").content.decode()


def test_page_leaves_out_reports_of_other_releases(process: Process) -> None:
    store_report("old", connected="perhaps")
    assert "process 4711" not in look(fragment="1").content.decode()


def test_page_without_valkey_says_so(process: Process, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = look(fragment="1")
    assert "Valkey does not respond" in response.content.decode()


@pytest.mark.parametrize(
    ("role", "status"), [("admin", 200), ("manager", 200), ("dpo", 200), ("agent", 403), ("viewer", 403)]
)
def test_page_and_api_need_the_right_to_view_the_system(process: Process, role: str, status: int) -> None:
    assert look(role).status_code == status
    client = Client()
    client.force_login(api_client.staff(role))
    assert client.get("/api/v1/system/cache/").status_code == status


def test_api_answers_with_processes_and_queries(process: Process) -> None:
    store_report()
    client = Client()
    client.force_login(api_client.staff("manager"))
    answer = client.get("/api/v1/system/cache/").json()
    assert answer["complete"] is True
    (one,) = answer["processes"]
    assert (one["pid"], one["connected"], one["position"]) == (4711, True, process.known.position)
    assert one["behind"] == head.safe() - process.known.position
    names = {row["query"]: row for row in answer["queries"]}
    assert (names["metrics:users"]["within"], names["metrics:users"]["shared"]) == (None, True)
    assert names["form-stats"]["within"] == 1.0
    assert client.get("/api/v1/system/cache/?x=1").status_code == 400


def test_prometheus_counts_reads_by_query_and_level(process: Process) -> None:
    labels = {"query": "metrics:users", "level": "memory"}
    queries.report()
    before = REGISTRY.get_sample_value("cache_reads_total", labels) or 0
    staff = api_client.staff("viewer")
    for _ in range(3):
        queries.ask(PLANS(), staff)
    queries.report()
    assert REGISTRY.get_sample_value("cache_reads_total", labels) == before + 2
