"""Jobs: requested once by a known actor, run by a real worker, cancelled by a person with the right."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from django.conf import settings
from django.db import connection as django_connection

from backoffice import celery_app
from devtools import processes
from events import context, errors, jobs, store, tasks, types, valkey
from events.db import grants
from events.integrity import seals, verify
from events.rebuild import builder as rebuild
from events.rebuild import cancellation, read_tables
from events.rebuild.read_tables import RebuildProgress
from metrics.monitoring import overview
from tests import factories, live
from tests.factories import Thread

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]


@pytest.fixture
def worker() -> Iterator[None]:
    live.purge_queues()
    with live.worker_thread():
        yield


def until(done: threading.Event, seconds: float = 30) -> None:
    assert done.wait(seconds)


def state(table: str) -> str:
    return next(one.state for one in overview.read_tables() if one.name == table)


def names(stream: str) -> list[tuple[str, str]]:
    return [(event.type, event.actor) for event in store.read_stream(stream)]


@pytest.mark.filterwarnings("ignore")  # warnings about a worker in a thread do not concern this code
def test_worker_runs_a_request_and_the_event_names_its_actor(worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    person = factories.user(first_name="Ada")
    store.execute("update users set first_name = 'Damaged'")
    done = threading.Event()
    for name in ("do_rebuild", "do_verification"):
        real = getattr(jobs, name)
        monkeypatch.setattr(jobs, name, lambda *a, real=real: (real(*a), done.set())[0])
    with context.acting(actor="staff:7"):
        jobs.request_rebuild("users")
    until(done)
    assert store.query("select first_name from users where id = %s", (person,)) == [("Ada",)]
    assert state("users") == "idle"
    assert names("rebuild-users") == [("rebuild.requested", "staff:7")]
    done.clear()
    seals.seal()
    with context.acting(actor="staff:8"):
        jobs.request_verification()
    until(done)
    result, asked = jobs.last_verification()
    assert asked is None
    assert result is not None
    assert (result.data["ok"], result.data["total"], result.actor) == (True, 0, "staff:8")
    assert result.data["events"] >= 1


def test_request_waits_for_a_worker_and_can_be_cancelled(own_database: None) -> None:
    factories.user()
    request = jobs.request_rebuild("users")
    assert state("users") == "waits"
    jobs.cancel_rebuild("users")
    assert state("users") == "idle"
    assert jobs.do_rebuild("users", request.version) is None
    assert read_tables.progress()[-1].phase == "none"
    with pytest.raises(errors.RebuildRefused):
        jobs.cancel_rebuild("users")
    with pytest.raises(errors.RebuildRefused):
        jobs.request_rebuild("nothing")


def test_only_the_latest_request_runs_and_a_repeated_task_runs_it_once() -> None:
    factories.user()
    first, second = jobs.request_rebuild("users"), jobs.request_rebuild("users", fresh=True)
    assert jobs.do_rebuild("users", first.version) is None
    done = jobs.do_rebuild("users", second.version)
    assert done is not None
    assert done.phase == "done"
    tasks.rebuild("users", second.version)  # harmless: it derives the same table again
    assert state("users") == "idle"


def test_running_rebuild_refuses_a_second_one_and_can_be_cancelled_and_resumed() -> None:
    for _ in range(30):
        factories.user()
    built, cancelled = threading.Event(), threading.Event()

    def pause(now: RebuildProgress) -> None:
        if now.events == 20:
            built.set()
            cancelled.wait(30)

    builder = Thread(lambda: rebuild.rebuild("users", batch=10, report=pause))
    until(built)
    assert state("users") == "running"
    with pytest.raises(errors.RebuildRefused):
        jobs.request_rebuild("users")
    jobs.cancel_rebuild("users")
    cancelled.set()
    with pytest.raises(errors.LeaseLost):
        builder.result()
    assert state("users") == "interrupted"
    now = jobs.progress_of("users")
    assert (now.error, now.running, now.events) == ("cancelled", False, 20)
    assert (
        jobs.do_rebuild("users", jobs.request_rebuild("users").version).events == 30
    )  # 30 and not 50: it resumed after the first 20
    assert len(store.query("select 1 from users")) == 30
    assert names("rebuild-users") == [("rebuild.cancelled", "system"), ("rebuild.requested", "system")]


def test_cancellation_interrupts_a_long_statement_of_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.user()
    monkeypatch.setattr(cancellation, "CANCEL_LOCK_TIMEOUT", "50ms")
    inside = threading.Event()
    real = rebuild.Builder.project

    def slow(self: rebuild.Builder, events: list) -> None:
        inside.set()
        store.query("select pg_sleep(60)")
        real(self, events)

    monkeypatch.setattr(rebuild.Builder, "project", slow)
    builder = Thread(lambda: rebuild.rebuild("users"))
    until(inside)
    while not store.query(
        "select 1 from pg_stat_activity where query like 'select pg_sleep(60)%%' and state = 'active'"
    ):
        pass
    jobs.cancel_rebuild("users")
    with pytest.raises(errors.EventsError):
        builder.result()
    assert state("users") == "interrupted"


def test_rebuild_request_of_a_role_that_does_not_own_the_table_is_refused() -> None:
    role = f"app_{types.new_id().hex}"
    store.execute(f"create role {role}")
    grants.grant(role)
    store.execute(f"set role {role}")
    try:
        with pytest.raises(errors.RebuildRefused, match="does not own users"):
            jobs.request_rebuild("users")
        assert store.version_of("rebuild-users") == 0
    finally:
        store.execute("reset role")
        store.execute(f"drop owned by {role}")
        store.execute(f"drop role {role}")


def test_unreachable_queue_is_reported_and_the_request_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_app.conf, "broker_write_url", "redis://127.0.0.1:1/0")
    monkeypatch.setattr(celery_app, "_pool", None)  # Celery would keep its open connections
    celery_app.__dict__.pop("amqp", None)  # and its open producers
    try:
        with pytest.raises(jobs.QueueUnavailable):
            jobs.request_rebuild("users")
    finally:
        celery_app.__dict__.pop("amqp", None)
    assert state("users") == "waits"


# -- lost workers: they took their tasks from the queue, and were killed ----------------------------------------------


@pytest.fixture
def empty_queue() -> Iterator[None]:
    live.purge_queues()
    yield
    live.purge_queues()


def test_task_of_an_unfinished_job_is_sent_again_unless_it_waits_in_the_queue(empty_queue: None) -> None:
    factories.user()
    version = jobs.request_rebuild("users").version
    checked = jobs.request_verification().version
    assert tasks.resume_jobs() == []
    live.purge_queues()
    lost = [f"events.tasks.rebuild users {version}", f"events.tasks.verify_log {checked}"]
    assert tasks.resume_jobs() == lost
    assert tasks.resume_jobs() == [], "they wait"
    live.purge_queues()
    tasks.rebuild("users", version)
    tasks.verify_log(checked)
    assert tasks.resume_jobs() == []
    built = jobs.progress_of("users")
    tasks.rebuild("users", version)
    tasks.verify_log(checked)
    assert jobs.progress_of("users") == built
    assert names(jobs.VERIFICATION)[1:] == [("verification.finished", "system")]


def test_queue_is_read_once_however_many_tasks_were_lost(empty_queue: None) -> None:
    def reads() -> int:
        found = valkey.shared_client("queue").info("commandstats").get("cmdstat_lrange", {"calls": 0})
        return int(found["calls"])

    lost: list[jobs.Task] = [("events.tasks.rebuild", ["users", number]) for number in range(20)]
    before = reads()
    assert jobs.send_again(lost) == lost
    assert jobs.send_again(lost) == [], "they wait"
    assert reads() == before + 2


def test_malformed_message_in_the_queue_does_not_keep_a_job_from_being_sent_again(empty_queue: None) -> None:
    checked = jobs.request_verification().version
    live.purge_queues()
    queue, client = valkey.broker_key(settings.LONG_QUEUE), valkey.shared_client("queue")
    named = '{"headers": {"task": "events.tasks.verify_log"}, "body": %s}'
    malformed = ["no JSON", "[]", "{}", '{"headers": null}', named % '"?"', named % "null", named % '"e30="']
    client.rpush(queue, *malformed)
    try:
        assert tasks.resume_jobs() == [f"events.tasks.verify_log {checked}"]
        assert tasks.resume_jobs() == [], "it waits, among the malformed ones"
    finally:
        client.delete(queue)


def test_rebuild_that_failed_or_was_cancelled_is_not_sent_again(
    empty_queue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.user()
    version = jobs.request_rebuild("users").version

    def fail(*_: object) -> None:
        raise errors.InvalidEvent("broken")

    with monkeypatch.context() as broken:
        broken.setattr(rebuild.Builder, "project", fail)
        tasks.rebuild("users", version)
    live.purge_queues()
    assert "broken" in str(jobs.progress_of("users").error)
    assert tasks.resume_jobs() == []
    jobs.request_rebuild("users")
    live.purge_queues()
    assert len(tasks.resume_jobs()) == 1
    live.purge_queues()
    jobs.cancel_rebuild("users")
    assert tasks.resume_jobs() == []


def test_failed_check_of_the_log_is_shown_and_not_repeated(empty_queue: None, monkeypatch: pytest.MonkeyPatch) -> None:
    failure: Exception = ZeroDivisionError("a bug")

    def fail() -> None:
        raise failure

    monkeypatch.setattr(verify, "verify", fail)
    version = jobs.request_verification().version
    with pytest.raises(ZeroDivisionError):
        jobs.do_verification(version)
    failed = jobs.failed_verification()
    assert failed is not None
    assert failed.data == {"error": "ZeroDivisionError"}
    assert jobs.last_verification() == (None, None)
    live.purge_queues()
    assert tasks.resume_jobs() == []
    version, failure = jobs.request_verification().version, errors.StoreUnavailable()
    with pytest.raises(errors.StoreUnavailable):
        jobs.do_verification(version)
    assert jobs.failed_verification() is None
    live.purge_queues()
    assert len(tasks.resume_jobs()) == 1, "the next worker may reach the database"


def test_log_is_verified_by_one_worker_at_a_time(empty_queue: None) -> None:
    version = jobs.request_verification().version
    with psycopg.connect(live.database_url(django_connection.settings_dict["NAME"])) as other:
        other.execute(jobs.TRY_VERIFYING)
        assert jobs.is_verifying()
        assert jobs.do_verification(version) is None
        assert tasks.resume_jobs() == []
    assert processes.wait_until(lambda: not jobs.is_verifying(), 30), (
        "the lock ends with the session of a killed worker"
    )
    assert jobs.do_verification(version) is not None
    assert not jobs.is_verifying()
