"""Fixtures of the alerts: samples in memory, one rule of our own and no default rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.metrics.alerting import samples as in_memory
from tests.metrics.alerting.samples import Samples


@pytest.fixture
def samples(db: None) -> Iterator[Samples]:
    """Samples in memory."""
    with in_memory.sampled() as found:
        yield found


@pytest.fixture
def cpu(samples: Samples) -> str:
    """A rule: warning above 80 and critical above 95 for 30 s each, resolved after 60 s at most 70."""
    data: dict[str, Any] = {"title": "CPU", "metric": "cpu.percent", "warn": 80, "critical": 95, "clear": 70}
    in_memory.do("rule.create", "high_cpu", {**data, "for_seconds": 30, "keep_seconds": 60})
    return "high_cpu"
