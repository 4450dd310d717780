"""Scheduled tasks are sent once for each turn, whoever sends them, and by nobody twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from celery import beat, current_app
from django.conf import LazySettings
from kombu.exceptions import OperationalError

from devtools import processes
from events import beat as our_beat
from events import schedule, store
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

ENTRIES = {
    "often": {"task": "test.often", "schedule": 3600, "options": {"expires": 4}},
    "daily": {"task": "test.daily", "schedule": 86400},
}


@pytest.fixture
def sent(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks that reach the queue."""
    settings.CELERY_BEAT_SCHEDULE = ENTRIES
    store.execute("truncate events_schedule")
    found: list[str] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, **_: found.append(name))
    return found


def next_turn() -> None:
    store.execute("update events_schedule set turn = turn - 1")


def test_each_turn_is_sent_once_by_any_number_of_senders(sent: list[str]) -> None:
    senders = [schedule.Sender() for _ in range(6)]
    for turns in (1, 2):
        threads = [factories.Thread(sender.tick) for sender in senders]
        pauses = [thread.result() for thread in threads]
        assert sorted(sent) == sorted(["test.often", "test.daily"] * turns)
        assert all(0 < pause <= schedule.LONGEST_PAUSE + schedule.AFTER for pause in pauses)
        next_turn()


def test_turn_stays_free_where_the_queue_cannot_be_reached(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("no broker")

    with monkeypatch.context() as broken:
        broken.setattr(current_app, "send_task", fail)
        with pytest.raises(OperationalError):
            schedule.Sender().tick()
    schedule.Sender().tick()
    assert sorted(sent) == ["test.daily", "test.often"]


def test_senders_that_take_turns_log_each_other_once(sent: list[str], caplog: pytest.LogCaptureFixture) -> None:
    first, second = schedule.Sender(), schedule.Sender()
    turns = [(first, second), (second, first)] * 3
    with caplog.at_level("INFO", "events.schedule"):
        for faster, slower in turns:
            faster.tick()
            slower.tick()
            next_turn()
    assert len(sent) == len(ENTRIES) * len(turns)
    text = "scheduled tasks: {} sends them too, each turn once"
    assert [record.getMessage() for record in caplog.records] == [text.format(first.name), text.format(second.name)]


def test_changed_interval_begins_at_once(sent: list[str], settings: LazySettings) -> None:
    schedule.Sender().tick()
    settings.CELERY_BEAT_SCHEDULE = {"often": ENTRIES["often"] | {"schedule": 86400}}
    schedule.Sender().tick()
    schedule.Sender().tick()
    assert sent.count("test.often") == 2


def test_clock_that_was_ahead_stops_no_task(sent: list[str]) -> None:
    schedule.Sender().tick()
    store.execute("update events_schedule set turn = turn + 1")
    schedule.Sender().tick()
    assert len(sent) == len(ENTRIES), "the next turn may just have begun"
    store.execute("update events_schedule set turn = turn + 1000")
    schedule.Sender().tick()
    schedule.Sender().tick()
    assert len(sent) == 2 * len(ENTRIES)


def test_celery_beat_takes_its_turns_with_the_others(sent: list[str]) -> None:
    service = beat.Service(current_app, scheduler_cls=current_app.conf.beat_scheduler)
    assert isinstance(service.scheduler, our_beat.Scheduler)
    schedule.Sender().tick()
    service.scheduler.tick()
    assert len(sent) == len(ENTRIES)
    next_turn()
    service.scheduler.tick()
    assert len(sent) == 2 * len(ENTRIES)
    service.scheduler.close()


def test_loop_sends_without_beat_and_stops(sent: list[str]) -> None:
    stop = threading.Event()
    loop = factories.Thread(lambda: schedule.run(stop))
    assert processes.wait_until(lambda: len(sent) == len(ENTRIES), 30)
    stop.set()
    loop.result()


def test_long_tasks_have_a_queue_of_their_own(settings: LazySettings) -> None:
    """Long is a task with a time limit of its own, above that of all others."""
    router, usual = current_app.amqp.Router(), current_app.conf.task_time_limit
    ours = {name: task for name, task in current_app.tasks.items() if not name.startswith("celery.")}
    queues = {name: router.route({}, name)["queue"].name for name in ours}
    assert queues == {
        name: settings.LONG_QUEUE if (task.time_limit or 0) > usual else settings.CELERY_TASK_DEFAULT_QUEUE
        for name, task in ours.items()
    }
    assert set(queues.values()) == set(current_app.amqp.queues.consume_from)
    longest = max(task.time_limit or usual for task in ours.values())
    assert longest < current_app.conf.broker_transport_options["visibility_timeout"]
