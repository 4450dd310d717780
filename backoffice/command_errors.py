"""One line for the errors of management commands that are not errors of the program: services, rights, terminals."""

from __future__ import annotations

import psycopg
import redis
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from events import errors
from events.db import primary

DATABASE = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError, errors.StoreUnavailable)


def explanation(error: BaseException) -> str | None:
    """The line for an error that a command did not handle; None where a traceback is needed."""
    if isinstance(error, EOFError):
        return "This command asks for a confirmation: run it in a terminal, or with --no-input."
    if isinstance(error, redis.RedisError):
        return f"Valkey: {_line(error)}. Is it running, and is the password of REDIS_URL right?"
    return _of_database(error)


def _of_database(error: BaseException) -> str | None:
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return (
            f"database: {_line(cause)}. This needs the role that owns the tables (DATABASE_URL), "
            "or grant_application was not run after migrate."
        )
    if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return f"database: {_line(cause)}. Run migrate."
    if not isinstance(error, DATABASE):
        return None
    reason = _reason(error)
    if primary.IS_FORMER in reason:
        return f"database: {reason}."
    if "FATAL:" in reason:  # it is running, and refuses this login
        return f"database: {reason}. DATABASE_URL has the login and the name of the database."
    return f"database: {reason}. Is it running? `make run` starts one; DATABASE_URL names another."


def _reason(error: BaseException) -> str:
    """The answer to a connection of our own: a pool says only that it got none in time."""
    from backoffice import health  # noqa: PLC0415 - slow to import, and not needed by most commands

    try:
        health.connect().close()
    except psycopg.Error as found:
        return _line(found)
    return _line(error)


def _line(error: BaseException) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
