"""The newest sample at `/metrics`."""

from __future__ import annotations

import pytest
from django.test import Client

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
    assert "formease_" not in text
    assert "realtime_sockets" in text


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_request_through_a_proxy_needs_a_right(header: str) -> None:
    assert Client(headers={header: "127.0.0.1"}).get("/metrics").status_code == 403


def test_address_outside_the_networks_needs_a_right(client: Client) -> None:
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == 403
    for role, status in (("viewer", 403), ("manager", 200)):
        person = api_client.signed_in(role)
        assert person.client.get("/metrics", REMOTE_ADDR="203.0.113.9").status_code == status
