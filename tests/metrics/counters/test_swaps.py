"""Comparisons, refreshes and rebuilds at the same time, while others write: no false difference is found."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from events import errors, store
from events.rebuild import builder
from events.subscriptions import runner as subscriptions
from metrics.counters import reconcile
from metrics.counters.subscription import SUBSCRIPTION
from metrics.materialized import refresh, views
from tests import factories
from tests.events.interleaving import LONG
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("counters", "submissions", "forms", "users")


def test_no_difference_is_found_while_tables_are_swapped() -> None:
    papers = [factories.form() for _ in range(20)]
    for paper in papers:
        counting.receive(paper)
    counting.follow()
    stop, compared = threading.Event(), list[str]()

    def repeated(work: Callable[[random.Random], object], seed: int) -> factories.Thread:
        def loop() -> None:
            dice = random.Random(seed)
            while not stop.is_set():
                work(dice)
                stop.wait(0.02)  # without a pause the three leave no time to the rebuilds that they meet

        return factories.Thread(loop)

    def write(dice: random.Random) -> None:
        paper = dice.choice(papers)
        answer = counting.receive(paper, seconds=dice.random())
        if dice.random() < 0.3:
            counting.send(dice.choice([forms.DeleteForm(), forms.RestoreForm()]), paper)
            counting.send(submissions.DeleteSubmission(), answer)

    def compare(_dice: random.Random) -> None:
        outcome = reconcile.reconcile()
        assert outcome is not None
        assert outcome.differences == []
        compared.append(outcome.state)

    def refreshed(_dice: random.Random) -> None:
        outcome = refresh.refresh(views.DAILY, force=True)
        assert outcome.status in ("refreshed", "busy"), outcome
        assert not outcome.differences

    runner = factories.Thread(lambda: subscriptions.run(SUBSCRIPTION, stop))
    threads = [repeated(write, 1), repeated(compare, 2), repeated(refreshed, 3)]
    try:
        for number in range(100 if LONG else 12):
            try:
                builder.rebuild(TABLES[number % len(TABLES)], patience=20)
            except errors.RebuildRefused:
                continue
        assert counting.eventually(lambda: len(compared) >= 3)
    finally:
        stop.set()
        for thread in [*threads, runner]:
            thread.result()
    counting.follow()
    counting.demand_identity()
    counting.demand_fresh()
    assert store.query("select count(*) from metrics_reconciliation where state = 'different'") == [(0,)]
