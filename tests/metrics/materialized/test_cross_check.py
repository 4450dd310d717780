"""The daily view is compared with the counters in the snapshot of its refresh."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from events import store
from metrics.management.commands import doctor
from metrics.materialized import cross_check, refresh, views
from metrics.materialized.cross_check import Difference, Figures
from tests.metrics.materialized import scenes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[list[Difference]]:
    found: list[list[Difference]] = []
    monkeypatch.setattr(cross_check, "record", found.append)
    return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[date, Figures] | None], None]:
    def give(figures: dict[date, Figures] | None) -> None:
        monkeypatch.setattr(cross_check, "expected", lambda _first, _last: figures)

    return give


def test_equal_days_are_recorded_as_a_clean_comparison(recorded: Any, counted: Any) -> None:
    form = scenes.form(scenes.user(), scenes.noon(2))
    scenes.submission(form, scenes.noon(1), 0.1)
    scenes.submission(form, scenes.noon(1))
    today = scenes.today()
    counted(
        {
            today - timedelta(days=2): Figures(forms_created=1, unique_users=1),
            today - timedelta(days=1): Figures(submissions=2, timed=1, seconds=Decimal("0.1")),
        }
    )
    assert refresh.refresh(views.DAILY).differences == 0
    assert recorded == [[]]
    assert doctor.views().state != "wrong"


def test_each_day_that_differs_is_recorded_with_both_figures(recorded: Any, counted: Any) -> None:
    scenes.form(scenes.user(), scenes.noon(2))
    today = scenes.today()
    counted({today: Figures(submissions=1)})
    assert refresh.refresh(views.DAILY).differences == 2
    assert recorded == [
        [
            Difference(today - timedelta(days=2), Figures(forms_created=1, unique_users=1), Figures()),
            Difference(today, Figures(), Figures(submissions=1)),
        ]
    ]
    refresh.refresh(views.ANALYTICS)
    assert doctor.views().text.startswith("2 days of mv_daily_metrics differ from the counters")


def test_counters_that_cannot_be_compared_give_no_result(recorded: Any, counted: Any) -> None:
    counted(None)
    assert refresh.refresh(views.DAILY).differences is None
    assert recorded == []


def test_comparison_sees_the_snapshot_of_the_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is committed between refresh and comparison is in neither."""
    owner = scenes.user()
    seen: list[int] = []

    def expected(_first: date, _last: date) -> None:
        with scenes.session(autocommit=True) as other:
            other.execute(scenes.FORM, (scenes.new_id(), owner, scenes.noon(1), None))
        seen.append(store.query("select count(*) from forms")[0][0])

    monkeypatch.setattr(cross_check, "expected", expected)
    assert refresh.refresh(views.DAILY).status == "refreshed"
    assert seen == [0]
    assert store.query("select count(*) from forms") == [(1,)]
