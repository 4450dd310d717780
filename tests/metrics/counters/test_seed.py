"""Seeds and rebuilds take the read tables as they are, while others write, and count each event once."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.core.management import call_command
from django.db import transaction

from backoffice import health
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users.domain import UserUpdated
from events import errors, store
from events.db import timeouts
from events.rebuild import builder, cancellation
from events.subscriptions import checkpoints
from events.subscriptions import runner as subscriptions
from events.types import new_id
from metrics.counters import applying, seed
from metrics.counters.subscription import SUBSCRIPTION
from tests import factories
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def head_held_back() -> Iterator[None]:
    """An append that stays open: later events are visible, but above the safe head."""
    appended, end = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            store.append(f"user-{new_id()}", [UserUpdated(first_name="Ada")])
            appended.set()
            assert end.wait(60)

    holder = factories.Thread(hold)
    assert appended.wait(30)
    try:
        yield
    finally:
        end.set()
        holder.result()


def some_history() -> tuple[object, object]:
    owner = factories.user()
    form = factories.form(owner)
    for _ in range(5):
        counting.receive(form, seconds=1)
    return owner, form


def test_new_subscription_is_seeded_and_counts_what_follows() -> None:
    owner, form = some_history()
    seed.start()
    assert store.query("select seeded_position from metrics_counters_state") == [(counting.checkpoint(),)]
    assert counting.user_numbers(owner) == (1, 5, 5)
    counting.demand_identity()
    counting.receive(form)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 6, 6)
    counting.demand_fresh()


def test_runner_seeds_a_new_subscription_by_itself() -> None:
    owner, _ = some_history()
    stop = threading.Event()
    runner = factories.Thread(lambda: subscriptions.run(SUBSCRIPTION, stop))
    try:
        assert counting.eventually(lambda: store.query("select 1 from events_checkpoint where name = 'counters'"))
        assert store.query("select seeded_position is not null from metrics_counters_state") == [(True,)]
    finally:
        stop.set()
        runner.result()
    assert counting.user_numbers(owner) == (1, 5, 5)


def test_empty_log_needs_no_seed() -> None:
    seed.start()
    assert checkpoints.is_new(SUBSCRIPTION)


def test_events_above_the_head_that_the_seed_saw_are_not_counted_again() -> None:
    owner, form = some_history()
    with head_held_back():
        counting.receive(form)
        counting.send(forms.DeleteForm(), form)
        counting.send(forms.RestoreForm(), form)
        seed.start()
        assert store.query("select count(*) from metrics_counters_skip") == [(3,)]
        assert counting.user_numbers(owner) == (1, 6, 6)
        counting.demand_identity()
    counting.receive(form)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 7, 7)
    assert store.query("select count(*) from metrics_counters_skip") == [(0,)]
    counting.demand_fresh()
    counting.demand_identity()


def test_without_the_skipped_positions_the_seed_counts_twice() -> None:
    owner, form = some_history()
    with head_held_back():
        counting.receive(form)
        seed.start()
        store.execute(seed.EMPTY_SKIPPED)
    counting.follow()
    assert counting.user_numbers(owner) == (1, 7, 7)  # there are 6


@pytest.mark.parametrize("start", [11, 12])
def test_rebuild_is_exact_while_others_write_and_the_runner_follows(start: int) -> None:
    some_history()
    counting.follow()
    stop = threading.Event()

    def work(dice: random.Random) -> None:
        owner = factories.user()
        papers, answers = [factories.form(owner) for _ in range(3)], []
        while not stop.is_set():
            paper = dice.choice(papers)
            answers.append(counting.receive(paper, seconds=dice.random()))
            counting.send(dice.choice([forms.DeleteForm(), forms.RestoreForm()]), paper)
            counting.send(submissions.DeleteSubmission(), dice.choice(answers))

    writers = [factories.Thread(lambda n=n: work(random.Random(start * 100 + n))) for n in range(3)]
    runner = factories.Thread(lambda: subscriptions.run(SUBSCRIPTION, stop))
    try:
        for _ in range(4):
            before = counting.checkpoint()
            builder.rebuild("counters")
            assert counting.eventually(lambda before=before: counting.checkpoint() > before)
            counting.demand_identity()
    finally:
        stop.set()
        for thread in (*writers, runner):
            thread.result(60)
    counting.follow()
    counting.demand_fresh()
    counting.demand_identity()


def test_readers_see_no_zeros_during_a_rebuild() -> None:
    owner, _ = some_history()
    counting.follow()
    seen = []
    builder.rebuild("counters", report=lambda _: seen.append(counting.user_numbers(owner)))
    assert len(seen) > 3
    assert set(seen) == {(1, 5, 5)}


def test_rebuild_repairs_wrong_numbers_and_keeps_the_catalogue() -> None:
    owner, _ = some_history()
    counting.follow()
    indexes = "select indexdef from pg_indexes where tablename like 'metrics%' order by 1"
    options = "select relname, reloptions from pg_class where relname like 'metrics%' order by 1"
    before = store.query(indexes), store.query(options)
    store.execute("update metrics_user_stats set submission_count = 99")
    store.execute("update metrics_counters_state set form_count = 7")
    call_command("rebuild_projection", "counters", "--json")
    assert counting.user_numbers(owner) == (1, 5, 5)
    assert (store.query(indexes), store.query(options)) == before
    assert store.query("select nspname from pg_namespace where nspname like 'rebuild%'") == []
    counting.demand_identity()


def test_rebuilds_of_counters_and_of_read_tables_leave_each_other_alone() -> None:
    """marten#3690: rebuilding one projection erased another that handles the same events."""
    owner, form = some_history()
    counting.receive(form, counting.ago(days=40), seconds=0.5)
    counting.follow()
    read_tables = {name: store.query(f"select * from {name} order by id") for name in ("users", "forms", "submissions")}
    counted = store.query(counting.COUNTED), store.query(counting.COUNTED_DAYS)
    builder.rebuild("counters")
    assert {name: store.query(f"select * from {name} order by id") for name in read_tables} == read_tables
    for name in read_tables:
        builder.rebuild(name)
        counting.demand_identity()
    assert (store.query(counting.COUNTED), store.query(counting.COUNTED_DAYS)) == counted
    assert counting.user_numbers(owner) == (1, 6, 5)


def test_rewound_history_is_seeded_again() -> None:
    owner, form = some_history()
    counting.follow()
    store.execute("update events_checkpoint set position = position + 1000000, epoch = gen_random_uuid()")
    store.execute("update metrics_user_stats set submission_count = 99")
    with pytest.raises(errors.HistoryRewound):
        subscriptions.acquire(SUBSCRIPTION, "a")
    stop = threading.Event()
    runner = factories.Thread(lambda: subscriptions.run(SUBSCRIPTION, stop))
    try:
        assert counting.eventually(lambda: counting.user_numbers(owner) == (1, 5, 5))
        counting.receive(form)
        assert counting.eventually(lambda: counting.user_numbers(owner) == (1, 6, 6))
    finally:
        stop.set()
        runner.result()
    counting.demand_identity()


def test_counters_cannot_be_rewound() -> None:
    some_history()
    counting.follow()
    with pytest.raises(errors.InvalidCommand) as refused:
        checkpoints.rewind("counters", 0, "try")
    assert "rebuild_projection counters" in refused.value.fields["position"]


def test_rebuild_counts_what_was_parked() -> None:
    owner, form = some_history()
    counting.follow()
    key = counting.receive(form)
    counting.park(key)
    counting.send(submissions.DeleteSubmission(), counting.receive(form))
    counting.follow()
    assert counting.user_numbers(owner) == (1, 5, 5)
    counting.demand_identity()
    builder.rebuild("counters")
    assert store.query("select count(*) from events_parked") == [(0,)]
    counting.follow()
    assert counting.user_numbers(owner) == (1, 6, 6)
    counting.demand_identity()


def test_erasure_neither_waits_for_a_rebuild_of_the_counters_nor_ends_it() -> None:
    """Counters hold no personal data, and a large rebuild would never end where people are erased all day."""
    owner, _ = some_history()
    counting.follow()
    with psycopg.connect(**health.parameters()) as other:
        other.execute("lock table submissions in access exclusive mode")
        rebuild = factories.Thread(lambda: builder.rebuild("counters"))
        assert counting.eventually(lambda: store.query("select 1 from pg_locks where not granted"))
        with timeouts.at_most(30):
            assert cancellation.stop(counting.now()) == 0
            cancellation.discard(counting.now())
    assert rebuild.result().phase == "done"
    counting.erase(owner)
    counting.follow()
    counting.demand_fresh()
    counting.demand_identity()


# Tests of other processes wait for locks in other databases of the same server.
WAITS_HERE = """
select 1 from pg_locks l join pg_database d on d.oid = l.database
 where not l.granted and d.datname = current_database()
"""


def test_cancelled_rebuild_of_the_counters_ends_while_it_computes() -> None:
    owner, _ = some_history()
    counting.follow()
    with psycopg.connect(**health.parameters()) as other:
        other.execute("lock table submissions in access exclusive mode")
        rebuild = factories.Thread(lambda: builder.rebuild("counters"))
        assert counting.eventually(lambda: store.query(WAITS_HERE))
        assert cancellation.cancel("counters")
        with pytest.raises(errors.EventsError):
            rebuild.result()
    assert counting.user_numbers(owner) == (1, 5, 5)
    assert builder.rebuild("counters").phase == "done"


def test_windows_after_a_seed_are_those_of_a_fold() -> None:
    owner, form = some_history()
    recent_from, kept_from = applying.windows()
    for moment in (recent_from, kept_from):
        counting.receive(form, moment)
    counting.receive(form, counting.ago(days=91))
    counting.follow()
    folded = store.query("select * from metrics_form_hours order by 1, 2")
    builder.rebuild("counters")
    assert store.query("select * from metrics_form_hours order by 1, 2") == folded
    assert counting.user_numbers(owner) == (1, 8, 6)
