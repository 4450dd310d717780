"""The real sampler and the real history: probe, sample, window, judge, alert."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import msgspec
import pytest
from django.core.management import call_command

from events import store
from metrics.management.commands import doctor
from metrics.monitoring import sampling
from metrics.monitoring.alerting import defaults, judge, models, preview, rules, windows
from metrics.monitoring.history import tables
from metrics.monitoring.metric_types import METRICS, POSITIONS
from metrics.monitoring.probes import table
from tests.metrics.alerting.samples import do
from tests.metrics.monitoring import slots

pytestmark = pytest.mark.django_db(transaction=True)  # probes have connections of their own

RULE = {"title": "Queue", "metric": "queue.depth", "warn": 100, "clear": 50, "for_seconds": 30, "keep_seconds": 30}


class Cluster:
    """A queue whose depth tests set, sampled in slots that tests move."""

    def __init__(self) -> None:
        self.slot = tables.present_slot()
        self.depth = 0.0
        self.rule = f"queue_{uuid.uuid4().hex[:8]}"  # tests with real commits leave their events in the log

    def tick(self, count: int) -> None:
        for _ in range(count):
            self.slot += 1
            assert sampling.tick() == self.slot


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    found = Cluster()
    slots.empty()
    monkeypatch.setattr(tables, "present_slot", lambda: found.slot)
    monkeypatch.setattr(judge, "present_slot", lambda: found.slot)
    monkeypatch.setattr(sampling, "_partitions_until", {})
    monkeypatch.setattr(table, "PROBES", {"queue": lambda _slot: {("queue.depth", ""): found.depth}})
    yield found
    slots.empty()


def test_alert_is_raised_and_resolved_by_the_samples_of_the_cluster(cluster: Cluster) -> None:
    do("rule.create", cluster.rule, RULE)
    cluster.tick(4)
    cluster.depth = 500
    cluster.tick(8)
    assert [event.type for event in store.read_stream(f"alert-{cluster.rule}")] == ["alert.raised"]
    assert models.Alert.objects.get(pk=cluster.rule).value == 500
    cluster.depth = 10
    cluster.tick(8)
    assert [event.type for event in store.read_stream(f"alert-{cluster.rule}")] == ["alert.raised", "alert.resolved"]


def test_preview_reads_the_stored_history(cluster: Cluster) -> None:
    slots.fill("queue.depth", [(cluster.slot - n, 500.0 if n < 100 else 10.0) for n in range(700)])
    do("rule.create", cluster.rule, RULE)
    found = preview.over_history(judge.rule_of(models.Rule.objects.get()), hours=1)
    assert (len(found.spans), found.messages, found.spans[0].end) == (1, 1, None)


LONG_RULE = {"title": "Queue", "metric": "queue.depth", "warn": 100, "clear": 50, "keep_seconds": 120}


def test_preview_of_many_days_judges_averages_of_minutes(cluster: Cluster) -> None:
    """Two episodes of ten minutes 30 days ago, where single samples are gone, and a peak that no minute shows."""
    do("rule.create", cluster.rule, {**LONG_RULE, "for_seconds": 300})
    start = (cluster.slot // 12 - 30 * 1440) * 12
    beyond = {*range(100 * 12, 110 * 12), *range(200 * 12, 210 * 12), 300 * 12}
    slots.fill("queue.depth", [(start + n, 500.0 if n in beyond else 10.0) for n in range(400 * 12)])
    slots.roll_up(start + 401 * 12)
    store.execute("truncate metrics_sample")
    found = preview.over_history(judge.rule_of(models.Rule.objects.get()), hours=31 * 24)
    assert (found.step, len(found.spans)) == (12, 2)
    assert [(span.start - start) // 12 for span in found.spans] == [104, 204]
    assert [(span.end - start) // 12 for span in found.spans if span.end] == [111, 211]
    answer = preview.answer(found, 31 * 24)
    assert (answer["resolution"], answer["samples"], answer["firing_seconds"]) == (60, 400, 2 * 7 * 60)


def test_share_by_minutes_is_that_of_single_samples_at_the_end_of_each_minute(cluster: Cluster) -> None:
    rule = rules.Rule(metric="errors.count", per="requests.count", warn=5, over_seconds=300)
    minute = cluster.slot // 12 - 1
    last = minute * 12 + 11
    failed = [(slot, 2.0 if slot % 12 == 3 and last - slot < 300 else 0.0) for slot in range(last - 1500, last + 1)]
    slots.fill("errors.count", failed)
    position = POSITIONS["requests.count"] + 1
    store.execute(f"update metrics_sample set v[{position}] = case when mod(slot, 12) = 3 then 10 else 0 end")
    slots.roll_up(last + 4)
    by_minutes = windows.minutes(rule, "", 60, minute)
    by_slots = windows.window(rule, "", 3600, last)
    assert max(value or 0 for value in by_minutes) > 5
    assert by_minutes == pytest.approx(by_slots[11::12])


def test_long_window_is_judged_by_minutes(cluster: Cluster) -> None:
    do("rule.create", cluster.rule, {**LONG_RULE, "for_seconds": 6 * 3600})
    rule = judge.rule_of(models.Rule.objects.get())
    assert [preview.over_history(rule, hours=hours).step for hours in (1, 168)] == [1, 12]
    short = msgspec.structs.replace(rule, for_seconds=60)
    assert [preview.over_history(short, hours=hours).step for hours in (168, 336, 337)] == [1, 1, 12]


def test_command_samples_judges_and_prints_the_alerts(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    do("rule.create", cluster.rule, RULE)
    cluster.depth = 500
    cluster.tick(6)
    cluster.slot += 1
    call_command("check_alerts", "--json")
    (found,) = json.loads(capsys.readouterr().out)["alerts"]
    assert (found["id"], found["state"], found["severity"]) == (cluster.rule, "firing", "warning")
    cluster.slot += 1
    call_command("check_alerts")
    assert "firing (warning): Queue" in capsys.readouterr().out
    assert doctor.alerts() == doctor.Finding("alerts", "note", "1 fires: Queue: 500")


def test_frame_of_the_metrics_names_what_is_pending(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    do("rule.create", cluster.rule, {**RULE, "for_seconds": 60})
    frames = []
    monkeypatch.setattr(sampling.publish, "ephemeral", lambda *args, **_: frames.append(args))
    cluster.depth = 500
    cluster.tick(3)
    last = [data for topic, event, data in frames if (topic, event) == ("system", "system.metrics")][-1]
    assert last["pending"] == {cluster.rule: {"severity": "warning", "seconds": 15, "of": 60}}


def test_default_rules_judge_metrics_that_are_sampled() -> None:
    used = {name for rule in defaults.RULES.values() for name in (rule.metric, rule.per) if name}
    assert used <= METRICS.keys()
    each = {METRICS[rule.metric].group for rule in defaults.RULES.values() if rule.target == defaults.EACH}
    assert each == {"host", "subscription"}
