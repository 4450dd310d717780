"""Runners that are killed at any moment leave the counters exact; a batch costs a constant number of statements."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from devtools import processes
from events import commands, head, store
from events.db import pipeline
from events.subscriptions import progress
from events.subscriptions import runner as subscriptions
from events.types import new_id
from metrics.counters import applying
from metrics.counters.subscription import SUBSCRIPTION
from tests import factories
from tests.events import effects, killable
from tests.events.interleaving import LONG
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def forker() -> Iterator[killable.Forker]:
    made = killable.Forker(effects.database_url())
    yield made
    made.close()


@pytest.mark.timeout(600 if LONG else 120)
def test_runner_killed_in_a_loop_during_an_import_counts_each_submission_once(forker: killable.Forker) -> None:
    owner = factories.user()
    papers = [factories.form(owner) for _ in range(3)]
    counting.follow()
    kills, imported = 40 if LONG else 6, 0
    stop = threading.Event()

    def write() -> None:
        nonlocal imported
        while not stop.is_set():
            for paper in papers:
                counting.import_many(paper, 50)
                imported += 50
            counting.send(forms.DeleteForm(), papers[0])
            counting.send(forms.RestoreForm(), papers[0])

    def position() -> int:
        return store.query("select position from events_checkpoint where name = 'counters'")[0][0]

    writer = factories.Thread(write)
    try:
        for _ in range(kills):
            before, victim = position(), forker.fork("registered", "counters")
            assert processes.wait_until(lambda before=before: position() > before, 60)
            os.kill(victim, signal.SIGKILL)
            counting.demand_identity()
    finally:
        stop.set()
        writer.result(60)
    last = forker.fork("registered", "counters")
    progress.wait_for("counters", head.safe(), timeout=60)
    os.kill(last, signal.SIGKILL)
    assert counting.user_numbers(owner) == (3, imported, imported)
    counting.demand_fresh()
    counting.demand_identity()


def test_paused_runner_that_lost_its_lease_counts_nothing_twice() -> None:
    owner = factories.user()
    form = factories.form(owner)
    counting.follow()
    counting.receive(form)
    slow = subscriptions.acquire(SUBSCRIPTION, "slow", 0.001)
    assert counting.eventually(lambda: subscriptions.acquire(SUBSCRIPTION, "quick"))
    quick = subscriptions.acquire(SUBSCRIPTION, "quick")
    assert slow is not None
    assert quick is not None
    while subscriptions.step(SUBSCRIPTION, "quick", quick):
        pass
    with pytest.raises(counting.errors.LeaseLost):
        subscriptions.step(SUBSCRIPTION, "slow", slow)
    assert counting.user_numbers(owner) == (1, 1, 1)


def statements(count: int, key: object) -> int:
    """The number of statements of one batch that erases a user with `count` forms."""
    for _ in range(count):
        counting.import_many(factories.form(key), 2)
    counting.follow()
    counting.erase(key)
    events = store.read_all(counting.checkpoint(), 500, upto=head.safe(), types=SUBSCRIPTION.types)
    assert len(events) == count + 1
    seen = 0
    usual = pipeline.Pipeline.query, pipeline.Pipeline.queue

    def counted(method):
        def run(self, *arguments):
            nonlocal seen
            seen += 1
            return method(self, *arguments)

        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.Pipeline, "query", counted(usual[0]))
        patch.setattr(pipeline.Pipeline, "queue", counted(usual[1]))
        with pipeline.transaction():
            applying.handle(events)
    return seen


def test_erasing_an_owner_of_many_forms_takes_as_many_statements_as_one_of_few() -> None:
    """netbox#22497: a bulk deletion updated the counters once per child."""
    few, many = factories.user(), factories.user()
    assert statements(2, few) == statements(60, many) <= 10
    assert counting.user_numbers(few) == counting.user_numbers(many) == (0, 0, 0)


def test_wait_for_a_position_includes_the_submission_just_received(forker: killable.Forker) -> None:
    """sentry#57361: the pending part of a counter was never shown."""
    owner = factories.user()
    form = factories.form(owner)
    forker.fork("registered", "counters")
    for number in range(1, 6):
        key = new_id()
        result = commands.dispatch(factories.command(submissions.ReceiveSubmission(form_id=form, answers={}), key))
        progress.wait_for("counters", result.position, timeout=60)
        assert counting.user_numbers(owner) == (1, number, number)
