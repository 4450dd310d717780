"""A role that owns no table counts, seeds, moves the windows and compares; it cannot rebuild."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from backoffice.sections.submissions import domain as submissions
from events import errors, store
from events.db import grants
from events.rebuild import builder
from metrics.counters import applying, reconcile, seed
from metrics.materialized import refresh
from tests import factories, services_plugin
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _as_restricted_role(_own_database: None) -> Iterator[None]:
    name = f"counter_{services_plugin.worker()}"
    store.execute(f"create role {name}")
    grants.grant(name)
    store.execute(f"set role {name}")
    yield
    store.execute("reset role")
    store.execute(f"drop owned by {name}")
    store.execute(f"drop role {name}")


def test_everything_but_a_rebuild_works() -> None:
    owner = factories.user()
    form = factories.form(owner)
    key = counting.receive(form)
    seed.start()
    assert counting.user_numbers(owner) == (1, 1, 1)
    counting.receive(form)
    counting.demand_identity()
    counting.follow()
    counting.send(submissions.DeleteSubmission(), key)
    counting.demand_identity()
    counting.follow()
    applying.sweep(counting.now() + timedelta(hours=1))
    outcome = reconcile.reconcile(reconcile.next_slice())
    assert outcome is not None
    assert outcome.state == "clean"
    assert [one.status for one in refresh.refresh_all()] == ["refreshed", "refreshed"]
    with pytest.raises(errors.RebuildRefused, match="its owner runs"):
        builder.rebuild("counters")
    assert counting.user_numbers(owner) == (1, 1, 1)
    counting.demand_identity()
