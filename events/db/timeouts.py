"""A time limit for statements of pages and API calls, where an error is better than a long wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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
        with _translated():
            yield
    finally:
        with contextlib.suppress(errors.EventsError, psycopg.Error, DatabaseError):
            _set(before)  # a failed transaction resets it itself


@contextlib.contextmanager
def cursors_at_most(seconds: float) -> Iterator[None]:
    """`at_most` for Django's cursors alone, without a round trip of its own. Raises `TookTooLong`.

    PostgreSQL runs the statements of one message in one transaction. So the limit goes before each statement, and ends
    with it. A transaction, or parameters that are bound by the server, need a statement of their own.
    """
    if connection.in_atomic_block or getattr(connection.features, "uses_server_side_binding", False):
        with at_most(seconds):
            yield
        return
    limit = f"set local statement_timeout = {seconds * 1000:.0f}; "

    def limited(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Mapping[str, Any]) -> Any:
        result = execute(limit + sql, params, many, context)
        context["cursor"].nextset()
        return result

    with _translated(), connection.execute_wrapper(limited):
        yield


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise `TookTooLong` for a statement that the limit ended."""
    try:
        yield
    except (errors.StoreUnavailable, DatabaseError) as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise errors.TookTooLong from error
        raise


def _set(value: str) -> str:
    """Set the limit for the current transaction, without one for the session; returns the previous one."""
    before: str = store.query(SET, (value, connection.in_atomic_block))[0][0]
    return before
