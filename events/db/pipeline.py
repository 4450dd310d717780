"""Statements on Django's connection and in its transaction, with as few round trips as possible.

Every statement of the store goes through here: prepared once per connection, adapted by psycopg, sent by libpq without
the layers of a cursor, which cost more than most of these statements do. `transaction` goes further: inside it

    BEGIN     is sent with the first statement
    execute   only queues the statement: it has no rows to wait for
    defer     queues it as well; reading its rows sends the queue
    query     sends the queue and itself, and waits for its own rows
    COMMIT    is sent with the rest of the queue

so that a command costs two round trips: one to read, one to write. Any other use of the connection (the ORM, a
savepoint) sends the queue first, so statements run in the order in which they were called.

Driver errors are raised as domain errors (`events.db.driver_errors`). The error of a queued statement is raised when
the queue is sent, at the latest at the end of the transaction; then nothing of the transaction is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db import transaction as django_transaction

from events.db import replica
from events.db.pipelined_connection import Parameters, PendingRows, Pipeline, Rows, forget_broken_connection

__all__ = [
    "Parameters",
    "PendingRows",
    "Pipeline",
    "Rows",
    "defer",
    "execute",
    "once_committed",
    "query",
    "together",
    "transaction",
]


def query(statement: str, parameters: Parameters = ()) -> Rows:
    """Run one statement and return its rows as tuples; one that only reads may run on a standby (`replica.reading`)."""
    return _pipeline(replica.alias()).query(statement, parameters)


def execute(statement: str, parameters: Parameters = ()) -> None:
    """Run one statement without returning rows: at once, or inside `transaction` with the next one that waits."""
    pipeline = _pipeline()
    if pipeline.queues():
        pipeline.queue(statement, parameters)
    else:
        pipeline.query(statement, parameters)


def together(statements: Sequence[tuple[str, Parameters]]) -> list[Rows]:
    """Run statements in one round trip, and in one transaction; return the rows of each.

    They are not prepared: so a time limit that one of them sets applies to parsing the next ones, which can wait for a
    lock, and statements of many shapes do not crowd out the prepared ones.
    """
    return _pipeline(replica.alias()).together(statements)


def defer(statement: str, parameters: Parameters = ()) -> PendingRows:
    """Run one statement whose rows are not needed yet; see `PendingRows`."""
    pipeline = _pipeline()
    if pipeline.queues():
        return pipeline.queue(statement, parameters)
    return PendingRows(pipeline, pipeline.query(statement, parameters))


@contextmanager
def transaction() -> Iterator[None]:
    """A transaction with as few round trips as possible; inside another one, a savepoint of it.

    To Django it is an `atomic` block like any other: savepoints nest in it, `on_commit` waits for its end. See the
    module's docstring.
    """
    pipeline = _pipeline()
    db = pipeline.db
    if db.in_atomic_block or not db.get_autocommit():
        with django_transaction.atomic():
            yield
        return
    pipeline.begin()
    _set_django_flags(db, inside=True)
    db.execute_wrappers.append(pipeline.before_others)
    _local.pipeline = pipeline
    try:
        try:
            yield
            if not db.needs_rollback:
                pipeline.commit()
        finally:
            pipeline.end()
    except BaseException:
        db.run_on_commit = []
        raise
    finally:
        _local.pipeline = None
        db.execute_wrappers.remove(pipeline.before_others)
        _set_django_flags(db, inside=False)
        forget_broken_connection(db)
    db.run_and_clear_commit_hooks()


def once_committed(act: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Call `act` after the commit, at once where there is no transaction; never after a rollback.

    Its exceptions are logged, not raised.
    """

    def act_once_committed() -> None:
        act(*arguments, **named)

    # Django logs a failed hook by this name, and fails itself for a hook without one, such as a `partial`.
    act_once_committed.__qualname__ = getattr(act, "__qualname__", repr(act))
    _pipeline().db.on_commit(act_once_committed, robust=True)


def _set_django_flags(db: Any, *, inside: bool) -> None:
    """Set the flags that Django's `atomic` sets when its outermost block begins and ends."""
    if db.needs_rollback and not inside:
        db.run_on_commit = []
    db.needs_rollback = False
    db.commit_on_exit = True
    db.in_atomic_block = inside
    if db.closed_in_transaction:
        db.connection = None
    else:
        db.autocommit = not inside


_local = threading.local()  # `pipeline` while inside `transaction`: Django's look-up takes longer


def _pipeline(alias: str = DEFAULT_DB_ALIAS) -> Pipeline:
    inside: Pipeline | None = getattr(_local, "pipeline", None)
    if inside is not None:
        return inside
    db: Any = connections[alias]
    if db.connection is None:
        db.ensure_connection()
    raw = db.connection
    pipeline: Pipeline | None = getattr(raw, "events_pipeline", None)
    if pipeline is None:
        pipeline = raw.events_pipeline = Pipeline(db, raw)
    pipeline.db = db  # a pool hands connections from one thread's wrapper to the next one's
    return pipeline
