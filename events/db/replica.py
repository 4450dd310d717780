"""Reading from a standby (`DATABASE_READ_URL`), only where it has everything that the reader has seen.

`reading(position)` chooses for the statements inside: the standby, where the log is complete there up to `position` and
it lags by less than `MAX_LAG` seconds, else the primary. Then `pipeline.query` and the ORM (through `Router`) read from
it, outside of transactions. Writes, transactions, and all models that do not follow the log, among them those of logins
and sessions, use the primary. Exports choose in their own way: `events.export_reads`.

The lag is measured in positions: the standby must have passed one that this process had already followed a moment ago.
So a process that does not follow the log reads from the primary. Without new events nothing shows a standby that has
stopped replaying, and it lacks what has no event, such as the purge after an erasure: so it must have replayed a commit
in the last `MAX_SILENCE` seconds, too.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.models import Model

from events import freshness

log = logging.getLogger(__name__)

ALIAS: Final = "replica"
MAX_LAG: Final = 3.0  # seconds
MAX_SILENCE: Final = 30.0  # seconds; the samples alone are a commit every five seconds
NOTE_EVERY: Final = 0.25
PAUSE_AFTER_FAILURE: Final = 5.0

# Also whether the server is no standby, or has replayed a commit lately.
HEAD: Final = """
select epoch::text, events_known_head(), not pg_is_in_recovery()
       or coalesce(pg_last_xact_replay_timestamp() > clock_timestamp() - %s * interval '1 second', false)
  from events_epoch
"""

# Whether the server is a standby of this epoch, and has replayed the WAL up to a location.
REPLAYED: Final = """
select pg_is_in_recovery() and epoch::text = %s, coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)
  from events_epoch
"""

# Classes of errors that are the standby's: connection, recovery conflict, writing, resources, its end; and a column,
# function or table of a migration that it has not replayed yet. Not 57014, the time limit of a statement.
FAULTS: Final = ("08", "25", "40", "42703", "42883", "42P01", "53", "57", "58", "XX")

T = TypeVar("T")


class Scope(enum.Enum):
    """The statements that read from the standby: those outside of transactions of the primary, or all."""

    OUTSIDE_TRANSACTIONS = enum.auto()
    ALL = enum.auto()


_scope: ContextVar[Scope | None] = ContextVar("reading_from_standby", default=None)
_watched: ContextVar[Shown | None] = ContextVar("shown_positions", default=None)


def configured() -> bool:
    """Whether this installation has a standby to read from."""
    return ALIAS in settings.DATABASES


def alias() -> str:
    """The database that a statement which only reads is sent to."""
    scope = _scope.get()
    if scope is None or (scope is not Scope.ALL and connections[DEFAULT_DB_ALIAS].in_atomic_block):
        return DEFAULT_DB_ALIAS
    return ALIAS


def database() -> Any:
    """Django's connection to `alias()`, for cursors."""
    return connections[alias()]


@contextlib.contextmanager
def reading(position: int | None) -> Iterator[bool]:
    """Read inside from the standby where it may be used for a reader at `position`; yields whether it is."""
    on_standby = _usable(position)
    with _scoped(Scope.OUTSIDE_TRANSACTIONS if on_standby else None):
        yield on_standby


def run(position: int | None, read: Callable[[], T]) -> T:
    """Call `read`, which only reads, inside `reading`; once more on the primary where the standby fails it.

    A standby ends a long statement whose rows the primary has vacuumed, and it refuses everything that writes.
    """
    return run_in(Scope.OUTSIDE_TRANSACTIONS if _usable(position) else None, read)


def run_in(scope: Scope | None, read: Callable[[], T]) -> T:
    """Call `read` with the statements of `scope` on the standby; again on the primary where the standby fails it."""
    if scope is not None:
        try:
            with _scoped(scope):
                return read()
        except Exception as error:
            if not is_fault(error):
                raise
            STANDBY.note_failure(error)
    with _scoped(None):
        return read()


def _usable(position: int | None) -> bool:
    return position is not None and configured() and STANDBY.usable(position)


@contextlib.contextmanager
def _scoped(scope: Scope | None) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def is_fault(error: Exception) -> bool:
    """Whether an error is the standby's fault, so that the primary may have an answer."""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    if not isinstance(cause, psycopg.Error):
        return False
    state = cause.sqlstate or "08"
    return state.startswith(FAULTS) and state != "57014"


def failed(error: Exception) -> bool:
    """Whether this read failed because of the standby: a reader of the primary would have got an answer."""
    return alias() == ALIAS and is_fault(error)


# -- positions --------------------------------------------------------------------------------------------------------


class Shown:
    """The highest position that was shown or written within `watching`."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position = 0


@contextlib.contextmanager
def watching() -> Iterator[Shown]:
    """Collect what `show` is called with inside."""
    shown = Shown()
    token = _watched.set(shown)
    try:
        yield shown
    finally:
        _watched.reset(token)


def show(position: int) -> None:
    """Note that the reader of this request gets to see the log up to `position`."""
    shown = _watched.get()
    if shown is not None and position > shown.position:
        shown.position = position


# -- the standby ------------------------------------------------------------------------------------------------------


class Standby:
    """The state of the standby as this process knows it: whether it answers, and the positions it must have passed."""

    def __init__(self, known: freshness.Freshness = freshness.LOCAL) -> None:
        self._known = known
        self._noted: deque[tuple[float, int]] = deque()
        self._silent_until = 0.0
        self._lock = threading.Lock()

    def usable(self, position: int) -> bool:
        """Whether the log is complete on the standby up to `position`, and up to what was followed lately.

        A standby of a former primary, or one that has not received the epoch of its new one yet, has another epoch: its
        positions may be those of lost events.
        """
        now = time.monotonic()
        if not self._known.trusted(now):
            return False
        lowest = max(position, self._lately(now), self._known.erased_at)
        epoch, reached, replays = self._ask(HEAD, (MAX_SILENCE,)) or ("", 0, False)
        return bool(epoch == self._known.epoch and reached >= lowest and replays)

    def replayed(self, epoch: str, location: str) -> tuple[bool, bool]:
        """Whether the standby answers and follows `epoch`; whether it also has all that the WAL up to `location` has.

        This includes changes without an event, such as the purge after an erasure, which a position does not cover.
        """
        follows, complete = self._ask(REPLAYED, (epoch, location)) or (False, False)
        return follows, follows and complete

    def _ask(self, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Any] | None:
        """The row of a statement; None where the standby does not answer, or failed lately."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            with connections[ALIAS].cursor() as cursor:
                cursor.execute(statement, parameters)
                row: Sequence[Any] | None = cursor.fetchone()
        except (psycopg.Error, DatabaseError) as error:
            self.note_failure(error)
            return None
        return row

    def age(self, position: int) -> float:
        """How many seconds ago, at most, this process had followed the log no further than to `position`."""
        with self._lock:
            if self._known.position <= position:
                return 0.0
            now = time.monotonic()
            return min((now - at for at, followed in self._noted if followed <= position), default=float("inf"))

    def _lately(self, now: float) -> int:
        """The position that this process had followed at most `MAX_LAG` seconds ago, or now."""
        with self._lock:
            noted = self._noted
            if not noted or now - noted[-1][0] >= NOTE_EVERY:
                noted.append((now, self._known.position))
            while now - noted[0][0] > MAX_LAG:
                noted.popleft()
            return noted[0][1]

    def note_failure(self, error: Exception) -> None:
        """Read from the primary for a while."""
        log.warning("the standby is not used for %g s: %s", PAUSE_AFTER_FAILURE, error)
        self._silent_until = time.monotonic() + PAUSE_AFTER_FAILURE
        with contextlib.suppress(Exception):
            connections[ALIAS].close()


STANDBY: Final = Standby()


class Router:
    """Django's router: reads follow `alias()`, everything else uses the primary."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str:
        """Models follow the log when they say so by `follows_log`, and all of this package do."""
        follows = model._meta.app_label == "events" or getattr(model, "follows_log", False)
        return alias() if follows else DEFAULT_DB_ALIAS

    def db_for_write(self, _model: type[Model], **_hints: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, _one: Model, _other: Model, **_hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, _app_label: str, **_hints: Any) -> bool | None:
        return False if db == ALIAS else None
