"""A changed definition is filled beside the view and put in its place; a role without ownership can refresh."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from events import store
from events.db import grants
from metrics.materialized import read, refresh, views
from tests import services_plugin
from tests.metrics.materialized import scenes

pytestmark = pytest.mark.django_db(transaction=True)

# As a migration of a later release would create it: one more column.
SUCCESSOR = (
    "create materialized view mv_daily_metrics_v2 as select *, 'v2' as edition from metrics_daily() with no data",
    "create unique index mv_daily_metrics_v2_key on mv_daily_metrics_v2 (day)",
)
INDEXES = "select indexname, tablename from pg_indexes where tablename like 'mv_daily%%' order by 1"


@pytest.fixture
def role() -> Iterator[str]:
    name = f"refresher_{services_plugin.worker()}"
    store.execute(f"create role {name}")
    grants.grant(name)
    yield name
    store.execute("reset role")
    store.execute(f"drop owned by {name}")
    store.execute(f"drop role {name}")


def test_successor_replaces_the_view_with_its_indexes() -> None:
    refresh.refresh(views.DAILY)
    for statement in SUCCESSOR:
        store.execute(statement)
    outcome = refresh.refresh(views.DAILY)
    assert (outcome.status, outcome.number) == ("replaced", 2)
    assert store.query("select distinct edition from mv_daily_metrics") == [("v2",)]
    assert store.query(INDEXES) == [
        ("mv_daily_metrics_key", "mv_daily_metrics"),
        ("mv_daily_metrics_old_key", "mv_daily_metrics_old"),
    ]
    assert len(read.daily().items) == 90
    assert refresh.refresh(views.DAILY, force=True).status == "refreshed"


def test_second_replacement_drops_the_view_before_the_last() -> None:
    refresh.refresh(views.DAILY)
    for number in (2, 3):
        for statement in SUCCESSOR:
            store.execute(statement.replace("v2", f"v{number}"))
        assert refresh.refresh(views.DAILY).status == "replaced"
    assert store.query("select distinct edition from mv_daily_metrics") == [("v3",)]
    assert store.query("select distinct edition from mv_daily_metrics_old") == [("v2",)]


def test_replacement_behind_a_long_reader_fails_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "REPLACE_TIMEOUT", "50ms")
    refresh.refresh(views.DAILY)
    for statement in SUCCESSOR:
        store.execute(statement)
    with scenes.session() as reader:
        reader.execute("select count(*) from mv_daily_metrics")
        outcome = refresh.refresh(views.DAILY)
        assert outcome.status == "failed"
        assert "lock timeout" in outcome.error
        assert len(read.daily().items) == 90, "the old one is still in place, and readable"
    assert refresh.refresh(views.DAILY).status == "replaced"


def test_role_without_ownership_refreshes_and_replaces(role: str) -> None:
    store.execute(f"set role {role}")
    assert [outcome.status for outcome in refresh.refresh_all()] == ["refreshed", "refreshed"]
    assert [outcome.status for outcome in refresh.refresh_all(force=True)] == ["refreshed", "refreshed"]
    assert len(read.daily().items) == 90
    store.execute("reset role")
    for statement in SUCCESSOR:
        store.execute(statement)
    grants.grant(role)
    store.execute(f"set role {role}")
    assert refresh.refresh(views.DAILY, force=True).status == "replaced"
    assert len(read.daily().items) == 90


def test_owner_functions_touch_no_other_view(role: str) -> None:
    store.execute("create materialized view secrets as select 1 as n with no data")
    store.execute(f"set role {role}")
    with pytest.raises(Exception, match="There is no materialized view secrets"):
        store.query("select metrics_refresh_view('secrets')")
    with pytest.raises(Exception, match="is no successor of"):
        store.query("select metrics_replace_view('mv_daily_metrics', 'secrets')")
