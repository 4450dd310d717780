"""A deploy replaces the workers: every job that one of them runs is finished by the next one, with its effect once.

1  request an export, a rebuild, a check of the log, the purge of an erasure and a refresh of the views
2  hold a lock that each of them needs, so that a worker is in the middle of all five
3  end the worker, in one of the ways in which a deploy or a failure does
4  start the next one; where the worker could not return its tasks, the schedule sends what resumes them
5  compare: each job is done, once; also after the tasks of a killed worker are delivered again, hours later
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest
from celery import current_app
from django.conf import settings
from django.db import connection
from django.utils import timezone

from backoffice import models
from backoffice.sections.privacy import erasure, export_jobs
from backoffice.sections.privacy.models import PersonExport
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from devtools import processes
from events import commands, jobs, store, valkey
from events.export_reads import ExportReads
from events.integrity import seals
from events.types import Command, new_id
from metrics.materialized import views
from metrics.monitoring import overview
from tests import factories, live
from tests.events.interleaving import LONG

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]

SECONDS = 20.0
RESUMING = (
    "events.tasks.resume_jobs",
    "backoffice.sections.privacy.tasks.resume_exports",
    "events.tasks.finish_erasures",
)
REFRESH = "metrics.materialized.tasks.refresh_views"
UNACKED, UNACKED_INDEX = valkey.broker_key("unacked"), valkey.broker_key("unacked_index")

# What each job waits for. A rebuild tries again and again to lock its table.
LOCKS = """
lock table person_export_parts in share mode;
lock table events_seal in access exclusive mode;
lock table events_snapshot in share mode;
lock table metrics_view in share mode;
lock table users in access share mode;
"""
SESSIONS = "select 1 from pg_stat_activity where datname = current_database() and application_name = 'worker'"
WAITING = """
select distinct l.relation::regclass::text from pg_locks l join pg_database d on d.oid = l.database
 where not l.granted and d.datname = current_database()
"""
BLOCKED = {"person_export_parts", "events_seal", "events_snapshot", "metrics_view"}


class Worker:
    """A worker with a process for each job, on the database and the Valkey of this test."""

    def __init__(self, **environment: str) -> None:
        with (Path(os.environ["DATA_DIR"]) / "worker.log").open("ab") as output:
            self.process = self._start(environment, output)

    def _start(self, environment: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            processes.child_command(
                [sys.executable, "-m", "celery", "-A", "backoffice", "worker", "-c", "5", "--without-mingle"],
                orphan_signal=signal.SIGKILL,
            ),
            cwd=live.PROJECT,
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": "tests.live_settings",
                "DATABASE_URL": live.database_url(connection.settings_dict["NAME"]),
                "DEBUG": "1",
                "SERVICE_NAME": "worker",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Kill all its processes, as a service manager or a power cut does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    started: list[Worker] = []
    live.purge_queues()
    queue = valkey.shared_client("queue")
    queue.delete(UNACKED, UNACKED_INDEX)
    yield started
    for worker in started:
        worker.kill()
    queue.delete(UNACKED, UNACKED_INDEX)


def person(records: int) -> uuid.UUID:
    key = factories.user()
    form = factories.form(key)
    received = [submissions.ReceiveSubmission(form_id=form, answers={"n": str(n)}) for n in range(records)]
    commands.dispatch_many([Command(id=new_id(), key=str(new_id()), data=data) for data in received])
    return key


def left_in_queue() -> tuple[int, int]:
    """The number of tasks that wait, and of those that a worker has and has not acknowledged."""
    queue = valkey.shared_client("queue")
    waiting = sum(queue.llen(valkey.broker_key(name)) for name in settings.CELERY_TASK_QUEUES)
    return waiting, queue.hlen(UNACKED)


def outcome() -> dict[str, Any]:
    """The state of all five jobs; what a job that runs twice would change is in it."""
    rebuilt = jobs.progress_of("users")
    return {
        "export": PersonExport.objects.values_list("records", "error").get(),
        "exported": PersonExport.objects.filter(finished_at=None).count() == 0,
        "rebuild": (rebuilt.phase, rebuilt.events, rebuilt.error),
        "verified": [event.type for event in store.read_stream(jobs.VERIFICATION)],
        "purged": store.query(
            "select count(*) filter (where purged_at is null) from events_subject_key where erased_at is not null"
        ),
        "views": store.query("select name, number, error from metrics_view order by name"),
    }


# How the workers end, one after the other.
WAYS = [("stopped", "killed"), *([("finishing",)] if LONG else [])]


@pytest.mark.parametrize("ways", WAYS, ids="-".join)
def test_jobs_of_replaced_workers_are_finished_once_by_the_next_one(
    ways: tuple[str, ...], workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, erased = person(20), person(2)
    monkeypatch.setattr(erasure, "AT_ONCE", 0)  # rows: the rest is sent to a worker
    commands.dispatch(factories.command(users.EraseUser(), erased, reason="asked"))  # 1
    seals.seal()
    wanted = export_jobs.request(models.User.objects.get(pk=exported))
    assert export_jobs.advance(wanted.pk, ExportReads()), "the first part is made, a worker makes the others"
    jobs.request_rebuild("users")
    jobs.request_verification()
    jobs.send(REFRESH)
    created = len(store.query("select 1 from events_event where stream like 'user-%%'"))
    for way in ways:
        replace(way, workers)  # 2 and 3
    if ways[-1] == "killed":  # 4
        for task in (*RESUMING, REFRESH):
            jobs.send(task)
    workers.append(Worker())
    expected = {
        "export": (wanted.expected, ""),
        "exported": True,
        "rebuild": ("done", created, None),
        "verified": ["verification.requested", "verification.finished"],
        "purged": [(0,)],
        "views": [(name, 1, None) for name in sorted(view.name for view in views.VIEWS)],
    }
    processes.wait_until(lambda: outcome() == expected, SECONDS)  # 5
    assert outcome() == expected, log()
    document = json.loads(b"".join(export_jobs.download(PersonExport.objects.get(pk=wanted.pk))))
    numbers = sorted(int(one["answers"]["n"]) for one in document["submissions"])
    assert numbers == list(range(20))
    rebuilt = jobs.progress_of("users")
    deliver_again()
    assert processes.wait_until(lambda: left_in_queue() == (0, 0), SECONDS), log()
    assert outcome() == expected
    assert jobs.progress_of("users") == rebuilt, "a task that is delivered again does not build the table again"


def replace(way: str, workers: list[Worker]) -> None:
    """Start a worker, and end it in the middle of all jobs."""
    with psycopg.connect(live.database_url(connection.settings_dict["NAME"])) as blocker:
        blocker.execute(LOCKS)  # 2
        worker = Worker(WORKER_STOP_SECONDS="0" if way == "stopped" else "60")
        workers.append(worker)
        assert processes.wait_until(all_wait, SECONDS), log()
        assert state_of("users") == "running"
        assert jobs.is_verifying()
        if way == "killed":  # 3
            worker.kill()
        else:
            worker.process.terminate()
        if way != "finishing":
            worker.process.wait(SECONDS)
    worker.process.wait(SECONDS)
    assert processes.wait_until(lambda: not store.query(SESSIONS), SECONDS)
    assert left_in_queue() == {"stopped": (5, 0), "finishing": (0, 0)}.get(way, (0, 5)), log()
    if way in ("stopped", "killed"):
        assert state_of("users") == "interrupted"
        PersonExport.objects.update(updated_at=timezone.now() - export_jobs.SILENT)


def all_wait() -> bool:
    waiting = {name for (name,) in store.query(WAITING)}
    return waiting >= BLOCKED and jobs.progress_of("users").phase in {"indexing", "catching up"}


def state_of(table: str) -> str:
    return next(one.state for one in overview.read_tables() if one.name == table)


def deliver_again() -> None:
    """Deliver the tasks that were not acknowledged, as Celery does after the visibility timeout."""
    with current_app.connection_for_write() as broker:
        for tag in valkey.shared_client("queue").hkeys(UNACKED):
            broker.default_channel.qos.restore_by_tag(tag.decode())


def log() -> str:
    """The output of all workers of this test."""
    return (Path(os.environ["DATA_DIR"]) / "worker.log").read_text()
