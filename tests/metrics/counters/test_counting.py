"""The counters follow the log exactly: each kind of event, in any batches, once."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

import pytest

from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import store
from events.rebuild import builder
from metrics.counters import applying, updates
from metrics.management.commands import doctor
from tests import factories
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


def test_new_records_count_for_user_form_and_day() -> None:
    owner = factories.user()
    form = factories.form(owner)
    counting.receive(form, seconds=10)
    counting.receive(form)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 2, 2)
    assert counting.day_numbers(counting.now()) == (1, 1, 2, 1, Decimal(10))
    counting.demand_fresh()
    counting.demand_identity()


def test_deleted_form_takes_its_submissions_from_the_user_and_leaves_them_in_the_day() -> None:
    owner = factories.user()
    form = factories.form(owner)
    counting.receive(form)
    counting.follow()
    counting.send(forms.DeleteForm(), form)
    counting.follow()
    assert counting.user_numbers(owner) == (0, 0, 0)
    assert counting.day_numbers(counting.now())[2] == 1
    counting.send(forms.RestoreForm(), form)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 1, 1)
    counting.demand_identity()


def test_archiving_changes_nothing() -> None:
    owner = factories.user()
    form = factories.form(owner)
    counting.receive(form)
    counting.send(forms.UpdateForm(archived=True), form)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 1, 1)
    counting.demand_identity()


def test_old_submission_is_not_recent_and_future_one_is() -> None:
    owner = factories.user()
    form = factories.form(owner)
    counting.receive(form, counting.ago(days=31))
    counting.receive(form, counting.ago(days=400))
    counting.receive(form, counting.ago(days=-40))
    counting.follow()
    assert counting.user_numbers(owner) == (1, 3, 1)
    counting.demand_fresh()
    counting.demand_identity()


def test_sums_of_seconds_cancel_exactly() -> None:
    """0.1 added and subtracted 1,000 times gives 0: binary fractions would leave a remainder."""
    form = factories.form()
    moment = counting.now()
    for sign in [1, -1] * 1_000:
        deltas = applying.folding.Deltas(*applying.windows())
        deltas.count(applying.Facts(str(form), moment, applying.folding.seconds(0.1)), sign)
        applying.apply(deltas)
    assert counting.day_numbers(moment)[2:] == (0, 0, Decimal(0))


@pytest.mark.parametrize("batch", [1, 2, 500])
def test_corrected_submission_moves_to_its_new_day_and_time(batch: int) -> None:
    owner = factories.user()
    form = factories.form(owner)
    key = counting.receive(form, counting.ago(days=50), seconds=0.1)
    counting.send(submissions.CorrectSubmission(completion_time=7.25), key)
    counting.send(submissions.CorrectSubmission(created_at=counting.now(), completion_time=None), key)
    counting.send(submissions.CorrectSubmission(answers={"a": 1}), key)
    for _ in range(8):
        counting.follow(batch)
        counting.demand_identity()
    assert counting.user_numbers(owner) == (1, 1, 1)
    assert counting.day_numbers(counting.now())[2:] == (1, 0, Decimal(0))
    counting.send(submissions.DeleteSubmission(), key)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 0, 0)
    counting.demand_fresh()
    counting.demand_identity()


def test_last_submission_steps_back_when_it_is_deleted() -> None:
    owner = factories.user()
    form, other = factories.form(owner), factories.form(owner)
    first, second = counting.ago(days=3), counting.ago(days=2)
    counting.receive(other, counting.ago(days=9))
    counting.receive(form, first)
    key = counting.receive(form, second)
    counting.follow()
    counting.send(submissions.DeleteSubmission(), key)
    counting.demand_identity()
    counting.follow()
    assert store.query("select last_at from metrics_user_stats where user_id = %s", (owner,)) == [(first,)]
    counting.send(forms.DeleteForm(), form)
    counting.follow()
    counting.demand_fresh()
    counting.demand_identity()


def test_cascades_of_deletions_and_erasures_are_followed_exactly() -> None:
    """netbox#14323: delete, restore, delete, erase a form; erase its owner, one of whose forms was deleted before."""
    owner = factories.user()
    papers = [factories.form(owner) for _ in range(3)]
    for paper in papers:
        for _ in range(4):
            counting.receive(paper, seconds=2)
    for command in (forms.DeleteForm(), forms.RestoreForm(), forms.DeleteForm()):
        counting.send(command, papers[0])
        counting.follow()
        counting.demand_fresh()
    assert counting.user_numbers(owner) == (2, 8, 8)
    counting.send(forms.EraseForm(), papers[0])
    counting.follow()
    assert counting.user_numbers(owner) == (2, 8, 8)
    counting.send(users.DeleteUser(), owner)
    counting.follow()
    counting.demand_fresh()
    counting.erase(owner)
    counting.follow()
    assert counting.user_numbers(owner) == (0, 0, 0)
    assert counting.day_numbers(counting.now()) == (3, 1, 12, 12, Decimal(24))
    counting.demand_fresh()
    counting.demand_identity()


def test_erased_submission_stays_counted() -> None:
    owner = factories.user()
    key = counting.receive(factories.form(owner), seconds=3)
    counting.send(submissions.EraseSubmission(), key)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 1, 1)
    counting.send(submissions.DeleteSubmission(), key)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 0, 0)
    counting.demand_identity()


def test_sweep_takes_exactly_the_hours_that_leave_the_window() -> None:
    owner = factories.user()
    form = factories.form(owner)
    dead = factories.form(owner)
    edge = applying.windows()[0]
    for paper in (form, dead):
        counting.receive(paper, edge - timedelta(microseconds=1))
        counting.receive(paper, edge)
        counting.receive(paper, edge + timedelta(minutes=59, seconds=59))
        counting.receive(paper, edge + timedelta(hours=1))
    counting.send(forms.DeleteForm(), dead)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 4, 3)
    applying.sweep(counting.now() + timedelta(hours=1))
    assert counting.user_numbers(owner) == (1, 4, 1)
    counting.demand_identity()
    counting.send(forms.RestoreForm(), dead)
    counting.follow()
    assert counting.user_numbers(owner) == (2, 8, 2)
    applying.sweep(counting.now() + timedelta(days=100))
    assert counting.user_numbers(owner) == (2, 8, 0)
    assert store.query("select count(*) from metrics_form_hours") == [(0,)]
    applying.sweep(counting.now())
    counting.demand_identity()


def test_windows_follow_the_clock_of_the_database_and_not_that_of_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner whose clock is a year ahead would drop all hours."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365)

    owner = factories.user()
    form = factories.form(owner)
    counting.receive(form, counting.ago(days=1))
    monkeypatch.setattr(applying, "datetime", Ahead)
    counting.follow()
    updates.tick(0)
    assert counting.user_numbers(owner) == (1, 1, 1)
    assert store.query("select count(*) from metrics_form_hours") == [(1,)]
    assert store.query("select recent_from, kept_from from metrics_counters_state") == [applying.windows()]


def test_recent_is_exact_again_when_the_clock_was_a_day_ahead() -> None:
    owner = factories.user()
    form = factories.form(owner)
    edge = applying.windows()[0]
    for hours in (0, 1, 23, 24, 25):
        counting.receive(form, edge + timedelta(hours=hours))
    counting.follow()
    applying.sweep(counting.now() + timedelta(days=1))
    assert counting.user_numbers(owner) == (1, 5, 2)
    counting.receive(form, edge + timedelta(hours=2))
    counting.follow()
    updates.tick(0)
    assert counting.user_numbers(owner) == (1, 6, 6)
    counting.demand_fresh()
    counting.demand_identity()


def test_doctor_asks_for_a_rebuild_when_a_clock_that_was_ahead_dropped_hours() -> None:
    owner = factories.user()
    counting.receive(factories.form(owner))
    counting.follow()
    counting.demand_identity()
    assert doctor.counters().state == "ok"
    applying.sweep(counting.now() + timedelta(days=400))
    updates.tick(0)
    assert doctor.counters().state == "wrong"
    builder.rebuild("counters")
    assert counting.user_numbers(owner) == (1, 1, 1)
    assert doctor.counters().state == "ok"


def test_doctor_reports_counters_that_nobody_compares() -> None:
    counting.follow()
    counting.demand_identity()  # also before the first event
    store.execute("update metrics_reconciliation set at = at - interval '2 hours'")
    assert (doctor.counters().state, doctor.counters().text[:15]) == ("wrong", "not compared si")
