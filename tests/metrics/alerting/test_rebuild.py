"""The read tables of alerts are rebuilt from the log as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from events import store
from metrics.monitoring.notify import changes
from tests.metrics.alerting import samples as in_memory
from tests.metrics.alerting.samples import do

TABLES = ("metrics_rule", "metrics_silence", "metrics_alert", "metrics_alert_episode")


@pytest.mark.usefixtures("own_database")
def test_rebuilt_tables_equal_those_kept_by_the_commands() -> None:
    rule = {"title": "CPU", "metric": "cpu.percent", "warn": 80, "critical": 95, "clear": 70, "for_seconds": 30}
    with in_memory.sampled() as samples:
        escalation = [{"minutes": 1, "channels": []}]
        do("rule.create", "high_cpu", {**rule, "keep_seconds": 30, "escalation": escalation})
        changes.write(None, {"name": "ops", "kind": "email", "recipients": ["ops@example.org"]})
        do("rule.update", "high_cpu", {"channels": ["ops"]})
        do("silence.create", "018f0000-0000-7000-8000-000000000001", {
            "title": "Upgrade", "rules": ["high_cpu"], "ends_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        })  # fmt: skip
        samples.tick("cpu.percent", [85] * 20 + [99] * 8 + [50] * 10 + [99] * 12)
    before = {table: contents(table) for table in TABLES}
    assert [len(rows) for rows in before.values()] == [1, 1, 1, 2]
    for table in TABLES:
        call_command("rebuild_projection", table)
    assert {table: contents(table) for table in TABLES} == before


def contents(table: str) -> list[str]:
    return [row for (row,) in store.query(f"select to_jsonb(t)::text from {table} t order by id")]
