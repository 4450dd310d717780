"""The charts of the last hours beside the numbers of the operators' pages."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from django.urls import reverse

from metrics.monitoring import sparklines
from metrics.monitoring.history import read, tables, write
from metrics.monitoring.metric_types import METRICS
from tests.backoffice import api_client

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    sparklines._kept.clear()
    yield
    sparklines._kept.clear()


def history(*values: float | None) -> read.History:
    points = [(1000 + 60 * n, v, v, v, 0 if v is None else 12) for n, v in enumerate(values)]
    return read.History(metric="db.blocked", target="", unit="1", step=60, tier="minute", slot=None, points=points)


def test_gap_interrupts_the_line() -> None:
    drawn = sparklines.draw("db.blocked", history(1, 2, None, 3, None, 4, 4), 2.0)
    assert drawn.line.count("M") == 3
    assert "M300.0 19.0h0.1" in drawn.line  # a single point is a dot
    assert "nan" not in drawn.line.lower()


def test_highest_value_is_at_the_top_and_zero_at_the_bottom() -> None:
    assert sparklines.draw("db.blocked", history(0, 10), 2.0).line == "M0.0 70.0L600.0 2.0"


def test_percentages_have_a_fixed_scale() -> None:
    assert sparklines.draw("cpu.percent", history(50, 50), 2.0).line == "M0.0 36.0L600.0 36.0"


def test_summary_names_now_and_extremes() -> None:
    summary = sparklines.draw("db.blocked", history(1, 3, 2), 2.0).summary
    assert summary.endswith("now 2, from 1 to 3, on average 2")


def test_chart_without_values_says_so() -> None:
    drawn = sparklines.draw("db.blocked", history(None, None), 2.0)
    assert (drawn.line, drawn.is_empty) == ("", True)
    assert drawn.summary.endswith("no values")


def test_every_chart_is_of_a_metric() -> None:
    assert {name for names in sparklines.METRICS.values() for name in names} <= set(METRICS)


@pytest.mark.parametrize("page", sorted(sparklines.METRICS))
def test_page_and_its_fragment_show_the_charts(page: str) -> None:
    present = tables.present_slot()
    targets = {name: "" if METRICS[name].group == "cluster" else "one" for name in sparklines.METRICS[page]}
    tables.create_partitions(present - 50)  # it may be of yesterday
    for slot in range(present - 50, present + 1):
        write.values(slot, dict.fromkeys(targets.items(), slot % 5))
    client = api_client.signed_in("admin").client
    for address in (reverse(f"admin:system_{page}"), reverse(f"admin:system_{page}") + "?fragment=1"):
        text = client.get(address).content.decode()
        figures = text.split('<figure class="sparkline">')[1:]
        assert len(figures) == len(sparklines.METRICS[page]), address
        for figure in figures:
            drawing = ElementTree.fromstring(figure[figure.index("<svg") : figure.index("</svg>") + 6])
            assert len(drawing) == 2
            assert drawing[1].get("d", "").startswith("M")


def test_page_of_one_subscription_has_no_charts_of_all() -> None:
    assert sparklines.of_page("subscription") == []
