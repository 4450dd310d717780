"""Statements that may take only so long: for pages and calls, where a person would rather be told than wait."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from django.db import DatabaseError, connection

from events import errors, store

NOW = "select current_setting('statement_timeout')"
SET = "select set_config('statement_timeout', %s, %s)"


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Every statement inside ends within `seconds`, whoever sends it: the store or the ORM. Raises `TookTooLong`."""
    before = store.query(NOW)[0][0]
    _set(f"{seconds * 1000:.0f}ms")
    try:
        yield
    except (errors.StoreUnavailable, DatabaseError) as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise errors.TookTooLong from error
        raise
    finally:
        with contextlib.suppress(errors.EventsError, psycopg.Error, DatabaseError):
            _set(before)  # a transaction that failed takes it back by itself


def _set(value: str) -> None:
    """For the transaction where there is one, else for the session, which goes back into the pool."""
    store.query(SET, (value, connection.in_atomic_block))
