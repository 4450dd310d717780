"""A refresh runs alone, does not keep readers waiting, and is skipped, limited and recorded as it should be."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import signals
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from backoffice import health
from backoffice.sections.site_settings.domain import SettingChanged
from events import head, store
from events.rebuild import builder
from metrics.management.commands import doctor
from metrics.materialized import freshness, read, refresh, tasks, views
from metrics.materialized.freshness import Freshness
from tests import factories, live
from tests.metrics.counters import counting
from tests.metrics.materialized import scenes

pytestmark = pytest.mark.django_db(transaction=True)


def status(view: views.View = views.DAILY) -> Freshness:
    return next(one for one in freshness.statuses(store.query) if one.name == view.name)


def older(seconds: int) -> None:
    """Make all refreshes older by some seconds."""
    store.execute(
        """update metrics_view set refreshed_at = refreshed_at - %s * interval '1 second',
                                   checked_at = checked_at - %s * interval '1 second'""",
        (seconds, seconds),
    )


@contextmanager
def waiting_for(text: str) -> Iterator[None]:
    """After the block, wait until a session waits for a lock with a statement that contains this text."""
    yield
    waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like %s"
    with scenes.session(autocommit=True) as watcher:
        assert counting.eventually(lambda: watcher.execute(waits, (f"%{text}%",)).fetchone()), (
            f"nobody waits for {text}"
        )


# -- before the first refresh -----------------------------------------------------------------------------------------


def test_reader_learns_that_a_view_is_not_computed_yet() -> None:
    for reading in (read.daily, read.analytics):
        with pytest.raises(read.NotComputed) as raised:
            reading()
        assert (raised.value.code, raised.value.status) == ("not_computed", 503)
    assert freshness.state(status()) == "never"


def test_first_refresh_fills_an_unpopulated_view() -> None:
    populated = "select relispopulated from pg_class where relname = 'mv_daily_metrics'"
    assert store.query(populated) == [(False,)]
    outcome = refresh.refresh(views.DAILY)
    assert (outcome.status, outcome.rows, outcome.number) == ("refreshed", 90, 1)
    assert store.query(populated) == [(True,)]
    assert len(read.daily().items) == 90


def test_position_is_the_safe_head_before_the_refresh() -> None:
    factories.form()
    outcome = refresh.refresh(views.DAILY)
    as_of = read.daily().as_of
    assert outcome.position == as_of.position == head.safe()
    assert as_of.at == status().refreshed_at


def test_position_of_a_view_with_counts_is_that_of_the_counters() -> None:
    factories.form()
    assert refresh.refresh(views.ANALYTICS).position == 0
    store.execute(
        """insert into events_checkpoint (name, position, epoch) select 'counters', 1, epoch from events_epoch
           on conflict (name) do update set position = 1"""
    )
    assert refresh.refresh(views.ANALYTICS, force=True).position == 1


# -- skipped ----------------------------------------------------------------------------------------------------------


def test_refresh_without_a_new_event_is_skipped_and_updates_checked_at() -> None:
    factories.form()
    first = refresh.refresh(views.DAILY)
    older(600)
    before = status()
    outcome = refresh.refresh(views.DAILY)
    assert (outcome.status, outcome.number) == ("unchanged", first.number)
    after = status()
    assert after.refreshed_at == before.refreshed_at
    assert after.checked_at > before.checked_at
    assert before.age > 590 > after.age


def test_recent_refresh_is_not_repeated() -> None:
    refresh.refresh(views.DAILY)
    factories.form()
    assert refresh.refresh(views.DAILY).status == "recent"
    older(refresh.RECENT)
    assert refresh.refresh(views.DAILY).status == "refreshed"
    assert sum(day.total_forms for day in read.daily().items) == 1


def test_force_refreshes_what_is_recent_and_unchanged() -> None:
    refresh.refresh(views.DAILY)
    assert refresh.refresh(views.DAILY, force=True).number == 2


def test_next_day_is_refreshed_without_a_new_event() -> None:
    refresh.refresh(views.DAILY)
    older(86_400)
    assert refresh.refresh(views.DAILY).status == "refreshed"


def test_event_behind_an_open_append_keeps_the_view_from_counting_as_unchanged() -> None:
    """The head does not move past an open append, but an event behind it may be committed and visible."""
    ready, release = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            store.append("setting-slow", [SettingChanged(value=1)])
            ready.set()
            assert release.wait(60)

    writer = factories.Thread(slow)
    try:
        assert ready.wait(20)
        refresh.refresh(views.DAILY)
        factories.form()
        older(refresh.RECENT)
        assert refresh.refresh(views.DAILY).status == "refreshed"
        assert sum(day.total_forms for day in read.daily().items) == 1
    finally:
        release.set()
        writer.result()


def test_view_refreshed_while_the_clock_was_ahead_is_late_and_refreshed_again() -> None:
    refresh.refresh(views.DAILY)
    factories.user()
    older(-86_400)
    assert freshness.state(freshness.statuses(store.query)[0]) == "late"
    assert refresh.refresh(views.DAILY).status == "refreshed"
    assert freshness.state(freshness.statuses(store.query)[0]) == "fresh"


# -- alone, beside readers --------------------------------------------------------------------------------------------


def test_second_refresh_at_the_same_time_is_skipped() -> None:
    refresh.refresh(views.DAILY)
    with scenes.session() as other:
        assert other.execute(refresh.TRY_LOCKS).fetchone() == (True,)
        for view in views.VIEWS:
            assert refresh.refresh(view, force=True).status == "busy"
        held = freshness.holder(store.query)
        assert held is not None
        assert held.pid == other.info.backend_pid
    assert freshness.holder(store.query) is None
    assert refresh.refresh(views.DAILY, force=True).status == "refreshed"


def test_refresh_that_was_overtaken_counts_as_busy() -> None:
    """Its snapshot is older than a refresh that committed before it got the lock."""
    refresh.refresh(views.DAILY)
    passed = threading.Event()

    def overtaken() -> refresh.Outcome:
        original = refresh._skipped

        def skipped(*arguments: Any) -> Any:
            with scenes.session(autocommit=True) as other:
                other.execute("update metrics_view set number = number + 1 where name = 'mv_daily_metrics'")
            passed.set()
            return original(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(refresh, "_skipped", skipped)
            return refresh.refresh(views.DAILY, force=True)

    assert overtaken().status == "busy"
    assert passed.is_set()
    assert status().number == 2
    assert status().error is None


def test_readers_see_whole_refreshes_while_it_runs() -> None:
    """Each read returns rows and number of the same refresh, whatever commits meanwhile."""
    owner = scenes.user()
    refresh.refresh(views.DAILY)
    stop = threading.Event()

    def reading() -> int:
        seen = 0
        while not stop.is_set():
            found = read.daily()
            assert len(found.items) == 90
            assert sum(day.total_forms for day in found.items) == found.as_of.number - 1
            seen += 1
        return seen

    readers = [factories.Thread(reading) for _ in range(3)]
    try:
        for number in range(2, 12):
            scenes.form(owner, scenes.noon(number))
            assert refresh.refresh(views.DAILY, force=True).number == number
    finally:
        stop.set()
    assert all(reader.result() > 0 for reader in readers)


def test_reader_in_a_long_transaction_does_not_delay_a_refresh() -> None:
    refresh.refresh(views.DAILY)
    with scenes.session() as reader:
        assert reader.execute("select count(*) from mv_daily_metrics").fetchone() == (90,)
        assert refresh.refresh(views.DAILY, force=True).status == "refreshed"


# -- failure ----------------------------------------------------------------------------------------------------------


def test_statement_timeout_is_recorded_and_the_old_rows_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh.refresh(views.DAILY)
    monkeypatch.setattr(refresh, "BEGIN", (*refresh.BEGIN[:2], "set local statement_timeout = '50ms'"))
    store.execute(
        """create or replace function metrics_daily() returns table (day date, total_forms bigint, unique_users bigint,
           premium_forms bigint, submissions bigint, timed bigint, seconds numeric) language sql as
           $$ select current_date, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1.0 from pg_sleep(60) $$"""
    )
    outcome = refresh.refresh(views.DAILY, force=True)
    assert outcome.status == "failed"
    assert "statement timeout" in outcome.error
    assert status().error == outcome.error
    assert freshness.state(status()) == "fresh", "one failure is no missed period"
    assert len(read.daily().items) == 90


def test_lock_timeout_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "BEGIN", ("set local lock_timeout = '50ms'", refresh.BEGIN[1]))
    with scenes.session() as other:
        other.execute("lock table users in access exclusive mode")
        outcome = refresh.refresh(views.DAILY)
    assert outcome.status == "failed"
    assert "lock timeout" in outcome.error
    assert freshness.state(status()) == "failed", "it has no data at all"
    assert refresh.refresh(views.DAILY).status == "refreshed"
    assert status().error is None


def test_failure_of_one_view_does_not_keep_the_other_from_being_refreshed() -> None:
    store.execute("alter table users rename column last_login to elsewhere")
    outcomes = {outcome.name: outcome for outcome in refresh.refresh_all()}
    assert outcomes["mv_user_analytics"].status == "failed"
    assert "last_login" in outcomes["mv_user_analytics"].error
    assert outcomes["mv_daily_metrics"].status == "refreshed"


@pytest.mark.parametrize(
    ("age", "error", "state"),
    [
        (0, None, "fresh"),
        (900, "timeout", "fresh"),
        (901, None, "late"),
        (901, "timeout", "failed"),
        (None, None, "never"),
        (None, "timeout", "failed"),
    ],
)
def test_view_is_late_or_failed_after_three_missed_periods(age: float | None, error: str | None, state: str) -> None:
    now = None if age is None else scenes.now()
    assert freshness.state(Freshness("mv", now, now, 0, None, None, 0, None, error, None, age)) == state


# -- operators --------------------------------------------------------------------------------------------------------


def findings() -> doctor.Finding:
    return doctor.views()


def test_doctor_reports_late_and_failed_views_and_who_holds_the_lock() -> None:
    assert (findings().state, findings().text[:40]) == ("note", "mv_daily_metrics is not computed yet: Ce")
    refresh.refresh_all()
    assert findings().state == "ok"
    older(1_000)
    assert findings().state == "wrong"
    assert "17 minutes old" in findings().text
    with scenes.session(application_name="slow report") as other:
        other.execute(refresh.TRY_LOCKS)
        assert f"slow report (process {other.info.backend_pid}" in findings().text
    store.execute("update metrics_view set error = 'no space' where name = 'mv_user_analytics'")
    store.execute("update metrics_view set checked_at = now() where name = 'mv_daily_metrics'")
    assert findings().text.startswith("mv_user_analytics: no space")


def test_readyz_is_degraded_while_a_view_is_late(client: Client) -> None:
    assert client.get("/readyz").json()["checks"]["views"] == "ok", "nothing is missing before the first refresh"
    refresh.refresh_all()
    older(1_000)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["views"] == "late"
    assert health.database() == "ok"


def test_command_prints_outcomes_and_fails_with_a_view() -> None:
    text, lines = io.StringIO(), io.StringIO()
    call_command("refresh_views", stdout=text)
    assert text.getvalue().startswith("mv_daily_metrics: refreshed in ")
    call_command("refresh_views", "--json", stdout=lines)
    assert [json.loads(line)["status"] for line in lines.getvalue().splitlines()] == ["unchanged", "unchanged"]
    call_command("refresh_views", "--force", "--json", stdout=(forced := io.StringIO()))
    assert [json.loads(line)["number"] for line in forced.getvalue().splitlines()] == [2, 2]
    store.execute("alter table forms rename column created_at to elsewhere")
    with pytest.raises(SystemExit) as left:
        call_command("refresh_views", "--force", stdout=(failed := io.StringIO()))
    assert left.value.code == 1
    assert "mv_daily_metrics: failed: column" in failed.getvalue()


def test_beat_runs_the_same_refresh_every_five_minutes() -> None:
    entry = settings.CELERY_BEAT_SCHEDULE["refresh the materialized views"]
    assert entry == {"task": tasks.refresh_views.name, "schedule": views.PERIOD, "options": {"expires": views.EXPIRES}}
    assert tasks.refresh_views() == {"mv_daily_metrics": "refreshed", "mv_user_analytics": "refreshed"}
    assert tasks.refresh_views() == {"mv_daily_metrics": "unchanged", "mv_user_analytics": "unchanged"}


# -- rebuilds ---------------------------------------------------------------------------------------------------------


def test_views_survive_rebuilds_and_are_refreshed_after_them() -> None:
    """A swap neither copies nor breaks a view, which depends on no read table; the next refresh corrects it."""
    factories.form(owner := factories.user(plan="premium"))
    refresh.refresh_all()
    older(refresh.RECENT)
    before = read.daily(), read.analytics()
    store.execute("update users set plan = 'free' where id = %s", (owner,))  # damaged, then rebuilt
    refresh.refresh_all(force=True)
    assert sum(day.premium_forms for day in read.daily().items) == 0
    older(refresh.RECENT)
    for table in ("users", "forms", "submissions"):
        builder.rebuild(table)
        assert len(read.daily().items) == 90
    assert [outcome.status for outcome in refresh.refresh_all()] == ["refreshed", "refreshed"]
    assert (read.daily().items, read.analytics().items) == (before[0].items, before[1].items)


def test_swap_waits_for_a_refresh_and_the_next_refresh_is_busy() -> None:
    """The swap waits for the advisory lock of the refresh, and no other refresh starts meanwhile."""
    factories.user()
    refresh.refresh(views.DAILY)
    with scenes.session() as refreshing:
        refreshing.execute(refresh.TRY_LOCKS)
        refreshing.execute("select count(*) from users")  # locks the table until it ends, as a refresh does
        with waiting_for("pg_advisory_xact_lock"):
            rebuild = factories.Thread(lambda: builder.rebuild("users"))
        factories.user()  # writers do not wait for a swap that waits
        assert refresh.refresh(views.DAILY, force=True).status == "busy"
        refreshing.rollback()
    assert rebuild.result().phase == "done"
    assert refresh.refresh(views.DAILY, force=True).status == "refreshed"


@pytest.mark.filterwarnings("ignore")  # the worker in a thread warns about settings that are irrelevant here
def test_start_of_beat_refreshes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beat alone would wait a whole period before its first run, in which there are no figures."""
    monkeypatch.setattr(tasks, "FIRST", 0)
    with live.worker_thread():
        signals.beat_init.send(sender=None)
        assert counting.eventually(lambda: freshness.state(status(views.ANALYTICS)) == "fresh", 30)
