"""An empty history with the current partitions for every test of this folder that has a database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from metrics.monitoring.history import tables
from tests.metrics.monitoring import slots


@pytest.fixture(autouse=True)
def _empty_history(request: pytest.FixtureRequest) -> Iterator[None]:
    """Create current partitions; empty the history after real commits, because Django empties only models' tables."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None:
        yield
        return
    commits = bool(marker.kwargs.get("transaction"))
    request.getfixturevalue("transactional_db" if commits else "db")
    tables.create_partitions(tables.present_slot())
    yield
    if commits:
        slots.empty()
