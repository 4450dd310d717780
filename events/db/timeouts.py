"""A time limit for statements of pages and API calls, where an error is better than a long wait."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import psycopg
from django.db import DatabaseError, connection

from events import errors, store
from events.db import pipeline, replica

# Set for the transaction, outside of one for the session, which goes back into the pool.
SET = """
with before as materialized (select current_setting('statement_timeout') as value)
select value, set_config('statement_timeout', %s, %s) from before
"""

# Set for the implicit transaction of statements that are sent together. Each is planned for its parameters: the limits
# are there for statements whose plan depends on them.
SET_TOGETHER = (
    "select set_config('statement_timeout', %s, true), set_config('plan_cache_mode', 'force_custom_plan', true)"
)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Limit every statement inside, of the store and of the ORM, to `seconds`. Raises `TookTooLong`."""
    before = _set(_milliseconds(seconds))
    try:
        yield
    except (errors.StoreUnavailable, DatabaseError) as error:
        _raise_if_too_long(error)
        raise
    finally:
        with contextlib.suppress(errors.EventsError, psycopg.Error, DatabaseError):
            _set(before)  # a failed transaction resets it itself


def rows_within(seconds: float, statements: Sequence[tuple[str, pipeline.Parameters]]) -> list[pipeline.Rows]:
    """Run statements in one round trip, each limited to `seconds`; return the rows of each. Raises `TookTooLong`."""
    if connection.in_atomic_block:
        with at_most(seconds):
            return pipeline.together(statements)
    try:
        return pipeline.together([(SET_TOGETHER, (_milliseconds(seconds),)), *statements])[1:]
    except errors.StoreUnavailable as error:
        _raise_if_too_long(error)
        raise


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def _raise_if_too_long(error: Exception) -> None:
    if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
        raise errors.TookTooLong from error


def _set(value: str) -> str:
    """Set the limit for the current transaction, outside of one for the session; returns the previous limit."""
    before: str = store.query(SET, (value, replica.database().in_atomic_block))[0][0]
    return before
