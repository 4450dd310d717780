"""Counts what a call costs the database: rows and index entries read, and statements. Nothing here measures time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from unittest import mock

from django.db import connection, transaction

from events.db.pipeline import Pipeline

# Rows that sequential scans of this transaction have returned, and entries that scans of indexes have, filtered or not.
READ: Final = """
select coalesce(sum(pg_stat_get_xact_tuples_returned(c.oid)), 0)::bigint
  from pg_class c
 where starts_with(c.relname, %s) and c.relnamespace = any(current_schemas(false)::regnamespace[])
   and c.relkind in ('r', 'i')
"""


def rows_read(function: Callable[..., Any], *arguments: Any, **named: Any) -> int:
    """Count the rows and index entries that a call reads in PostgreSQL, also inside functions of the database."""
    return rows_read_of("", function, *arguments, **named)


def rows_read_of(relations: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> int:
    """`rows_read` of the tables and indexes whose names begin with `relations`."""
    with transaction.atomic():  # outside a transaction the counts are moved elsewhere at any time
        before = _read(relations)
        function(*arguments, **named)
        return _read(relations) - before


def _read(relations: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(READ, [relations])
        found: int = cursor.fetchone()[0]
        return found


def statements(function: Callable[..., Any], *arguments: Any, **named: Any) -> int:
    """Count the statements that a call sends on the connection of this thread, by Django or by the store."""
    count = 0
    prepared = Pipeline._prepared

    def counted(self: Pipeline, *statement: Any) -> Any:
        nonlocal count
        count += 1
        return prepared(self, *statement)

    def executed(execute: Any, *statement: Any) -> Any:
        nonlocal count
        count += 1
        return execute(*statement)

    with mock.patch.object(Pipeline, "_prepared", counted), connection.execute_wrapper(executed):
        function(*arguments, **named)
    return count
