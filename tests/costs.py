"""Counts operations, for tests of how cost grows with the input. Nothing here measures time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final
from unittest import mock

from django.db import connection, transaction

from events.db.pipeline import Pipeline

# n log n grows by a little more than the factor of the input, n² by its square.
ABOUT_LINEAR: Final = 1.35


class Counted(str):
    """Text that counts its comparisons and hashes, which lists, dicts and sets make in C."""

    __slots__ = ()
    operations = 0

    def __eq__(self, other: object) -> bool:
        Counted.operations += 1
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        Counted.operations += 1
        return str.__hash__(self)


def operations(function: Callable[[], Any]) -> int:
    """Count the lines of Python that a call executes, and the comparisons of `Counted` text."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
        return trace

    before, outer = Counted.operations, sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(outer)
    return lines + Counted.operations - before


def assert_about_linear(cost_of: Callable[[int], int], small: int, *, factor: int = 4) -> None:
    """Assert that `cost_of(size)` grows in proportion to the size, with the slack that n log n needs."""
    cheap, dear = cost_of(small), cost_of(small * factor)
    assert dear <= cheap * factor * ABOUT_LINEAR, f"{small}: {cheap}, {small * factor}: {dear}"


# -- the database -----------------------------------------------------------------------------------------------------

# Rows that sequential scans of this transaction have returned, and entries that scans of indexes have, filtered or not.
READ: Final = """
select coalesce(sum(pg_stat_get_xact_tuples_returned(c.oid)), 0)::bigint
  from pg_class c where c.relnamespace = any(current_schemas(false)::regnamespace[]) and c.relkind in ('r', 'i')
"""


def rows_read(function: Callable[..., Any], *arguments: Any, **named: Any) -> int:
    """Count the rows and index entries that a call reads in PostgreSQL, also inside functions of the database."""
    with transaction.atomic():  # outside a transaction the counts are moved elsewhere at any time
        before = _read()
        function(*arguments, **named)
        return _read() - before


def _read() -> int:
    with connection.cursor() as cursor:
        cursor.execute(READ)
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
