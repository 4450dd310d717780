"""An empty history for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.metrics.monitoring import slots


@pytest.fixture(autouse=True)
def _empty_history(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tables without models are not emptied by Django."""
    marker = request.node.get_closest_marker("django_db")
    if marker is not None and marker.kwargs.get("transaction"):
        request.getfixturevalue("transactional_db")
        slots.empty()
        yield
        slots.empty()
    else:
        yield
