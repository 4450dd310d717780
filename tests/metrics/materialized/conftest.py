"""A private database, in which the views and the log belong to one test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def private_views(own_database: None) -> None:
    """The views keep their rows when other tests empty the tables."""
