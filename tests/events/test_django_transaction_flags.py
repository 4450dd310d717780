"""The attributes of Django's connection that `events.db.pipeline` sets and reads: docs/adr/0013.

A failure after an upgrade of Django means: read the changed functions, adapt `pipeline.transaction`, then write the new
version and digests here.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import django
import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from events.db import pipeline

REVIEWED = "Django 5.2.19"
FLAGS = (
    "autocommit",
    "closed_in_transaction",
    "commit_on_exit",
    "in_atomic_block",
    "needs_rollback",
    "run_on_commit",
    "savepoint_ids",
)
# The functions whose bookkeeping the pipeline repeats or relies on, by the first digits of their source's SHA-256.
SOURCES: dict[Callable[..., Any], str] = {
    transaction.Atomic.__enter__: "1cccb72ad29b1ace",
    transaction.Atomic.__exit__: "6c52b1e68d7d22a5",
    BaseDatabaseWrapper.close: "273787740ca06a59",
    BaseDatabaseWrapper.get_autocommit: "76bded862b792fc6",
    BaseDatabaseWrapper.on_commit: "3eb44439e2c553cb",
    BaseDatabaseWrapper.run_and_clear_commit_hooks: "1da159e7e8c8cf20",
    BaseDatabaseWrapper.set_autocommit: "4e91610fe9d81813",
    BaseDatabaseWrapper.validate_no_atomic_block: "77a3dbe912b4d8be",
}


def changed(what: str) -> str:
    return f"{what}; this is Django {django.get_version()}, the pipeline was reviewed with {REVIEWED} (docs/adr/0013)"


@pytest.mark.parametrize("function", SOURCES, ids=lambda function: function.__qualname__)
def test_bookkeeping_of_transactions_is_the_reviewed_one(function: Callable[..., Any]) -> None:
    digest = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    assert digest == SOURCES[function], changed(f"{function.__qualname__} changed to {digest}")


def flags() -> dict[str, Any]:
    return {name: getattr(connection, name) for name in FLAGS}


@pytest.mark.django_db(transaction=True)
def test_connection_has_the_flags_the_pipeline_sets() -> None:
    connection.ensure_connection()
    missing = [name for name in (*FLAGS, "execute_wrappers") if not hasattr(connection, name)]
    assert not missing, changed(f"the connection has no {', '.join(missing)}")


@pytest.mark.django_db(transaction=True)
def test_pipeline_sets_the_flags_that_atomic_sets() -> None:
    connection.ensure_connection()
    outside = flags()
    with transaction.atomic():
        inside = flags()
    with pipeline.transaction():
        assert flags() == inside, changed("`atomic` sets other flags inside its block")
    assert flags() == outside, changed("`atomic` leaves other flags behind")


@pytest.mark.django_db(transaction=True)
def test_commit_hooks_run_once_and_only_after_the_commit() -> None:
    ran: list[str] = []
    with pipeline.transaction():
        connection.on_commit(lambda: ran.append("hook"))
        assert ran == [], changed("a commit hook ran inside the block")
    assert ran == ["hook"], changed("commit hooks do not run after the block")
    with pytest.raises(ZeroDivisionError), pipeline.transaction():
        connection.on_commit(lambda: ran.append("rolled back"))
        raise ZeroDivisionError
    connection.ensure_connection()
    with transaction.atomic():
        pass
    assert ran == ["hook"], changed("a commit hook of a transaction that was rolled back ran")
