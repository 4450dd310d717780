"""The Prometheus metrics: their content, and who may read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from backoffice import access
from backoffice.sections.staff import keys
from realtime import frames, prometheus, views
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario

ELSEWHERE = "203.0.113.9"


@pytest.fixture(autouse=True)
def _own_figures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Omits the figures that layers above add, because they need a database."""
    monkeypatch.setattr(prometheus, "COLLECTORS", {})


def get_metrics(user: Any = None, address: str = ELSEWHERE, **headers: str) -> Any:
    request = RequestFactory().get("/metrics", REMOTE_ADDR=address, headers=headers)
    request.user = user or AnonymousUser()
    return views.metrics(request)


def samples(text: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_request_from_this_machine_may_read_the_metrics(address: str) -> None:
    assert get_metrics(address=address).status_code == 200


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        (ELSEWHERE, {}),
        ("", {}),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
        ("127.0.0.1", {"X-Real-IP": ELSEWHERE}),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}),
        (ELSEWHERE, {"Authorization": "Bearer fe_nobody.knows"}),
    ],
)
def test_anonymous_request_through_a_proxy_on_this_machine_is_refused(
    db: None, address: str, headers: dict[str, str]
) -> None:
    assert get_metrics(address=address, **headers).status_code == 403


@pytest.mark.parametrize(
    ("networks", "address", "status"),
    [
        (["10.1.0.0/16"], "10.1.2.3", 200),
        (["10.1.0.0/16"], "::ffff:10.1.2.3", 200),
        (["10.1.0.0/16"], "10.2.0.1", 403),
        (["10.1.0.0/16"], "127.0.0.1", 403),
        (["2001:db8::/32"], "2001:db8::7", 200),
        (["192.0.2.7"], "192.0.2.7", 200),
        ([], "127.0.0.1", 403),
    ],
)
def test_allowed_networks_are_configured(
    db: None, settings: Any, networks: list[str], address: str, status: int
) -> None:
    settings.METRICS_ALLOWED_NETWORKS = networks
    assert get_metrics(address=address).status_code == status
    assert get_metrics(address=address, **{"X-Forwarded-For": "127.0.0.1"}).status_code == 403


@pytest.mark.parametrize("role", ["admin", "manager", "agent", "viewer", "dpo"])
def test_only_staff_with_the_system_right_may_read_the_metrics(db: None, role: str) -> None:
    staff, _ = harness.sign_in(role)
    assert get_metrics(staff).status_code == (200 if access.may(staff, "view", "system") else 403)
    staff.is_active = False
    assert get_metrics(staff).status_code == 403


def test_api_key_needs_the_system_scope_to_read_the_metrics(db: None) -> None:
    staff, _ = harness.sign_in("manager")
    agent, _ = harness.sign_in("agent")
    _, token = keys.create(name="prometheus", owner=agent, scopes=["system:read"])
    assert get_metrics(Authorization=f"Bearer {token}").status_code == 403, "its owner may not see the system"
    for scopes, status in ((["system:read"], 200), (["events:read"], 403), (["users:read"], 403)):
        _, token = keys.create(name="prometheus", owner=staff, scopes=scopes)
        assert get_metrics(Authorization=f"Bearer {token}").status_code == status
    # a session beside a key without the scope does not help
    assert get_metrics(staff, Authorization=f"Bearer {token}").status_code == 403


def test_every_metric_is_exposed_and_a_delivery_is_counted(server: Server, writer: Writer, session: str) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            before = samples(get_metrics(address="127.0.0.1").content.decode())
            position = await writer.rename(harness.new_user())
            await harness.events_until(items, position)
            after = samples(get_metrics(address="127.0.0.1").content.decode())
            grown = after["realtime_deliveries_total",] - before["realtime_deliveries_total",]
            assert grown >= 1

    run_scenario(scenario())
    text = get_metrics(address="127.0.0.1").content.decode()
    for metric in vars(prometheus).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            assert f"# HELP {metric.describe()[0].name}" in text


LIVES = """
import sys
from realtime import prometheus
prometheus.DELIVERIES.inc(21)
prometheus.SOCKETS.set(1)
prometheus.BEHIND.set(1)
prometheus.POSITION.set(int(sys.argv[1]))
prometheus.DEGRADED.set(1)
print("set", flush=True)
sys.stdin.read()
"""


def test_metrics_of_processes_are_summed_and_dead_ones_keep_only_their_counters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process writes its own files; the process that answers sums them."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LIVES, position], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for position in ("900", "500")
    ]
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    def shown(*names: str) -> list[float | None]:
        found = samples(get_metrics(address="127.0.0.1").content.decode())
        return [found.get((f"realtime_{name}",)) for name in names]

    gauges = ("sockets", "sockets_behind", "position", "degraded")
    with started[0] as ahead, started[1] as late:
        for one in (ahead, late):
            assert one.stdout is not None
            assert one.stdout.readline() == b"set\n"
        assert shown("deliveries_total", *gauges) == [42, 2, 2, 900, 1]
        ahead.kill()
        ahead.wait()
        assert shown("deliveries_total", *gauges) == [42, 1, 1, 500, 1]
        late.kill()
        late.wait()
    assert shown("deliveries_total", *gauges) == [42, None, None, None, None]


def observed() -> float:
    return samples(get_metrics(address="127.0.0.1").content.decode())["realtime_lag_seconds_count",]


def test_events_from_before_the_process_followed_the_log_have_no_lag(server: Server, writer: Writer) -> None:
    """Both servers count into the metrics of this process."""

    async def scenario() -> None:
        user = harness.new_user()
        old = [await writer.rename(user) for _ in range(5)]
        await server.until(lambda: server.hub.position >= old[-1])
        before = observed()
        with Server() as fresh:
            assert fresh.hub is not None
            await fresh.until(lambda: fresh.hub.position >= old[-1])
            assert observed() == before
            assert await fresh.on_loop(fresh.hub.follower.lags) == []
            new = await writer.rename(user)
            for one in (server, fresh):
                await one.until(lambda one=one: one.hub.position >= new)
            assert observed() == before + 2
            assert len(await fresh.on_loop(fresh.hub.follower.lags)) == 1

    run_scenario(scenario())


def test_lags_are_limited_to_the_time_window() -> None:
    recent = prometheus.Recent(60, size=3)
    for now, lag in ((0, 1280.0), (10, 1.0), (50, 2.0)):
        recent.add(now, lag)
    assert recent.values(55) == [1280.0, 1.0, 2.0]
    assert recent.values(61) == [1.0, 2.0]
    for lag in (3.0, 4.0):
        recent.add(62, lag)
    assert recent.values(62) == [2.0, 3.0, 4.0]
    assert recent.values(500) == []
