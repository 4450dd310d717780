"""A task acts for the person who requested it: the context passes through a real broker to a real worker."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from backoffice import celery_app
from backoffice.sections.users.domain import UserUpdated
from events import context, store, tasks
from events.types import new_id
from tests import live

pytestmark = pytest.mark.django_db(transaction=True)

done = threading.Event()


@celery_app.task(name="tests.append")
def append(stream: str) -> None:
    try:
        store.append(stream, [UserUpdated(first_name="Ada")])
    finally:
        done.set()


@pytest.fixture
def worker() -> Iterator[None]:
    done.clear()
    with live.worker_thread():
        yield


@pytest.mark.filterwarnings("ignore")
def test_worker_in_a_thread_keeps_logging_and_output_unchanged() -> None:
    def state() -> tuple[object, ...]:
        root = logging.getLogger()
        return root.level, list(root.handlers), logging.getLogger("celery").propagate, sys.stdout, sys.stderr

    before = state()
    with live.worker_thread():
        assert state() == before
    assert state() == before


@pytest.mark.filterwarnings("ignore")  # the worker in a thread warns about settings that are irrelevant here
def test_task_acts_as_the_person_who_requested_it(worker: None) -> None:
    stream = f"user-{new_id()}"
    with context.acting(actor="staff:7", reason="asked on the phone") as asked:
        append.delay(stream)
    assert done.wait(30)
    event = store.read_stream(stream)[0]
    assert (event.actor, event.reason, event.correlation_id) == (asked.actor, asked.reason, asked.correlation_id)
    assert context.current().actor == context.SYSTEM


def test_tasks_create_partitions_and_delete_old_answers() -> None:
    assert tasks.create_partitions() >= 0
    store.query(
        """insert into events_command (id, fingerprint, result, created_at)
           values (%s, '', '{}', now() - interval '91 days'), (%s, '', '{}', now()) returning 1""",
        (new_id(), new_id()),
    )
    assert tasks.forget_commands() == 1
    assert tasks.forget_commands() == 0


def test_visibility_timeout_exceeds_every_time_limit() -> None:
    longest = max(task.time_limit or celery_app.conf.task_time_limit for task in celery_app.tasks.values() if task.name)
    assert longest >= tasks.LONG_SECONDS
    assert celery_app.conf.broker_transport_options["visibility_timeout"] > longest
