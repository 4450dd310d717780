"""A time limit for statements of pages and API calls, where an error is better than a long wait."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from django.db import DatabaseError, connection

from events import errors, store

# Set for the transaction, outside of one for the session, which goes back into the pool.
SET = """
with before as materialized (select current_setting('statement_timeout') as value)
select value, set_config('statement_timeout', %s, %s) from before
"""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Limit every statement inside, of the store and of the ORM, to `seconds`. Raises `TookTooLong`."""
    before = _set(f"{seconds * 1000:.0f}ms")
    try:
        yield
    except (errors.StoreUnavailable, DatabaseError) as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise errors.TookTooLong from error
        raise
    finally:
        with contextlib.suppress(errors.EventsError, psycopg.Error, DatabaseError):
            _set(before)  # a failed transaction resets it itself


def _set(value: str) -> str:
    """Set the limit for the current transaction, without one for the session; returns the previous one."""
    before: str = store.query(SET, (value, connection.in_atomic_block))[0][0]
    return before
