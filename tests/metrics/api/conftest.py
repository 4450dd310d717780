"""Figures are read in a database of their own, in which the log and the views belong to one test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.metrics.caching.conftest import forget


@pytest.fixture(autouse=True)
def _own_database(own_database: None) -> Iterator[None]:
    forget()
    yield
    forget()
