"""Alerts on the dashboard: the open ones in a widget, their episodes as shaded parts of charts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from metrics.charts.model import Chart
from metrics.dashboard import tiles
from metrics.dashboard.asked import Span
from metrics.dashboard.layouts import Tile
from metrics.monitoring.alerting import models
from tests.backoffice import api_client
from tests.metrics.alerting.conftest import cpu, samples
from tests.metrics.alerting.samples import Samples

__all__ = ["cpu", "samples"]

pytestmark = pytest.mark.django_db


def filled(kind: str, role: str, h: int = 1) -> tiles.FilledTile:
    return tiles.fill(Tile(id=kind, kind=kind, w=2, h=h), api_client.staff(role), Span("1h"))


def test_open_alert_has_its_value_for_those_who_see_the_system(samples: Samples, cpu: str) -> None:
    assert filled("alerts", "viewer").content == {"count": 0, "rows": []}
    samples.tick("cpu.percent", [99] * 6)
    manager, viewer = filled("alerts", "manager").content, filled("alerts", "viewer").content
    assert (manager["count"], viewer["count"]) == (1, 1)
    assert [(row["title"], row["value"]) for row in manager["rows"]] == [("CPU", "99%")]
    assert [(row["title"], row["value"]) for row in viewer["rows"]] == [("CPU", "")]


def test_episode_shades_the_chart_of_its_metric_only(samples: Samples, cpu: str) -> None:
    samples.tick("cpu.percent", [99] * 6)
    models.Episode.objects.update(raised_at=timezone.now() - timedelta(minutes=10))  # the samples are of another day
    chart: Chart = filled("cpu", "manager", h=2).content["chart"]
    (span,) = chart.spans
    assert (span.severity, span.end, span.label) == ("critical", None, "CPU")
    assert "span-critical" in chart.svg
    assert "Shaded: 1 alert (CPU)." in chart.summary
    assert filled("memory", "manager", h=2).content["chart"].spans == ()
    live = filled("cpu", "manager", h=2).content["live"]
    assert live["spans"] == [{"start": int(span.start.timestamp()), "end": None, "severity": "critical"}]
