"""A firing alert is linked on the operator pages that show its metric."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.urls import reverse

from metrics.monitoring import alerts_beside, sparklines
from metrics.monitoring.alerting import judge
from tests.backoffice.api_client import Caller, signed_in
from tests.metrics.alerting import samples as in_memory
from tests.metrics.alerting.samples import Samples, do

pytestmark = pytest.mark.django_db

RULES = {
    "late": ("subscription.lag", "relay"),
    "held": ("log.head_lag", ""),
    "polling": ("sockets.polling", ""),
    "cpu": ("cpu.percent", ""),
}


@pytest.fixture(autouse=True)
def firing(db: None) -> Iterator[Samples]:
    with in_memory.sampled() as found:
        for key, (metric, target) in RULES.items():
            given = {"title": key.title(), "metric": metric, "target": target, "warn": 1, "for_seconds": 0}
            do("rule.create", key, given)
            found.put(metric, found.slot, 50, target)
        judge.judge(found.slot)
        yield found


def linked(caller: Caller, page: str, *args: str) -> set[str]:
    shown = caller.client.get(reverse(f"admin:system_{page}", args=args), {"fragment": "1"})
    assert shown.status_code == 200
    return {key for key in ("late:relay", *RULES) if f'data-alert="{key}"' in shown.content.decode()}


@pytest.mark.parametrize(
    ("page", "args", "expected"),
    [
        ("subscriptions", [], {"late:relay"}),
        ("subscription", ["relay"], {"late:relay"}),
        ("subscription", ["counters"], set()),
        ("head", [], {"held"}),
        ("sockets", [], {"polling"}),
        ("cache", [], set()),
        ("rebuilds", [], set()),
        ("health", [], {"late:relay", "held", "polling", "cpu"}),
    ],
)
def test_page_links_the_alerts_about_what_it_shows(page: str, args: list[str], expected: set[str]) -> None:
    assert linked(signed_in("admin"), page, *args) == expected


def test_resolved_alert_is_not_linked(firing: Samples) -> None:
    for key in RULES:
        do("rule.update", key, {"keep_seconds": 0})
    for key, (metric, target) in RULES.items():
        firing.put(metric, firing.slot + 1, 0 if key != "cpu" else 50, target)
    judge.judge(firing.slot + 1)
    assert linked(signed_in("admin"), "health") == {"cpu"}


def test_every_page_with_charts_has_alerts_beside_them() -> None:
    assert sparklines.METRICS.keys() <= alerts_beside.ABOUT.keys()
