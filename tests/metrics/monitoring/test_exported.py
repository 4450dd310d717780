"""The newest sample at `/metrics`."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from django.test import Client

from metrics.monitoring import request_counts
from metrics.monitoring.history import tables, write
from tests.backoffice import api_client
from tests.metrics.monitoring import slots

pytestmark = pytest.mark.django_db


def scraped() -> str:
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    return answer.content.decode()


def test_newest_sample_is_exported_with_its_targets() -> None:
    present = tables.present_slot()
    write.values(present, {("db.blocked", ""): 2, ("cpu.percent", "web-1"): 12.5, ("cpu.percent", "web-2"): 50})
    text = scraped()
    assert "formease_db_blocked 2.0" in text
    assert 'formease_cpu_percent{host="web-1"} 12.5' in text
    assert 'formease_cpu_percent{host="web-2"} 50.0' in text
    assert "formease_sample_age_seconds" in text
    assert "realtime_sockets" in text  # the figures of this process stay


def test_missing_value_has_no_line() -> None:
    write.values(tables.present_slot(), {("db.blocked", ""): 2})
    assert "formease_db_latency" not in scraped()


def test_without_samples_the_figures_of_the_process_are_there() -> None:
    slots.empty()
    text = scraped()
    assert "formease_sample_age_seconds" not in text
    assert "realtime_sockets" in text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_request_through_a_proxy_needs_a_right(header: str) -> None:
    assert Client(headers={header: "127.0.0.1"}).get("/metrics").status_code == 403


def test_address_outside_the_networks_needs_a_right(client: Client) -> None:
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 403
    for role, status in (("viewer", 403), ("manager", 200)):
        person = api_client.signed_in(role)
        assert person.client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == status


@pytest.mark.parametrize(
    "headers", [{"host": "10.1.2.3:8000"}, {"host": "10.1.2.3:8000", "authorization": "Bearer fe_nobody.knows"}]
)
def test_scrape_needs_neither_a_known_host_nor_tls(settings: Any, headers: dict[str, str]) -> None:
    """As with DEBUG=0: a scraper addresses each process by itself."""
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["admin.example.org"], True
    allowed = Client().get("/metrics", REMOTE_ADDR="127.0.0.1", headers=headers)
    assert allowed.status_code == 200
    answer = Client().get("/metrics", REMOTE_ADDR="203.0.113.9", headers=headers)
    assert answer.status_code == (403 if "authorization" in headers else 400)


def test_person_scrapes_only_under_the_address_of_the_site(settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["admin.example.org"], True
    client = api_client.signed_in("admin").client
    known = {"REMOTE_ADDR": "203.0.113.9", "headers": {"host": "admin.example.org"}}
    assert client.get("/metrics", **known).status_code == 301
    assert client.get("/metrics", secure=True, **known).status_code == 200


def test_requests_are_counted_by_method_and_status() -> None:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})

    async def ask(method: str) -> None:
        counted = request_counts.CountRequests(application, into=request_counts.Counts())

        async def nothing(*_: Any) -> None: ...

        await counted({"type": "http", "path": "/x", "method": method}, nothing, nothing)

    def shown(method: str) -> float:
        found = re.search(rf'http_requests_total{{method="{method}",status="404"}} (\S+)', scraped())
        return float(found[1]) if found else 0.0

    before = shown("PUT"), shown("other")
    asyncio.run(ask("PUT"))
    asyncio.run(ask("BREW"))
    assert (shown("PUT"), shown("other")) == (before[0] + 1, before[1] + 1)
    assert "BREW" not in scraped()
    assert "http_request_seconds_bucket" in scraped()
