"""The page of live connections: process reports, permissions, and the page without Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.test import Client
from django.urls import reverse

from devtools import processes
from events import head
from events.subscriptions import runner as subscriptions
from metrics.monitoring import live_connections
from realtime import cluster, publish, relay
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db

REPORT = cluster.ProcessReport(
    process="one",
    host="web-1",
    pid=4711,
    started_at=time.time() - 3600,
    at=0.0,
    draining=False,
    store=True,
    valkey=True,
    relay=True,
    epoch="",
    position=0,
    sockets=1200,
    people=800,
    behind=3,
    ring=4096,
    memory=200 * 2**20,
    cpu=0.42,
    delivered=5000.0,
    deliveries=10**6,
    lag_p50=0.004,
    lag_p99=0.031,
    fills=7,
    drops=0,
    credit_waits=11,
    resets=1,
    refusals=2,
    revocations=5,
    closes={"1006": 9, "4408": 2, "other": 1},
)


def store_reports(*reports: cluster.ProcessReport) -> None:
    """Stores current reports of these processes, at the head of a log that other tests have written to."""
    for report in reports:
        now = msgspec.structs.replace(report, at=report.at or time.time(), position=head.safe())
        publish.client().set(cluster.report_key(report.process), msgspec.msgpack.encode(now), ex=10)
        publish.client().zadd(cluster.index_key(), {report.process: now.at})


@pytest.fixture(autouse=True)
def no_other_reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deletes and disables other reports, because this process may run the server of other tests."""

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(cluster.Reporter, "_publish", nothing)
    publish.client().delete(cluster.index_key())
    yield
    publish.client().delete(cluster.index_key())


def look(role: str, fragment: bool = False) -> Any:
    client = Client()
    client.force_login(api_client.staff(role))
    return client.get(reverse("admin:system_sockets"), {"fragment": "1"} if fragment else {})


def test_page_shows_every_process_and_the_totals() -> None:
    store_reports(
        REPORT, msgspec.structs.replace(REPORT, process="two", pid=4712, sockets=800, lag_p99=1.5, closes={"1006": 1})
    )
    answer = look("admin")
    text = answer.content.decode()
    for words in ("2,000", "process 4711", "process 4712", "2 processes, all of them live.", "10,000", "1.5 s", "42%"):
        assert words in text, words
    counted = [(one.code, one.number) for one in answer.context_data["closes"]]
    assert counted == [("1006", 10), ("4408", 2), ("other", 1)]
    assert answer.context_data["totals"].behind == 6


@pytest.mark.parametrize(
    ("change", "word", "look_"),
    [
        ({}, "live", "good"),
        ({"valkey": False}, "no connection to Valkey: polling", "warn"),
        ({"relay": False}, "nothing from the relay: polling", "warn"),
        ({"store": False}, "cannot read the log", "bad"),
        ({"draining": True, "relay": False}, "closing its sockets", "warn"),
        ({"at": time.time() - 60, "draining": True}, "does not report", "bad"),
    ],
)
def test_process_shows_its_most_serious_problem(change: dict[str, Any], word: str, look_: str) -> None:
    row = live_connections.row(msgspec.structs.replace(REPORT, **({"at": time.time()} | change)), safe=0)
    assert (row.word, row.look) == (word, look_)


def test_process_behind_the_head_is_marked() -> None:
    row = live_connections.row(msgspec.structs.replace(REPORT, at=time.time()), safe=live_connections.BEHIND + 1)
    assert (row.word, row.late) == ("behind the log", live_connections.BEHIND + 1)


def test_page_names_the_holder_of_the_relay_lease() -> None:
    assert "Not running" in look("admin", fragment=True).content.decode()
    subscriptions.acquire(relay.SUBSCRIPTION, "web-9:77:abcdef01")
    text = look("admin", fragment=True).content.decode()
    assert "process 77 on web-9" in text
    assert "Not running" not in text


def test_page_without_valkey_shows_a_message(settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{processes.free_port()}/0"
    answer = look("admin")
    assert answer.status_code == 200
    assert "Valkey does not respond" in answer.content.decode()


def test_page_requires_the_right_to_view() -> None:
    assert {role: look(role).status_code for role in ("admin", "manager", "dpo", "agent", "viewer")} == {
        "admin": 200,
        "manager": 200,
        "dpo": 200,
        "agent": 403,
        "viewer": 403,
    }
    assert look("viewer", fragment=True).status_code == 403
    assert Client().get(reverse("admin:system_sockets")).status_code == 302
