"""Rules judged slot by slot, on the real event store: public bug reports, and several evaluators at once."""

from __future__ import annotations

import contextlib
import functools
import threading
import uuid
from typing import Any

import msgspec
import pytest
from django.db import connection

from backoffice import preconditions
from events import commands, snapshots, store
from metrics.monitoring.alerting import conditions, defaults, domain, inhibition, judge, machine, models, report
from metrics.monitoring.notify import changes
from tests import factories
from tests.metrics.alerting.samples import Samples, do

METRIC = "cpu.percent"


def history(key: str = "high_cpu") -> list[str]:
    return [event.type for event in store.read_stream(f"alert-{key}")]


def last(key: str = "high_cpu") -> dict[str, Any]:
    return store.read_stream(f"alert-{key}")[-1].data


def alert(key: str = "high_cpu") -> models.Alert:
    return models.Alert.objects.get(pk=key)


def test_alert_is_raised_once_and_resolved_after_it_was_calm(samples: Samples, cpu: str) -> None:
    samples.tick(METRIC, [85] * 4)
    assert history() == [], "pending is not stored"
    samples.tick(METRIC, [85] * 20)
    assert history() == ["alert.raised"]
    assert (alert().state, alert().severity, alert().value) == ("firing", "warning", 85)
    samples.tick(METRIC, [75] * 30)
    assert history() == ["alert.raised"], "between the clear level and the level"
    samples.tick(METRIC, [60] * 15)
    assert history() == ["alert.raised", "alert.resolved"]
    assert last()["why"] == "recovered"
    assert models.Episode.objects.get().why == "recovered"


def test_row_of_an_alert_is_the_folded_stream(samples: Samples, cpu: str) -> None:
    samples.tick(METRIC, [99] * 8 + [85] * 20 + [60] * 20 + [85] * 10)
    state, version = snapshots.state("alert-high_cpu")
    assert machine.AGGREGATE.load(alert().folded) == state
    assert alert().version == version
    assert history() == ["alert.raised", "alert.eased", "alert.resolved", "alert.raised"]


def test_missing_values_do_not_close_a_firing_alert(samples: Samples, cpu: str) -> None:
    """grafana#77800: a query that fails now and then causes endless pairs of firing and resolved messages."""
    samples.tick(METRIC, [96] * 6)
    samples.tick(METRIC, [None if slot % 4 == 0 else 96.0 for slot in range(120)])
    assert history() == ["alert.raised"]


def test_no_data_is_raised_once_and_only_after_its_time(samples: Samples, cpu: str) -> None:
    """grafana#16290, #31390: "no data" notifies at once."""
    do("rule.update", cpu, {"on_missing": "raise"})
    samples.tick(METRIC, [50] * 12 + [None] + [50] * 5 + [None] * 3 + [50] * 5)
    assert history() == []
    samples.tick(METRIC, [None] * 23)
    assert history() == []
    samples.tick(METRIC, [None] * 30)
    assert history() == ["alert.raised"]
    assert last()["reason"] == "no_data"
    samples.tick(METRIC, [50] * 6)
    assert last()["why"] == "data_returned"


def test_dead_sampler_is_not_missing_data(samples: Samples, cpu: str) -> None:
    do("rule.update", cpu, {"on_missing": "raise"})
    samples.tick(METRIC, [50] * 30)
    samples.skip(200)
    samples.tick(METRIC, [None, 50, 50])
    assert history() == []


def test_edit_keeps_the_episode_and_its_acknowledgement(samples: Samples, cpu: str) -> None:
    """traceroot#2143: any edit clears the outstanding alert and raises it again as new."""
    samples.tick(METRIC, [95] * 6)
    command = domain.AcknowledgeAlert(episode=1, by="staff:7", until=conditions.instant(samples.slot + 3600))
    acknowledge(command)
    changes.write(None, {"name": "ops", "kind": "email", "recipients": ["ops@example.org"]})
    for change in ({"title": "Load"}, {"channels": ["ops"]}, {"warn": 85}):
        do("rule.update", cpu, change)
        samples.tick(METRIC, [95] * 20)
    assert history() == ["alert.raised", "alert.acknowledged"]
    assert (alert().state, alert().episode) == ("acknowledged", 1)


def test_alert_that_an_edit_resolves_names_the_editor(samples: Samples, cpu: str) -> None:
    samples.tick(METRIC, [85] * 20)
    do("rule.update", cpu, {"warn": 90, "clear": 88}, actor="staff:9")
    samples.tick(METRIC, [85])
    assert history() == ["alert.raised", "alert.resolved"]
    assert (last()["why"], last()["by"]) == ("rule_changed", "staff:9")


def test_alert_recovers_by_itself_long_after_an_edit(samples: Samples, cpu: str) -> None:
    samples.tick(METRIC, [85] * 20)
    do("rule.update", cpu, {"title": "Load"})
    samples.tick(METRIC, [50] * 20)
    assert (last()["why"], last().get("by")) == ("recovered", None)


def test_restart_changes_nothing(samples: Samples, cpu: str) -> None:
    """prometheus#15175: a firing alert goes back to pending at restart."""
    do("rule.update", cpu, {"for_seconds": 300})
    samples.tick(METRIC, [96] * 60)
    assert history() == ["alert.raised"]
    samples.skip(4)  # nothing is kept in memory between slots, so a new process is a gap
    samples.tick(METRIC, [96] * 60)
    assert history() == ["alert.raised"]


def test_new_rule_is_pending_until_its_window_is_covered(samples: Samples, cpu: str) -> None:
    """sentry#123661: a threshold of N failures fires with fewer than N check-ins."""
    do("rule.update", cpu, {"for_seconds": 300})
    samples.tick(METRIC, [90] * 47)
    assert history() == [], "80 % of 60 slots are 48"
    samples.tick(METRIC, [90])
    assert history() == ["alert.raised"]


def test_cause_mutes_the_rules_that_follow_from_it(samples: Samples) -> None:
    """alertmanager#4064: inhibited alerts notify after a restart. Here the causes are read again each time."""
    down = {"title": "Valkey", "metric": "valkey.reachable", "comparison": "below", "warn": 0.5, "for_seconds": 0}
    do("rule.create", "valkey_unreachable", down)
    do("rule.create", "queue_age", {"title": "Queue", "metric": "queue.age", "warn": 60, "for_seconds": 0})
    samples.put("queue.age", samples.slot + 1, 100)
    samples.tick("valkey.reachable", [0])
    muted = report.Muted(report.firing())
    assert {row.pk: muted.inhibited_by(row) for row in report.firing()} == {
        "queue_age": ["valkey_unreachable"],
        "valkey_unreachable": [],
    }
    assert all(
        names <= defaults.RULES.keys() and cause in defaults.RULES for cause, names in inhibition.INHIBITS.items()
    )


def test_critical_level_worsens_the_alert_and_drops_the_acknowledgement(samples: Samples, cpu: str) -> None:
    samples.tick(METRIC, [85] * 6)
    acknowledge(domain.AcknowledgeAlert(episode=1, by="staff:7", until=conditions.instant(samples.slot + 3600)))
    samples.tick(METRIC, [99] * 6)
    assert history() == ["alert.raised", "alert.acknowledged", "alert.worsened"]
    assert (alert().state, alert().severity, alert().owner) == ("firing", "critical", None)


def test_acknowledgement_expires_and_the_escalation_goes_on(samples: Samples, cpu: str) -> None:
    do("rule.update", cpu, {"escalation": [{"minutes": 1, "channels": []}]})
    samples.tick(METRIC, [85] * 6)
    acknowledge(domain.AcknowledgeAlert(episode=1, by="staff:7", until=conditions.instant(samples.slot + 24)))
    samples.tick(METRIC, [85] * 24)
    assert history()[2:] == ["alert.unacknowledged"]
    samples.tick(METRIC, [85] * 30)
    assert history()[3:] == ["alert.escalated"]


def test_flapping_is_reported_once_and_then_needs_a_longer_calm(samples: Samples, cpu: str) -> None:
    for _ in range(3):
        samples.tick(METRIC, [85] * 8 + [50] * 14)
    assert history().count("alert.raised") == 3
    assert history().count("alert.flapping") == 1
    assert history()[-1] == "alert.flapping", "60 s calm are not enough any more"
    samples.tick(METRIC, [50] * 36)
    assert history()[-1] == "alert.resolved"


@pytest.mark.parametrize(("change", "why"), [("rule.delete", "rule_deleted"), ("rule.update", "rule_disabled")])
def test_alert_ends_with_its_rule(samples: Samples, cpu: str, change: str, why: str) -> None:
    samples.tick(METRIC, [85] * 6)
    do(change, cpu, {"enabled": False} if change == "rule.update" else {})
    samples.tick(METRIC, [85] * 3)
    assert history() == ["alert.raised", "alert.resolved"]
    assert (last()["why"], last()["by"]) == (why, "staff:7")


def test_each_target_has_an_alert_of_its_own_that_ends_when_the_target_is_gone(samples: Samples) -> None:
    rule = {"title": "Disk", "metric": "disk.free", "target": "*", "comparison": "below", "warn": 15, "for_seconds": 0}
    do("rule.create", "disk_full", rule)
    samples.put("disk.free", samples.slot + 1, 50, "web-2")
    samples.tick("disk.free", [5], "web-1")
    assert [row.pk for row in models.Alert.objects.all()] == ["disk_full:web-1"]
    for slot in range(samples.slot + 1, samples.slot + 800):
        samples.put("disk.free", slot, 50, "web-2")
    samples.skip(799)
    judge.judge(samples.slot)
    assert last("disk_full:web-1")["why"] == "target_gone"


def test_closed_alert_is_silent_until_it_was_calm_once(samples: Samples, cpu: str) -> None:
    samples.tick(METRIC, [85] * 6)
    acknowledge(domain.CloseAlert(episode=1, by="staff:7", why="Known"))
    samples.tick(METRIC, [99] * 30)
    assert history() == ["alert.raised", "alert.closed"]
    samples.tick(METRIC, [50] * 20 + [85] * 6)
    assert history()[2:] == ["alert.resolved", "alert.raised"]


def test_older_slot_is_refused(samples: Samples, cpu: str) -> None:
    samples.tick(METRIC, [85] * 20)
    for slot in range(samples.slot - 10, samples.slot + 1):
        assert judge.judge(slot) == []


def test_rule_that_fails_does_not_stop_the_others(samples: Samples, cpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with preconditions.waived("all"):
        do("rule.create", "aaa", {"title": "Broken", "metric": "no.metric", "warn": 1})
    read = samples.window

    def failing(metric: str, seconds: int, until: int, target: str = "") -> list[float | None]:
        if metric == "no.metric":
            raise RuntimeError(metric)
        return read(metric, seconds, until, target)

    judge.windows.register(failing, samples.targets)
    samples.tick(METRIC, [85] * 6)
    assert history() == ["alert.raised"]


def test_rule_that_cannot_be_read_stops_no_other_and_ends_no_alert(samples: Samples, cpu: str) -> None:
    """A row of a newer release, while this one still runs."""
    do("rule.create", "queue", {"title": "Queue", "metric": "queue.depth", "warn": 1, "for_seconds": 0})
    samples.put("queue.depth", samples.slot + 1, 5)
    samples.tick(METRIC, [50])
    assert history("queue") == ["alert.raised"]
    models.Rule.objects.filter(pk="queue").update(on_missing="explain")
    samples.tick(METRIC, [85] * 6)
    assert history() == ["alert.raised"]
    assert history("queue") == ["alert.raised"]


def test_defaults_that_cannot_be_written_stop_no_rule(
    samples: Samples, cpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError

    monkeypatch.setattr(defaults, "SEEDED", threading.Event())
    monkeypatch.setattr(defaults, "seed", fail)
    samples.tick(METRIC, [85] * 6)
    assert history() == ["alert.raised"]


def test_default_rules_are_written_once_and_follow_a_release_until_they_are_edited(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(defaults.seed()) == defaults.RULES.keys()
    assert defaults.seed() == []
    do("rule.update", "high_memory", {"warn": 90})
    changed = {name: msgspec.structs.replace(defaults.RULES[name], warn=85.0) for name in ("high_cpu", "high_memory")}
    monkeypatch.setattr(defaults, "RULES", changed)
    assert defaults.seed() == ["high_cpu"]
    assert models.Rule.objects.get(pk="high_cpu").warn == 85
    assert models.Rule.objects.get(pk="high_memory").warn == 90


@pytest.mark.django_db(transaction=True)
def test_second_evaluator_of_a_slot_is_a_duplicate(samples: Samples) -> None:
    """Eight evaluators judge the same slots at the same time, each on its own connection."""
    key = f"cpu_{uuid.uuid4().hex[:8]}"  # a test with real commits leaves its events in the log
    rule = {"title": "CPU", "metric": METRIC, "warn": 80, "clear": 70, "for_seconds": 30, "keep_seconds": 60}
    do("rule.create", key, rule)
    for _ in range(40):
        samples.slot += 1
        samples.put(METRIC, samples.slot, 85 if samples.slot % 40 < 20 else 50)
    start, found = threading.Barrier(8), []

    def evaluate() -> None:
        try:
            start.wait()
            for slot in range(samples.slot - 34, samples.slot + 1):
                found.extend(result.status for result in judge.judge(slot))
        finally:
            connection.close()

    threads = [threading.Thread(target=evaluate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = history(key)
    assert found.count("applied") == len(events) >= 1
    assert set(found) <= {"applied", "duplicate", "unchanged"}
    assert all(kind == ("alert.resolved" if number % 2 else "alert.raised") for number, kind in enumerate(events))


@pytest.mark.django_db(transaction=True)
def test_nobody_acts_on_an_episode_that_a_judge_resolves_at_the_same_time(samples: Samples) -> None:
    """Four people act while the value recovers: each acts before the end or is refused, because the episode is over."""
    key = f"cpu_{uuid.uuid4().hex[:8]}"
    rule = {"title": "CPU", "metric": METRIC, "warn": 80, "for_seconds": 0, "keep_seconds": 0}
    do("rule.create", key, rule)
    for episode in range(1, 6):
        samples.tick(METRIC, [85])
        samples.slot += 1
        samples.put(METRIC, samples.slot, 10)
        start = threading.Barrier(5)
        given = {"episode": episode, "by": "staff:1"}
        acts: list[Any] = [domain.AcknowledgeAlert(**given), domain.EscalateAlert(**given), domain.CloseAlert(**given)]

        def act(data: Any, start: threading.Barrier = start) -> None:
            start.wait()
            with contextlib.suppress(domain.PastEpisode):
                commands.dispatch(factories.command(data, key))

        def resolve(start: threading.Barrier = start) -> None:
            start.wait()
            judge.judge(samples.slot)

        work = [*(functools.partial(act, data) for data in (*acts, acts[0])), resolve]
        for thread in [factories.Thread(each) for each in work]:
            thread.result(60)
    events = store.read_stream(f"alert-{key}")
    ends = [number for number, event in enumerate(events) if event.type == "alert.resolved"]
    assert len(ends) == 5
    for end in ends:
        following = events[end + 1 : end + 2]
        assert [event.type for event in following] in ([], ["alert.raised"])


def acknowledge(data: Any) -> None:
    commands.dispatch(factories.command(data, "high_cpu"))
