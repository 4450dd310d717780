"""Counters are compared in a database of their own: the shared log contains events of other tests."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _own_database(own_database: None) -> None:
    """Every test here gets an empty log."""
