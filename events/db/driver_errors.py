"""Driver errors as domain errors, and the one classification of SQLSTATEs (PostgreSQL manual, appendix A)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import orjson
import psycopg

from events import errors, extension

# -- SQLSTATEs --------------------------------------------------------------------------------------------------------

# Two transactions collided, and a fresh one can succeed: serialization failure, deadlock.
COLLISIONS: Final = frozenset({"40001", "40P01"})
# A fresh attempt may succeed: the above, lock or statement timeout.
TEMPORARY: Final = COLLISIONS | {"55P03", "57014"}
# The database cannot be reached or accepts no work: connection exceptions, operator intervention.
UNAVAILABLE_CLASSES: Final = frozenset({"08", "57"})
# The server or the deployment is at fault, not the data: the above, no resources, I/O errors ...
ENVIRONMENT_CLASSES: Final = UNAVAILABLE_CLASSES | {"53", "58"}
# ... read-only after a failover; a table, column or function that a migration should have made; missing privileges.
ENVIRONMENT: Final = frozenset({"25006", "42P01", "42703", "42883", "42501"})


def sqlstate(error: BaseException | None) -> str:
    """The SQLSTATE of a driver error, or of the driver error that caused this one; empty where there is none."""
    while error is not None:
        if isinstance(error, psycopg.Error) and error.sqlstate:
            return error.sqlstate
        cause = error.__cause__ or error.__context__
        error = cause if cause is not error else None  # "raise error from error"
    return ""


def is_collision(error: BaseException) -> bool:
    """True for a serialization failure or a deadlock."""
    return sqlstate(error) in COLLISIONS


def is_temporary(error: BaseException) -> bool:
    """True when the same statements may succeed if they are repeated at once."""
    return sqlstate(error) in TEMPORARY


def is_environment(error: BaseException) -> bool:
    """True when the server or the deployment is at fault, so that no other data would help."""
    state = sqlstate(error)
    return state not in TEMPORARY and (state[:2] in ENVIRONMENT_CLASSES or state in ENVIRONMENT)


def is_session_end(error: psycopg.OperationalError) -> bool:
    """True when the session has ended, as opposed to a statement that failed."""
    return error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))


def _is_unavailable(error: psycopg.Error) -> bool:
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08")[:2] in UNAVAILABLE_CLASSES


# -- domain errors ----------------------------------------------------------------------------------------------------

_STREAM_KEY: Final = re.compile(r"\(stream\)=\((.*)\)")

# Constraint names that the functions in `events/sql` raise their errors with.
_RAISED: Final[dict[str, Callable[[psycopg.errors.Diagnostic], errors.EventsError]]] = {
    "events_expected_version": lambda diag: errors.WrongExpectedVersion(**orjson.loads(diag.message_detail or "{}")),
    "events_archived": lambda diag: errors.Archived(diag.message_primary, upto=int(diag.message_detail or 0)),
    "events_primary": lambda diag: errors.NotPrimary(diag.message_primary),
    "events_append_only": lambda diag: errors.AppendOnly(diag.message_primary),
}


def translate(error: psycopg.Error) -> errors.EventsError | psycopg.Error:
    """The domain error behind a driver error: by constraint name, then by kind; else the driver error itself."""
    return _by_constraint(error) or _by_kind(error) or error


def _by_constraint(error: psycopg.Error) -> errors.EventsError | None:
    constraint = error.diag.constraint_name or ""
    if constraint in extension.constraint_errors:
        return extension.constraint_errors[constraint]()
    if constraint in _RAISED:
        return _RAISED[constraint](error.diag)
    if constraint == "events_stream_pkey":
        stream = _STREAM_KEY.search(error.diag.message_detail or "")
        return errors.WrongExpectedVersion(stream[1] if stream else "?", 0, None)
    if constraint.startswith("events_event_p") and constraint.endswith("_version"):
        return errors.WrongExpectedVersion("?", "?", None)
    if constraint.startswith("events_event_p") and constraint.endswith("_event_id"):
        return errors.DuplicateEvent()
    return None


def _by_kind(error: psycopg.Error) -> errors.EventsError | None:
    if isinstance(error, psycopg.errors.UntranslatableCharacter):
        return errors.InvalidEvent("A text holds a NUL character, which PostgreSQL cannot store.")
    if isinstance(error, psycopg.DataError):
        return errors.InvalidEvent(str(error))
    return errors.StoreUnavailable() if _is_unavailable(error) else None
