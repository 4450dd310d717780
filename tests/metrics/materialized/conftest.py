"""A private database, in which the views belong to one test."""

from __future__ import annotations

import pytest

from events import store

COUNTERS = """
create table if not exists metrics_user_stats (
    user_id uuid primary key, form_count bigint not null default 0, submission_count bigint not null default 0)
"""


@pytest.fixture(autouse=True)
def private_views(own_database: None) -> None:
    store.execute(COUNTERS)
