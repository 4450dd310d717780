"""The checks of the processes beside the web, in `/readyz`, `doctor` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from backoffice import health
from events import store
from events.integrity import seals
from events.subscriptions import checkpoints
from metrics.monitoring import liveness
from metrics.monitoring.findings import Finding
from metrics.monitoring.history import tables, write
from realtime import prometheus
from tests import factories

pytestmark = pytest.mark.usefixtures("own_database")  # other tests leave checkpoints and unsealed events

REPORT = """
insert into metrics_process (process, kind, host, started_at, reported_at, active_at, host_values, counts, buckets,
                             people)
values (%(kind)s || '-1', %(kind)s, 'a', now(), now() - %(age)s * interval '1 s', now() - %(idle)s * interval '1 s',
        '{}', %(counts)s::bigint[], '{}', '{}')
on conflict (process) do update set reported_at = excluded.reported_at, active_at = excluded.active_at
"""
SENT = """
insert into events_schedule (name, seconds, turn, sender, sent_at)
values ('seal', 5, 1, 'a', now() - make_interval(secs => %(age)s))
on conflict (name) do update set sent_at = excluded.sent_at
"""
LEASE = """
insert into events_checkpoint (name, position, owner, leased_until, updated_at, fence, epoch)
values (%s, 0, 'a:1:x', now() + interval '1 minute', now(), 1, (select epoch from events_epoch))
"""


def report(kind: str, age: float = 0, idle: float = 0) -> None:
    store.query(f"{REPORT} returning 1", {"kind": kind, "age": age, "idle": idle, "counts": [10, 1, 7, 2, 0, 0]})


def send(age: float = 0) -> None:
    store.query(f"{SENT} returning 1", {"age": age})


def sample(age: int = 0, queue: float | None = 0) -> None:
    slot = tables.present_slot() - age // 5
    tables.create_partitions(slot)
    write.values(slot, {("queue.age", ""): queue})


def all_alive() -> None:
    report("worker")
    report("beat")
    send()
    sample()
    for known in checkpoints.registered():
        for name in known.checkpoints:
            store.query(f"{LEASE} returning 1", (name,))


def ready() -> tuple[int, str, dict[str, str]]:
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()["status"], answer.json()["checks"]


def test_readyz_is_ok_while_everything_lives() -> None:
    all_alive()
    status, text, checks = ready()
    assert (status, text) == (200, "ok"), checks


def test_fresh_installation_is_ready_and_names_what_is_missing() -> None:
    status, text, checks = ready()
    assert (status, text) == (200, "degraded")
    assert {name: checks[name] for name in liveness.CHECKS} == {
        "worker": "missing",
        "beat": "missing",
        "subscriptions": "missing",
        "samples": "missing",
        "queue": "unknown",
        "seals": "ok",
    }


EXPIRE = "update events_checkpoint set leased_until = now() - interval '1 second' returning 1"
BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "worker": (lambda: report("worker", age=61), "dead"),
    "beat": (lambda: send(age=61), "dead"),
    "subscriptions": (lambda: store.query(EXPIRE), "dead"),
    "queue": (lambda: store.query("delete from metrics_sample returning 1") and sample(queue=601), "stuck"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_dead_part_makes_readyz_degraded_and_doctor_wrong(name: str) -> None:
    all_alive()
    assert liveness.finding(name)() == Finding(name, "ok", "ok")
    break_it, state = BROKEN[name]
    break_it()
    status, text, checks = ready()
    assert (status, text, checks[name]) == (200, "degraded", state)
    found = liveness.finding(name)()
    assert (found.state, found.text) == ("wrong", f"{state}: {liveness.REMEDIES[name]}")


def test_subscription_that_retries_is_named() -> None:
    all_alive()
    store.query("update events_checkpoint set error = 'ValueError' where name = 'relay' returning 1")
    assert ready()[2]["subscriptions"] == "failing"


def test_old_sample_is_late_and_says_nothing_about_the_queue() -> None:
    sample(age=60)
    _status, _text, checks = ready()
    assert (checks["samples"], checks["queue"]) == ("late", "unknown")
    assert liveness.finding("samples")().state == "wrong"
    assert liveness.finding("queue")().state == "note"


def test_event_that_waits_for_its_seal_is_late() -> None:
    factories.user()
    assert liveness.seals(store.query) == "ok"
    aged = [[liveness.UNSEALED_SECONDS + 1.0]]
    assert liveness.seals(lambda _sql: aged) == "late"
    seals.seal()
    assert liveness.seals(store.query) == "ok"


@pytest.mark.parametrize(
    "statement",
    ["select pg_cancel_backend(pg_backend_pid()), pg_sleep(60)", "select 1 / 0", "select dropped from events_epoch"],
)
def test_state_that_cannot_be_read_is_unknown_and_not_a_failure(
    monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    def failing(run: health.Run) -> str:
        run(statement)
        return "ok"

    monkeypatch.setitem(health._checks, "failing", failing)
    status, _text, checks = ready()
    assert (status, checks["database"], checks["failing"]) == (200, "ok", "unknown")
    assert checks["seals"] != "unknown", "the other checks are made nevertheless"


def test_metrics_have_the_counters_of_every_process_and_the_checks() -> None:
    all_alive()
    text = Client().get("/metrics", REMOTE_ADDR="127.0.0.1").content.decode()
    for line in (
        'formease_process_tasks_total{host="a",kind="worker",process="worker-1"} 7.0',
        'formease_process_failed_tasks_total{host="a",kind="worker",process="worker-1"} 2.0',
        'formease_process_requests_total{host="a",kind="beat",process="beat-1"} 10.0',
        'formease_check_ok{check="beat"} 1.0',
        'formease_check_ok{check="database"} 1.0',
        'formease_check_ok{check="seals"} 1.0',
    ):
        assert line in text.splitlines(), line
    assert prometheus.COLLECTORS.keys() >= {"samples", "processes", "checks"}
