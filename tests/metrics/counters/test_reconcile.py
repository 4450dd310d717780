"""Reconciling finds every difference, even with unhandled events, and reports it without repairing it."""

from __future__ import annotations

import json
import logging

import psycopg
import pytest
from django.core.management import call_command
from django.db import transaction

from backoffice import health
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from events import errors, store
from events.rebuild import builder, read_tables
from events.subscriptions import parked
from metrics.counters import reconcile, seed, tasks, truth
from metrics.counters.models import Reconciliation
from metrics.management.commands import doctor
from tests import factories
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def history() -> tuple:
    owner = factories.user()
    form = factories.form(owner)
    for number in range(4):
        counting.receive(form, counting.ago(days=number), seconds=number)
    counting.follow()
    return owner, form


DAMAGE = {
    "update metrics_user_stats set submission_count = submission_count + 1": ("user:", "submission_count", "5", "4"),
    "update metrics_user_stats set recent = 3": ("user:", "recent", "3", "4"),
    "update metrics_user_stats set form_count = 0": ("user:", "form_count", "0", "1"),
    "update metrics_user_stats set last_at = '2099-01-01'": ("user:", "last_at", ..., ...),
    "delete from metrics_user_stats": ("user:", "alive", None, "true"),
    "update metrics_form_stats set submissions = 3": ("form:", "submissions", "3", "4"),
    "update metrics_form_stats set alive = false": ("form:", "alive", "false", "true"),
    "delete from metrics_form_stats": ("form:", "submissions", "0", "4"),
    "update metrics_form_hours set n = 2": ("form:", "n ", "2", "1"),
    "update metrics_day_stats set seconds = seconds + 0.000001": ("day:", "seconds", ..., ...),
    "update metrics_day_stats set unique_users = 2": ("day:", "unique_users", "2", "1"),
    "delete from metrics_day_owners": ("day:", "user_id ", None, "yes"),
    "update metrics_counters_state set user_count = 2": ("total", "user_count", "2", "1"),
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_each_wrong_number_is_reported_with_key_and_both_numbers(history: tuple, statement: str) -> None:
    key, field, counted, expected = DAMAGE[statement]
    store.execute(statement)
    counting.receive(history[1], counting.ago(days=35))  # the counters are also behind
    outcome = reconcile.reconcile()
    assert outcome.state == "different"
    found = [one for one in outcome.differences if one.key.startswith(key) and one.field.startswith(field)]
    assert found
    if statement.startswith("delete") or counted is ... or expected is ...:
        return
    behind = 1 if field in {"submission_count", "submissions"} else 0  # the event above the checkpoint
    assert (int_or_text(found[-1].counted), int_or_text(found[-1].expected)) == (
        plus(counted, behind),
        plus(expected, behind),
    )


def int_or_text(value: str | None) -> int | str | None:
    return int(value) if value is not None and value.isdigit() else value


def plus(value: str | None, number: int) -> int | str | None:
    found = int_or_text(value)
    return found + number if isinstance(found, int) else found


def test_nothing_is_repaired_and_the_result_is_stored_and_logged(
    history: tuple, caplog: pytest.LogCaptureFixture
) -> None:
    store.execute("update metrics_user_stats set form_count = 9")
    with caplog.at_level(logging.ERROR):
        first = reconcile.reconcile()
    second = reconcile.reconcile()
    assert first.differences == second.differences
    stored = Reconciliation.objects.latest("id")
    assert (stored.state, stored.position, stored.differences.count()) == ("different", first.position, 1)
    assert f"user:{history[0]} form_count is 9, should be 1" in caplog.text
    seed_state = store.query("select form_count from metrics_user_stats")
    assert seed_state == [(9,)]


def test_clean_result_is_stored_with_what_was_compared(history: tuple) -> None:
    counting.demand_identity()
    stored = Reconciliation.objects.get()
    days = len({counting.ago(days=number).date() for number in range(4)})
    assert (stored.state, stored.checked, stored.everything) == ("clean", 2 + days, True)


def test_command_prints_the_result_and_fails_on_a_difference(
    history: tuple, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("reconcile_counters", "--all", "--json")
    assert json.loads(capsys.readouterr().out)["state"] == "clean"
    store.execute("update metrics_user_stats set form_count = 9")
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile_counters", "--all")
    assert ended.value.code == 1
    assert f"user:{history[0]} form_count: counted 9, expected 1" in capsys.readouterr().out


def test_slices_visit_every_user_and_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "SMALLEST_SLICE", 2)
    owners = sorted(factories.user() for _ in range(7))
    for owner in owners:
        counting.receive(factories.form(owner), counting.ago(days=1))
    counting.follow()
    ends = []
    for _ in range(4):
        assert tasks.reconcile() == "clean"
        ends.append(Reconciliation.objects.latest("id").upto)
    assert ends == [owners[2], owners[5], None, owners[2]]
    store.execute("update metrics_form_stats set submissions = 7 where user_id = %s", (owners[4],))
    assert [tasks.reconcile() for _ in range(3)] == ["different", "clean", "clean"]


def test_slice_is_exact_while_events_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "SMALLEST_SLICE", 1)
    papers = [factories.form() for _ in range(4)]
    for paper in papers:
        counting.receive(paper)
    counting.follow()
    for paper in papers:
        counting.receive(paper, counting.ago(days=1), seconds=1)
        counting.send(forms.DeleteForm(), paper)
    for _ in range(6):
        assert tasks.reconcile() == "clean"


def test_comparison_of_another_process_is_not_waited_for(history: tuple) -> None:
    with counting.lock_in_another_session(reconcile.TRY_LOCK.replace("try_", "").replace("_xact", "")):
        assert reconcile.reconcile() is None
        assert tasks.reconcile() == "busy"
    counting.demand_identity()


def test_without_a_checkpoint_nothing_is_compared() -> None:
    factories.user()
    outcome = reconcile.reconcile()
    assert (outcome.state, outcome.note) == ("incomplete", "the subscription has not run yet")


def test_parked_records_are_reported_as_not_counted_and_are_no_difference(history: tuple) -> None:
    owner, form = history
    key = counting.receive(form)
    counting.park(key)
    counting.send(submissions.DeleteSubmission(), key)
    counting.receive(form)
    counting.follow()
    outcome = reconcile.reconcile()
    assert (outcome.state, outcome.uncounted) == ("clean", 1)
    assert counting.user_numbers(owner) == (1, 5, 5)
    parked.replay("counters", f"submission-{key}")
    assert reconcile.reconcile().uncounted == 0
    counting.demand_fresh()


def test_unreadable_event_is_parked_and_its_row_explains_the_numbers(history: tuple) -> None:
    owner, form = history
    counting.make_unreadable(counting.receive(form, seconds=4))
    counting.make_unreadable(factories.form(owner), "form")
    counting.make_unreadable(factories.user(), "user")
    counting.follow()
    assert counting.user_numbers(owner) == (1, 4, 4)
    outcome = reconcile.reconcile()
    assert (outcome.state, outcome.uncounted, outcome.differences) == ("clean", 3, [])


def test_submissions_of_a_form_that_is_not_counted_yet_count_once_it_is(history: tuple) -> None:
    owner, _ = history
    paper = factories.form(owner)
    counting.park(paper)
    counting.receive(paper)
    counting.receive(paper, counting.ago(days=60))
    counting.follow()
    assert counting.user_numbers(owner) == (1, 4, 4)
    counting.demand_identity()
    parked.replay("counters", f"form-{paper}")
    assert counting.user_numbers(owner) == (2, 6, 5)
    counting.demand_fresh()
    counting.demand_identity()


def test_numbers_between_two_batches_are_those_of_the_events_handled(history: tuple) -> None:
    """marten#1988: a handler that looks at `forms` would see a later state than that of the event it handles."""
    owner, form = history
    counting.send(forms.DeleteForm(), form)
    counting.receive(factories.form(owner))
    counting.send(forms.RestoreForm(), form)
    counting.follow(1)
    assert counting.user_numbers(owner) == (0, 0, 0)  # though `forms` shows it restored
    counting.demand_identity()
    counting.follow()
    assert counting.user_numbers(owner) == (2, 5, 5)
    counting.demand_fresh()


def test_definitions_cover_every_table_that_is_compared() -> None:
    assert set(reconcile.COMPARED) == set(truth.TABLES)
    assert set(reconcile.COPIES) == {*truth.TABLES, "metrics_counters_state", "metrics_counters_skip"}
    assert seed.NAME == "counters"


def test_doctor_reports_wrong_numbers_until_they_are_rebuilt(history: tuple) -> None:
    assert doctor.counters().state == "note"
    counting.demand_identity()
    assert doctor.counters().state == "ok"
    store.execute("update metrics_user_stats set form_count = 9")
    reconcile.reconcile()
    found = doctor.counters()
    assert (found.state, "1 comparisons found wrong numbers" in found.text) == ("wrong", True)
    builder.rebuild("counters")
    counting.demand_identity()
    assert doctor.counters().state == "ok"
    counting.park(counting.receive(history[1]))
    counting.demand_identity()
    assert "1 records are not counted" in doctor.counters().text


@pytest.mark.parametrize("name", ["users", "forms", "submissions", "counters"])
def test_no_swap_happens_inside_the_snapshot_of_a_comparison(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a swap the names refer to new tables, whose rows the snapshot does not see: every number would differ."""
    monkeypatch.setattr(builder, "REFRESH_TIMEOUT", "200ms")
    counting.receive(factories.form())
    counting.follow()
    with transaction.atomic():
        read_tables.one_snapshot(truth.STILL)
        store.query(read_tables.SHARE_SWAP_LOCK)
        with pytest.raises(errors.RebuildRefused):
            factories.Thread(lambda: builder.rebuild(name, patience=0)).result()
    assert builder.rebuild(name).phase == "done"
    counting.demand_identity()


def test_comparison_that_waits_for_a_swap_sees_its_result() -> None:
    counting.receive(factories.form())
    counting.follow()
    with psycopg.connect(**health.parameters()) as other:
        other.execute("lock table metrics_form_stats in access exclusive mode")
        comparison = factories.Thread(reconcile.reconcile)
        assert counting.eventually(lambda: store.query("select 1 from pg_locks where not granted"))
        assert builder.rebuild("submissions").phase == "done"
    outcome = comparison.result()
    assert outcome is not None
    assert (outcome.state, outcome.differences) == ("clean", [])
