"""Task names and arguments are a contract: during a deploy, workers of two releases serve the same queues.

`task_contract.json` has the parameters of every task. A task in it is not renamed, and accepts the arguments that it
has there. Change it in two releases: the first one accepts the new name or argument, with a default; the second one
sends it. A line is removed one release after the last one that sent its task.
"""

from __future__ import annotations

import base64
import inspect
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import current_app, signals
from django.conf import settings

from backoffice import celery, models
from backoffice.sections.privacy import erasure, export_jobs
from backoffice.sections.users import domain as users
from devtools import processes
from events import commands, context, jobs, store, valkey
from tests import factories, live

pytestmark = [pytest.mark.django_db(transaction=True)]

CONTRACT: dict[str, list[str]] = json.loads(Path(__file__).with_name("task_contract.json").read_text())


def ours() -> dict[str, Any]:
    """The tasks of the product; tests of the same process define others."""
    current_app.loader.import_default_modules()
    return {name: task for name, task in current_app.tasks.items() if name.partition(".")[0] not in {"celery", "tests"}}


@pytest.mark.parametrize("name", CONTRACT)
def test_task_of_the_contract_exists_and_accepts_its_arguments(name: str) -> None:
    assert name in ours(), "a message of the previous release would be dropped"
    inspect.signature(ours()[name].run).bind(*CONTRACT[name])


def test_contract_has_every_task_with_all_its_parameters() -> None:
    """A parameter that is not in it could be sent to a worker of the previous release."""
    assert {name: list(inspect.signature(task.run).parameters) for name, task in ours().items()} == CONTRACT


def test_schedule_sends_tasks_of_the_contract_without_arguments() -> None:
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        assert CONTRACT[entry["task"]] == []
        assert entry.keys() <= {"task", "schedule", "options"}


def sent_by(act: Callable[[], object]) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """Name and arguments of the messages that `act` puts into the queues, which are empty before and afterwards."""
    queue, names = valkey.shared_client("queue"), [valkey.broker_key(name) for name in settings.CELERY_TASK_QUEUES]
    queue.delete(*names)
    act()
    found = []
    for message in (json.loads(text) for name in names for text in queue.lrange(name, 0, -1)):
        arguments, named, _ = json.loads(base64.b64decode(message["body"]))
        found.append((message["headers"]["task"], arguments, named))
    queue.delete(*names)
    return found


def test_messages_of_this_release_have_the_arguments_of_the_contract(
    own_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a database of its own: the erasure waits for its worker, and would be finished by other tests."""
    person, erased = models.User.objects.get(pk=factories.user()), factories.user()
    monkeypatch.setattr(erasure, "AT_ONCE", 0)  # rows: the rest is sent to a worker
    acts: list[Callable[[], object]] = [
        lambda: jobs.request_rebuild("users"),
        jobs.request_verification,
        lambda: export_jobs.request(person),
        lambda: commands.dispatch(factories.command(users.EraseUser(), erased, reason="asked")),
    ]
    for act in acts:
        ((name, arguments, named),) = sent_by(act)
        assert (len(arguments), named) == (len(CONTRACT[name]), {})


@pytest.mark.filterwarnings("ignore")  # warnings about a worker in a thread do not concern this code
def test_message_of_an_earlier_release_is_run_for_the_person_who_requested_it(own_database: None) -> None:
    """The message is one that release 1.0 put into the queue; its stream, context and reason are of this test."""
    with context.acting(actor="staff:7"):
        sent_by(jobs.request_verification)
    message = json.loads(Path(__file__).with_name("queued_task.json").read_text())
    valkey.shared_client("queue").lpush(valkey.broker_key(settings.LONG_QUEUE), json.dumps(message))
    with live.worker_thread():
        assert processes.wait_until(lambda: jobs.last_verification()[1] is None, 30)
    assert [event.actor for event in store.read_stream(jobs.VERIFICATION)] == ["staff:7", "staff:7"]


def test_second_sigterm_does_not_send_a_second_sigquit() -> None:
    def timers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == celery.STOP_TIMER]

    try:
        for _ in range(2):
            signals.worker_shutting_down.send(sender=None, sig="SIGTERM", how="Warm", exitcode=0)
        assert len(timers()) == 1
    finally:
        for timer in timers():
            assert isinstance(timer, threading.Timer)
            timer.cancel()
            timer.join()
