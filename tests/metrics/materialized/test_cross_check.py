"""The daily view is compared with the counters in the snapshot of its refresh."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from typing import Any

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from events import store
from events.types import new_id
from metrics.counters.models import Reconciliation
from metrics.management.commands import doctor
from metrics.materialized import cross_check, read, refresh, views
from tests import factories
from tests.metrics.counters import counting
from tests.metrics.materialized import scenes

pytestmark = pytest.mark.django_db(transaction=True)


def history(rng: random.Random, count: int) -> None:
    """Create forms and submissions of the last months, delete some, and correct the time of some."""
    people = [factories.user(plan=rng.choice(["free", "premium"])) for _ in range(3)]
    papers = [_form(rng, rng.choice(people)) for _ in range(3)]
    answers = [_answer(rng, rng.choice(papers)) for _ in range(3)]
    for _ in range(count):
        match rng.randrange(6):
            case 0:
                papers.append(_form(rng, rng.choice(people)))
            case 1:
                counting.send(forms.DeleteForm(), rng.choice(papers))
            case 2:
                counting.send(submissions.DeleteSubmission(), rng.choice(answers))
            case 3:
                moment = counting.ago(hours=rng.randint(1, 2_000))
                corrected = submissions.CorrectSubmission(created_at=moment, completion_time=rng.random() * 100)
                counting.send(corrected, rng.choice(answers))
            case _:
                answers.append(_answer(rng, rng.choice(papers)))


def _form(rng: random.Random, owner: Any) -> Any:
    key = new_id()
    counting.send(forms.CreateForm(user_id=owner, title="F", created_at=counting.ago(hours=rng.randint(0, 3_000))), key)
    return key


def _answer(rng: random.Random, paper: Any) -> Any:
    return counting.receive(paper, counting.ago(minutes=rng.randint(0, 200_000)), rng.choice([None, 0.1, 12.7]))


def test_view_equals_counters_that_are_behind() -> None:
    """The events that are not counted yet are folded in the same snapshot, however many there are."""
    rng = random.Random(1)
    factories.user()
    counting.follow()
    for _ in range(6):
        history(rng, 15)
        counting.follow(limit=rng.randint(1, 20))
        outcome = refresh.refresh(views.DAILY, force=True)
        assert (outcome.status, outcome.differences) == ("refreshed", 0)
    assert sum(day.submissions for day in read.daily().items) > 5
    assert doctor.views().state != "wrong"


def test_view_equals_counters_while_writers_and_the_runner_work() -> None:
    factories.user()
    counting.follow()
    stop, wrote = threading.Event(), threading.Semaphore(0)

    def write(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            history(rng, 4)
            wrote.release()

    def count() -> None:
        while not stop.is_set():
            counting.follow(limit=7)

    threads = [factories.Thread(lambda n=n: write(n)) for n in range(2)] + [factories.Thread(count)]
    try:
        for _ in range(8):
            assert wrote.acquire(timeout=30)
            outcome = refresh.refresh(views.DAILY, force=True)
            assert (outcome.status, outcome.differences) == ("refreshed", 0)
    finally:
        stop.set()
    for thread in threads:
        thread.result()


def test_difference_is_stored_with_day_and_both_numbers() -> None:
    paper = factories.form()
    counting.receive(paper, scenes.noon(2), 1.5)
    counting.follow()
    day = scenes.today() - timedelta(days=2)
    store.execute("update metrics_day_stats set submissions = 5, seconds = 1.4 where day = %s", (day,))
    assert refresh.refresh(views.DAILY).differences == 1
    stored = Reconciliation.objects.get()
    assert (stored.state, stored.note, stored.checked) == ("different", "mv_daily_metrics", 90)
    found = stored.differences.order_by("field").values_list("key", "field", "counted", "expected")
    assert list(found) == [(f"day:{day}", "seconds", "1.4", "1.5"), (f"day:{day}", "submissions", "5", "1")]
    refresh.refresh(views.ANALYTICS)
    assert doctor.views().text.startswith("1 days of mv_daily_metrics differ from the counters")
    assert store.query("select submissions from metrics_day_stats where day = %s", (day,)) == [(5,)], "never repaired"


def test_counters_that_have_not_started_give_no_result() -> None:
    factories.form()
    assert refresh.refresh(views.DAILY).differences is None
    assert not Reconciliation.objects.exists()


def test_comparison_leaves_no_trace() -> None:
    """The temporary copies to which it applies the events are dropped."""
    factories.form()
    counting.follow()
    factories.form()
    counters = "select * from metrics_day_stats order by day"
    before = store.query(counters)
    assert refresh.refresh(views.DAILY).differences == 0
    assert store.query(counters) == before
    assert not store.query("select 1 from pg_class where relpersistence = 't' and relname like 'metrics%%'")


def test_comparison_sees_the_snapshot_of_the_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is committed between refresh and comparison is in neither."""
    owner = scenes.user()
    seen: list[int] = []

    def compare() -> None:
        with scenes.session(autocommit=True) as other:
            other.execute(scenes.FORM, (new_id(), owner, scenes.noon(1), None))
        seen.append(store.query("select count(*) from forms")[0][0])

    monkeypatch.setattr(cross_check, "compare", compare)
    assert refresh.refresh(views.DAILY).status == "refreshed"
    assert seen == [0]
    assert store.query("select count(*) from forms") == [(1,)]
