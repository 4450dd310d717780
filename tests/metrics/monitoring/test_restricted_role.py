"""An application role that owns no table can sample, roll up and drop expired partitions, and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from events import store
from events.db import grants
from metrics.monitoring import process_reports
from metrics.monitoring.history import rollup, tables, write
from metrics.monitoring.probes import database, processes
from tests import services_plugin
from tests.metrics.monitoring import slots

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def role() -> Iterator[str]:
    name = f"sampler_{services_plugin.worker()}"
    store.execute(f"create role {name}")
    grants.grant(name)
    yield name
    store.execute("reset role")
    store.execute(f"drop owned by {name}")
    store.execute(f"drop role {name}")


def test_role_without_ownership_keeps_the_history(role: str) -> None:
    old = tables.present_slot() - 50 * tables.DAY_SLOTS
    slots.fill("db.blocked", [(old, 1)])
    slots.roll_up(old + 2 * tables.DAY_SLOTS)
    store.execute(f"set role {role}")
    later = tables.present_slot() + 3 * 366 * tables.DAY_SLOTS
    assert tables.create_partitions(later) > 0
    assert write.claim(later)
    process_reports.Reporter("web").write()
    write.values(later, processes.read(later))
    rollup.roll_up(later + 24)
    assert len(tables.drop_expired()) == 1


def test_owner_functions_reach_no_other_table(role: str) -> None:
    store.execute(f"set role {role}")
    for table in ("events_event", "users", "metrics_rollup"):
        with pytest.raises(Exception, match="not a table of the history"):
            store.query(tables.RETAIN, (table, 400))
    with pytest.raises(Exception, match=r"must be owner|permission denied"):
        store.execute("drop table metrics_sample")


def test_role_that_sees_only_its_own_sessions_knows_nothing_of_the_others(role: str) -> None:
    """A 0 for the oldest transaction of all sessions would be wrong where only this one is seen."""
    slot = tables.present_slot()
    assert ("db.oldest_transaction", "") in database.read(slot)
    store.execute(f"set role {role}")
    found = database.read(slot + 1)
    assert {"db.oldest_transaction", "db.blocked", "db.connections"}.isdisjoint(name for name, _ in found)
    assert found[("db.latency", "")] is not None
