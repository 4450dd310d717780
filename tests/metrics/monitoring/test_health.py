"""System → Health: the state of every dependency, with its reason and since when."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.urls import reverse

from events import commands
from metrics.monitoring import dependencies, sampling, units
from metrics.monitoring.alerting import defaults, rules
from metrics.monitoring.dependencies import DependencyStatus
from metrics.monitoring.history import tables, write
from metrics.monitoring.metric_types import METRICS
from tests import factories
from tests.backoffice import api_client
from tests.metrics.monitoring import slots

pytestmark = pytest.mark.django_db

URL = reverse("admin:system_health")
GOOD = {("db.blocked", ""): 0, ("valkey.reachable", ""): 1, ("cpu.percent", "web-1"): 20, ("worker.age", ""): 3}


def status(name: str) -> DependencyStatus:
    return next(one for one in dependencies.statuses() if one.dependency.name == name)


def sample(slot: int, **changed: float | None) -> None:
    """Store a sample in which everything works except for these values."""
    values = {**GOOD, **{(name.replace("_", ".", 1), ""): value for name, value in changed.items()}}
    tables.create_partitions(slot)
    write.values(slot, values)


def test_dependency_works_while_its_signals_are_below_their_limits() -> None:
    sample(tables.present_slot())
    assert status("valkey").state == "good"
    assert status("hosts").state == "good"


def test_worst_signal_gives_state_and_reason() -> None:
    present = tables.present_slot()
    write.values(present, {**GOOD, ("cpu.percent", "a"): 85, ("disk.free", "a"): 60, ("disk.free", "b"): 3})
    found = status("hosts")
    assert (found.state, found.reason) == ("bad", "Free disk space: 3% (b)")


def test_missing_value_is_unknown_and_not_good() -> None:
    sample(tables.present_slot(), worker_age=None)
    found = status("worker")
    assert (found.state, found.reason) == ("unknown", "No worker has finished a task yet.")


def test_signal_that_counts_failures_does_not_prove_that_its_source_works() -> None:
    sample(tables.present_slot(), worker_age=None, tasks_failed=0)
    assert status("worker").state == "unknown"


def test_state_began_with_its_first_slot() -> None:
    present = tables.present_slot()
    for slot in range(present - 30, present + 1):
        sample(slot, valkey_reachable=0 if slot > present - 12 else 1)
    found = status("valkey")
    assert (found.state, found.since) == ("bad", datetime.fromtimestamp((present - 11) * 5, UTC))


def test_blind_slots_do_not_end_a_state() -> None:
    present = tables.present_slot()
    for slot in range(present - 30, present + 1):
        sample(slot, valkey_reachable=1 if slot < present - 20 else None if slot % 2 else 0)
    first = present - 20 + (present - 20) % 2
    sample(present + 1, valkey_reachable=0)
    found = dependencies._since(
        dependencies.Signal("valkey.reachable", 0.5, 0.5), METRICS["valkey.reachable"], "", 2, present + 1
    )
    assert found[0] is not None
    assert abs(found[0].timestamp() // 5 - first) <= 1


def test_state_older_than_the_search_says_so() -> None:
    present = tables.present_slot()
    slots.fill("valkey.reachable", [(present - n, 0) for n in range(0, 5000, 5)])
    found = status("valkey")
    assert (found.state, found.since, found.is_old) == ("bad", None, True)


def test_without_a_recent_sample_only_the_sampler_has_a_state() -> None:
    sample(tables.present_slot() - 20)
    (only,) = dependencies.statuses()
    assert (only.dependency.name, only.state) == ("sampler", "bad")


def test_without_any_sample_the_sampler_is_a_problem() -> None:
    (only,) = dependencies.statuses()
    assert (only.state, only.reason) == ("bad", "There is no sample of the last day.")


def test_problems_come_first() -> None:
    sample(tables.present_slot(), valkey_reachable=0, db_blocked=3)
    states = [one.state for one in dependencies.statuses()]
    assert states[:2] == ["bad", "warn"]
    assert states.index("good") > max(index for index, state in enumerate(states) if state in {"bad", "warn"})


def test_page_says_what_to_do() -> None:
    sample(tables.present_slot(), valkey_reachable=0)
    page = api_client.signed_in("manager").client.get(URL).content.decode()
    text = re.sub(r"\s+", " ", page)
    for part in ("1 problem.", "Valkey reachable: 0", "Live pages are slower and tasks wait", "What to do", "Since"):
        assert part in text, part


def test_page_refreshes_its_part() -> None:
    sample(tables.present_slot())
    part = api_client.signed_in("admin").client.get(URL + "?fragment=1")
    assert part.status_code == 200
    assert "<html" not in part.content.decode()


@pytest.mark.parametrize(("role", "allowed"), [("admin", 200), ("dpo", 200), ("agent", 403), ("viewer", 403)])
def test_page_needs_the_right_to_see_the_system(role: str, allowed: int) -> None:
    assert api_client.signed_in(role).client.get(URL).status_code == allowed


@pytest.mark.usefixtures("own_database")  # the default rules would stay in the log that other tests share
def test_limits_are_the_levels_of_the_rule_as_somebody_changed_it() -> None:
    defaults.seed()
    sample(tables.present_slot(), queue_age=1, queue_depth=1500, db_blocked=0)
    assert status("queue").state == "warn"
    commands.dispatch(factories.command(rules.UpdateRule(warn=2000, clear=None), "queue_depth"))
    assert status("queue").state == "good"
    commands.dispatch(factories.command(rules.UpdateRule(metric="db.blocked"), "queue_depth"))
    assert status("queue").state == "warn", "a rule about something else has no limits of the queue"


def test_every_signal_with_a_rule_has_limits_by_it_and_every_other_one_its_own() -> None:
    levels = dependencies._levels()
    for one in dependencies.DEPENDENCIES:
        for signal in one.signals:
            assert not signal.rule or signal.rule in levels
            limited = signal.with_levels(levels)
            assert (limited.warn, limited.bad) != (None, None), signal.metric


@pytest.mark.django_db(transaction=True)
def test_every_signal_is_a_metric_and_every_required_one_is_sampled() -> None:
    sample = sampling.take()
    assert sample is not None
    sampled = {name for name, _ in sample.values}
    unreported = {"worker.age", "beat.age", "tasks.failed", "errors.rate", "requests.p95"}
    unreported |= {"cpu.percent", "memory.percent", "disk.free", "host.skew", "tls.days_left"}
    for one in dependencies.DEPENDENCIES:
        for signal in one.signals:
            assert signal.metric in METRICS
            assert signal.metric in sampled | unreported, signal.metric


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "–"),
        (0.012, "s", "12 ms"),
        (3.2, "s", "3.2 s"),
        (185, "s", "3 min 05 s"),
        (43.2, "percent", "43.2%"),
        (1234, "1", "1,234"),
        (0.25, "1/s", "0.25 per second"),
        (12, "days", "12 days"),
    ],
)
def test_value_has_its_unit(value: float | None, unit: str, text: str) -> None:
    assert units.text(value, unit) == text  # type: ignore[arg-type]
