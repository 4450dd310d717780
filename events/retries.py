"""Transactions that are tried again after losing a race: serialization failures, deadlocks, twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import psycopg
from django.db import DatabaseError, connection

from events import errors
from events.db import driver_errors, pipeline

ATTEMPTS: Final = 5

P = ParamSpec("P")
T = TypeVar("T")


def run(carry_out: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `carry_out` in a transaction, again after it lost a race that a fresh attempt can win.

    Inside another transaction no fresh attempt is possible, so `carry_out` runs once.
    """
    nested = connection.in_atomic_block
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with pipeline.transaction():
                return carry_out(*args, **kwargs)
        except (psycopg.Error, DatabaseError, errors.WrongExpectedVersion, errors.StaleKeys) as error:
            if nested or attempt == ATTEMPTS or not _is_retryable(error):
                raise
    raise AssertionError("unreachable")


def _is_retryable(error: Exception) -> bool:
    if isinstance(error, errors.WrongExpectedVersion | errors.StaleKeys):
        return True
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    if isinstance(cause, psycopg.errors.UniqueViolation):
        # A twin was first with the answer, or with the row of a record that both create: the next attempt finds it.
        return (cause.diag.constraint_name or "").endswith("_pkey")
    return driver_errors.is_collision(error)
