"""The sampler: one sample a slot, failures of probes and steps, kills, Celery, and the fallback."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command

from backoffice import log_filters
from backoffice.celery import app as celery_app
from events import store
from metrics.monitoring import fallback, sampling
from metrics.monitoring.history import read, tables
from metrics.monitoring.metric_types import METRICS, POSITIONS, SIZES
from metrics.monitoring.probes import table
from realtime import publish
from tests.live import worker_thread
from tests.metrics.monitoring import samplers

pytestmark = pytest.mark.django_db(transaction=True)  # probes have connections of their own

Probe = Callable[[int], dict[tuple[str, str], float | None]]


class Clock:
    """The present slot, which tests move."""

    def __init__(self) -> None:
        self.slot = tables.present_slot()

    def __call__(self) -> int:
        return self.slot


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(tables, "present_slot", made)
    monkeypatch.setattr(sampling, "_partitions_until", {})
    return made


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Probe]:
    """The table of probes, with one that answers at once."""
    found: dict[str, Probe] = {"queue": lambda slot: {("queue.depth", ""): slot % 1000}}
    monkeypatch.setattr(table, "PROBES", found)
    return found


def claimed() -> list[int]:
    return [row[0] for row in store.query("select slot from metrics_sample where source = 'sampler' order by slot")]


# -- one sample a slot ------------------------------------------------------------------------------------------------


def test_eight_processes_claim_each_of_200_slots_once() -> None:
    first = tables.present_slot()
    tables.create_partitions(first)
    with samplers.start(f"race(8, {first}, 200)") as process:
        assert process.stdout
        won = [int(line) for line in process.stdout]
    assert sorted(won) == claimed() == list(range(first, first + 200))


def test_second_tick_of_a_slot_does_nothing(clock: Clock, probes: dict[str, Probe]) -> None:
    assert sampling.tick() == clock.slot
    assert sampling.tick() is None


def test_clock_set_back_samples_no_slot_again(clock: Clock, probes: dict[str, Probe]) -> None:
    newest = clock.slot
    sampling.tick()
    for back in (1, 30, 100):
        clock.slot = newest - back
        assert sampling.tick() is None
    clock.slot = newest + 1
    assert sampling.tick() == newest + 1


def test_sample_crosses_midnight_into_a_new_partition(clock: Clock, probes: dict[str, Probe]) -> None:
    midnight = (clock.slot // tables.DAY_SLOTS + 40) * tables.DAY_SLOTS
    for clock.slot in (midnight - 1, midnight):
        assert sampling.tick() == clock.slot
    assert read.window("queue.depth", 10, midnight) == [(midnight - 1) % 1000, midnight % 1000]


def test_killed_sampler_leaves_a_gap_and_nothing_else(clock: Clock, probes: dict[str, Probe]) -> None:
    tables.create_partitions(clock.slot)
    first = clock.slot
    with samplers.start(f"hang({first})") as process:
        assert process.stdout
        assert process.stdout.readline() == "in the probe\n"
        process.kill()
    assert sampling.tick() is None  # the slot is taken, its sample is lost
    clock.slot += 1
    assert sampling.tick() == first + 1
    assert read.window("queue.depth", 10, first + 1) == [None, (first + 1) % 1000]


# -- probes and steps -------------------------------------------------------------------------------------------------


def test_failed_probe_is_missing_and_counted(clock: Clock, probes: dict[str, Probe]) -> None:
    def broken(_slot: int) -> dict[tuple[str, str], float | None]:
        raise ConnectionRefusedError("nobody listens")

    probes["valkey"] = broken
    sample = sampling.take()
    assert sample is not None
    assert sample.failed == {"valkey": "ConnectionRefusedError: nobody listens"}
    found = read.targets(clock.slot)
    assert found["valkey.latency"][""] is None
    assert found["probe.errors"][""] == 1
    assert found["queue.depth"][""] == clock.slot % 1000


def test_slow_probe_is_missing_and_holds_up_no_other(clock: Clock, probes: dict[str, Probe]) -> None:
    release = threading.Event()
    runs: list[int] = []

    def slow(slot: int) -> dict[tuple[str, str], float | None]:
        runs.append(slot)
        release.wait(60)
        return {("db.blocked", ""): 1}

    probes["slow"] = slow
    try:
        result = table.run(clock.slot, seconds=0.2)
        assert set(result.failed) == {"slow"}
        assert result.values == {("queue.depth", ""): clock.slot % 1000}
        again = table.run(clock.slot + 1, seconds=0.2)
        assert again.failed == {"slow": "still running since an earlier slot"}
        assert runs == [clock.slot]  # one thread hangs, not one more in each slot
    finally:
        release.set()
    table._running["slow"].result(60)
    assert table.run(clock.slot + 2).values[("db.blocked", "")] == 1


def test_statement_of_a_probe_ends_after_its_time(clock: Clock, probes: dict[str, Probe]) -> None:
    def sleeping(_slot: int) -> dict[tuple[str, str], float | None]:
        store.query("select pg_sleep(60)")
        return {}

    probes["database"] = sleeping
    table.run(clock.slot, seconds=0.2)
    assert "TookTooLong" in type(table._running["database"].exception(60)).__name__


def test_step_that_fails_stops_no_other(
    clock: Clock, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    followed: list[int] = []

    def broken(_slot: int) -> None:
        raise RuntimeError("a rule divides by zero")

    monkeypatch.setattr(sampling, "STEPS", (broken, followed.append))
    assert sampling.tick() == clock.slot
    assert followed == [clock.slot]
    assert "a rule divides by zero" in caplog.text


def test_every_probe_answers_on_a_running_system(clock: Clock) -> None:
    sample = sampling.take()
    assert sample is not None
    assert sample.failed == {}
    for name in ("db.latency", "db.connections", "log.head_lag", "valkey.reachable", "queue.depth", "conflicts.open"):
        assert sample.values[(name, "")] is not None, name
    assert all(name in METRICS for name, _ in sample.values)


def test_sample_is_one_frame_for_the_system_and_one_for_each_right(
    clock: Clock, probes: dict[str, Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    probes["product"] = lambda _slot: {("users.active", ""): 5, ("cpu.percent", "a"): 10, ("cpu.percent", "b"): 20}
    subscriber = publish.client().pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe(publish.channel())
    subscriber.get_message(timeout=5)
    monkeypatch.setattr(sampling, "PENDING", lambda slot: {"high_cpu": slot})
    clock.slot += 1
    sampling.tick()
    frames: list[Any] = []
    while len(frames) < 5:
        message = subscriber.get_message(timeout=5)
        assert message is not None, frames
        frames.append(publish.decode(message["data"]))
    subscriber.close()
    whole, *parts = frames
    assert (whole.topic, whole.event, whole.data["slot"]) == ("system", "system.metrics", clock.slot)
    assert whole.data["values"]["cpu.percent"] == 20
    assert whole.data["pending"] == {"high_cpu": clock.slot}
    assert whole.data["values"]["db.latency"] is None
    by_key = {part.key: part.data["values"] for part in parts}
    assert set(by_key) == set(sampling.widgets())
    assert "cpu.percent" not in by_key["metrics_user"]
    assert by_key["metrics_user"]["users.active"] == 5


def test_sampling_goes_on_without_valkey(clock: Clock, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    sample = sampling.take()
    assert sample is not None
    assert set(sample.failed) == {"sockets", "queue"}
    found = read.targets(clock.slot)
    assert found["valkey.reachable"][""] == 0
    assert found["sockets.open"][""] is None
    assert found["db.latency"][""] is not None


def test_watchers_learn_that_the_database_is_away_and_that_it_is_back() -> None:
    with samplers.start("without_database()") as process:
        assert process.stdout
        learned = process.stdout.read().split()
    assert process.returncode == 0
    assert learned == ["away", "away", "answers"]


# -- Celery -----------------------------------------------------------------------------------------------------------


def test_released_worker_samples_only_the_present_slot(clock: Clock, probes: dict[str, Probe]) -> None:
    """celery#3153, #591: after ten blocked minutes 120 queued tasks run; one sample is taken and none invented."""
    first = clock.slot
    for _ in range(120):
        celery_app.send_task("metrics.sample")
    celery_app.send_task("metrics.sample", expires=-1)
    clock.slot = first + 120
    done = threading.Event()
    asked: list[int] = []

    def count() -> int:
        asked.append(clock.slot)
        if len(asked) >= 120:
            done.set()
        return clock.slot

    tables.present_slot = count  # type: ignore[assignment] # `clock` restores it
    with worker_thread():
        assert done.wait(60)
    assert claimed() == [first + 120]
    window = read.window("queue.depth", 600, first + 120)
    assert window == [None] * 119 + [(first + 120) % 1000]


def test_scheduled_sample_expires_before_the_next_one_and_is_not_redelivered(settings: Any) -> None:
    entry = next(one for one in settings.CELERY_BEAT_SCHEDULE.values() if one["task"] == "metrics.sample")
    assert (entry["schedule"], entry["options"]["expires"]) == (5, 4)
    assert celery_app.tasks["metrics.sample"].acks_late is False


def test_frequent_samples_do_not_fill_the_log() -> None:
    quiet = log_filters.WithoutFrequentTasks()

    def kept(level: int, name: str) -> bool:
        return quiet.filter(logging.LogRecord("celery", level, "", 1, "%(name)s", ({"name": name},), None))

    assert not kept(logging.INFO, "metrics.sample")
    assert kept(logging.WARNING, "metrics.sample")
    assert kept(logging.INFO, "events.tasks.seal")


# -- the fallback -----------------------------------------------------------------------------------------------------


def test_fallback_takes_over_after_two_slots_without_a_sample(clock: Clock, probes: dict[str, Probe]) -> None:
    loop = fallback.Fallback()
    sampling.tick()
    first = clock.slot
    taken = []
    for clock.slot in range(first + 1, first + 7):
        taken.append(loop.step())
    assert taken == [None, None, first + 3, first + 4, first + 5, first + 6]


def test_fallback_stops_when_somebody_else_samples(clock: Clock, probes: dict[str, Probe]) -> None:
    loop = fallback.Fallback()
    assert loop.step() == clock.slot  # nobody has ever sampled
    clock.slot += 1
    sampling.tick()  # Celery is back
    assert loop.step() is None
    clock.slot += 1
    assert loop.step() is None


def test_one_process_holds_the_lease_of_the_fallback(clock: Clock, probes: dict[str, Probe]) -> None:
    one, other = fallback.Fallback(), fallback.Fallback()
    assert one.step() == clock.slot
    clock.slot += 5
    assert other.step() is None
    store.query("update metrics_lease set leased_until = clock_timestamp() - interval '1 second' returning 1")
    assert other.step() == clock.slot  # the first one was killed
    clock.slot += 5
    assert one.step() is None


@pytest.mark.parametrize("turn", [0.0, 1.0, 4.3])
def test_turn_of_a_slot_is_within_the_next_five_seconds(turn: float) -> None:
    before = store.query("select extract(epoch from clock_timestamp())::float")[0][0]
    pause = fallback.seconds_until(turn)
    after = store.query("select extract(epoch from clock_timestamp())::float")[0][0]
    assert 0 < pause <= 5
    first = (before + pause - turn) % 5
    assert first <= after - before + 1e-3 or first >= 5 - (after - before) - 1e-3


def test_loop_of_the_fallback_samples_until_it_is_stopped(probes: dict[str, Probe]) -> None:
    stop, sampled = threading.Event(), threading.Event()

    def probe(_slot: int) -> dict[tuple[str, str], float | None]:
        sampled.set()
        return {}

    probes["queue"] = probe
    thread = threading.Thread(target=fallback.run, args=(stop,))
    thread.start()
    assert sampled.wait(60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


# -- the command ------------------------------------------------------------------------------------------------------


def test_command_samples_once(clock: Clock, probes: dict[str, Probe], capsys: pytest.CaptureFixture[str]) -> None:
    call_command("check_alerts")
    call_command("check_alerts")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Slot {clock.slot}: 3 of {len(METRICS)} metrics."
    assert second == "Another process has sampled this slot."


def test_command_prints_json_with_null_for_missing_values(
    clock: Clock, probes: dict[str, Probe], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("check_alerts", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["slot"], found["values"]["queue.depth"]) == (clock.slot, clock.slot % 1000)
    assert found["values"]["cpu.percent"] is None


# -- positions --------------------------------------------------------------------------------------------------------


def test_positions_of_stored_metrics_never_change() -> None:
    """Append new metrics at the end of this list; a changed position gives stored values another meaning."""
    assert [name for name, metric in METRICS.items() if metric.group == "host"] == [
        "cpu.percent",
        "cpu.throttled",
        "memory.percent",
        "disk.free",
        "load.per_cpu",
        "host.skew",
    ]
    assert [name for name, metric in METRICS.items() if metric.group == "subscription"] == [
        "subscription.lag",
        "subscription.behind",
        "subscription.parked",
    ]
    assert {name: POSITIONS[name] for name in ("db.connections", "valkey.reachable", "requests.count")} == {
        "db.connections": 0,
        "valkey.reachable": 20,
        "requests.count": 30,
    }
    assert list(METRICS)[SIZES["cluster"] - 1] == "probe.errors"
    assert len(METRICS) == sum(SIZES.values())
