"""Statements on Django's connection and in its transaction, with the fewest words to and from PostgreSQL.

Everything the store says goes through here: prepared once per connection, adapted by psycopg, carried by libpq without
the layers of a cursor, which cost more than most of these statements do. `transaction` goes further: inside it

    BEGIN     travels with the first statement
    execute   does not travel at all yet; what has no answer to wait for is kept, in order
    later     is kept as well; its rows can be asked for when it has travelled
    query     takes everything kept with it, and waits for its own rows
    COMMIT    takes the rest

so that a command costs two round trips: one to look, one to write. Whatever else is said on the connection (the ORM, a
savepoint) sends what is kept before it, so the order in which statements were called is the order they run in.

Driver errors come out as `errors`, found once: by constraint name, else by the kind of error. An error of a kept
statement is raised where it travels, at the latest at the end of the transaction; then nothing of that happened.
"""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

import orjson
import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import transaction as django_transaction
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader, PyFormat, Transformer

from events import errors
from events.db import arrays

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
Rows: TypeAlias = list[Any]

KEEP_BYTES: Final = 32_768  # more than this is sent at once: what is kept must fit any socket's buffer
KEEP_STATEMENTS: Final = 64
MAX_PREPARED: Final = 1_000

_GOOD: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
# A prepared statement that somebody deallocated, or whose result a migration has changed since: prepare it again.
_STALE: Final = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.FeatureNotSupported)

_Key: TypeAlias = tuple[str, tuple[int, ...] | None]
_Ready: TypeAlias = tuple[bytes, Sequence[Any] | None, Sequence[pq.Format] | None]


def query(statement: str, parameters: Parameters = ()) -> Rows:
    """Run one statement and return its rows as tuples."""
    return _line().query(statement, parameters)


def execute(statement: str, parameters: Parameters = ()) -> None:
    """Run one statement that returns nothing of interest: at once, or inside `transaction` with the next that waits."""
    line = _line()
    if line.keeps():
        line.keep(statement, parameters)
    else:
        line.query(statement, parameters)


class Later:
    """The rows of a statement that may not have travelled yet; asking for them sends it."""

    __slots__ = ("_line", "_rows")

    def __init__(self, line: _Line, rows: Rows | None = None) -> None:
        self._line, self._rows = line, rows

    @property
    def inside(self) -> bool:
        """Is its connection inside a transaction?"""
        return bool(self._line.db.in_atomic_block)

    @property
    def rows(self) -> Rows:
        if self._rows is None:
            self._line.send()
        assert self._rows is not None, "asked for after its transaction failed"
        return self._rows

    def arrive(self, rows: Rows) -> None:
        self._rows = rows


def later(statement: str, parameters: Parameters = ()) -> Later:
    """Run one statement whose rows are not needed yet; see `Later`."""
    line = _line()
    return line.keep(statement, parameters) if line.keeps() else Later(line, line.query(statement, parameters))


@contextmanager
def transaction() -> Iterator[None]:
    """A transaction of as few round trips as can be; inside another one, a savepoint of it. See the module's text.

    To Django it is an `atomic` block like any other: savepoints nest in it, `on_commit` waits for its end.
    """
    line = _line()
    db = line.db
    if db.in_atomic_block or not db.get_autocommit():
        with django_transaction.atomic():
            yield
        return
    line.begin()
    _tell_django(db, inside=True)
    db.execute_wrappers.append(line.before_others)
    _here.line = line
    try:
        try:
            yield
            if not db.needs_rollback:
                line.commit()
        finally:
            line.end()
    except BaseException:
        db.run_on_commit = []
        raise
    finally:
        _here.line = None
        db.execute_wrappers.remove(line.before_others)
        _tell_django(db, inside=False)
        _forget_broken_connection(db)
    db.run_and_clear_commit_hooks()


def once_committed(act: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Do it when the transaction has committed, at once where there is none, and never when it is rolled back. What it
    raises is logged.
    """

    def act_once_committed() -> None:
        act(*arguments, **named)

    # Django logs a hook's failure by this name, and fails itself where there is none: a `partial` has none.
    act_once_committed.__qualname__ = getattr(act, "__qualname__", repr(act))
    _line().db.on_commit(act_once_committed, robust=True)


def _tell_django(db: Any, *, inside: bool) -> None:
    """What `atomic` notes on the connection when its outermost block begins and ends."""
    if db.needs_rollback and not inside:
        db.run_on_commit = []
    db.needs_rollback = False
    db.commit_on_exit = True
    db.in_atomic_block = inside
    if db.closed_in_transaction:
        db.connection = None
    else:
        db.autocommit = not inside


def _forget_broken_connection(db: Any) -> None:
    """Django would keep handing out a connection that the server has closed until the next request."""
    if db.connection is not None and db.connection.closed and not db.in_atomic_block:
        db.close()


# -- how values travel ----------------------------------------------------------------------------------------------


class _Adapting:
    """What psycopg adapts by: the connection's own rules, and ours."""

    def __init__(self, raw: Any) -> None:
        self.connection = raw
        self.adapters = AdaptersMap(raw.adapters)
        arrays.register(self.adapters)
        self.adapters.register_loader("timestamptz", _Instant)


class _Instant(Loader):
    """What psycopg, and Django after it, do with a regular expression takes longer than all the rest of an event."""

    def load(self, data: Buffer) -> datetime:
        return datetime.fromisoformat(bytes(data).decode())


# -- the line -------------------------------------------------------------------------------------------------------


class _Line:
    """One connection as this module uses it: its prepared statements, and what is kept to travel together."""

    def __init__(self, db: Any, raw: Any) -> None:
        self.db = db  # not Django's proxy: each word to it costs more than a parameter to PostgreSQL
        self.raw = raw
        self.pgconn: pq.abc.PGconn = raw.pgconn
        self.answers = select.poll()
        self.answers.register(self.pgconn.socket, select.POLLIN)
        self.transformer = Transformer(_Adapting(raw))
        self.prepared: dict[_Key, bytes] = {}
        self.number = 0
        self.inside = False
        self.kept: list[_Ready] = []
        self.waiting: list[Later] = []
        self.bytes_kept = 0

    def query(self, statement: str, parameters: Parameters) -> Rows:
        if not self.raw.autocommit and self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            self.keep("begin", ())  # Django's own atomic leaves this to the first statement
        if self.kept:
            asked = self.keep(statement, parameters)
            self.send()
            return asked.rows
        try:
            try:
                return self._rows(self._ask(self._ready(statement, parameters)))
            except _STALE:
                if self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                    raise
                return self._rows(self._ask(self._ready(statement, parameters)))
        except psycopg.Error as error:
            raise _explained(error) from error

    def _ask(self, ready: _Ready) -> pq.abc.PGresult:
        self.pgconn.send_query_prepared(*ready)
        return self._answer()

    def _answer(self) -> pq.abc.PGresult:
        """What comes of the one thing just sent. Waiting is done here, not in libpq: no signal would come through."""
        self._flush()
        result = None
        while (found := self._next_result()) is not None:
            result = found
        if result is None:
            raise psycopg.OperationalError("the connection is lost")
        return result

    # -- keeping ----------------------------------------------------------------------------------------------------

    def keeps(self) -> bool:
        """Not inside a savepoint: an error must come up before the savepoint is let go."""
        return self.inside and not self.db.savepoint_ids

    def keep(self, statement: str, parameters: Parameters) -> Later:
        try:
            ready = self._ready(statement, parameters)
        except psycopg.Error as error:
            raise _explained(error) from error
        size = sum(map(len, filter(None, ready[1] or ())))
        if self.kept and (self.bytes_kept + size > KEEP_BYTES or len(self.kept) >= KEEP_STATEMENTS):
            self.send()
        asked = Later(self)
        self.kept.append(ready)
        self.waiting.append(asked)
        self.bytes_kept += size
        return asked

    def send(self) -> None:
        """Let everything kept travel, in order, and bring every answer back."""
        kept, waiting = self.kept, self.waiting
        self._drop_kept()
        if not kept:
            return
        try:
            for result, asked in zip(self._travel(kept), waiting, strict=True):
                asked.arrive(self._rows(result))
        except psycopg.Error as error:
            raise _explained(error) from error

    def _drop_kept(self) -> None:
        self.kept, self.waiting, self.bytes_kept = [], [], 0

    def _travel(self, kept: Sequence[_Ready]) -> list[pq.abc.PGresult]:
        """One pipeline: all statements, one synchronisation, one result each (after one that failed: "aborted")."""
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        for ready in kept:
            pgconn.send_query_prepared(*ready)
        pgconn.pipeline_sync()
        self._flush()
        results = []
        while (result := self._next_result()) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
            if result is not None:
                results.append(result)
            elif pgconn.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError("the connection is lost")
        pgconn.exit_pipeline_mode()
        return results

    def _flush(self) -> None:
        """Out with what was said. What comes back meanwhile is taken in, so that neither side waits for the other."""
        if not self.pgconn.flush():
            return
        both = select.poll()
        both.register(self.pgconn.socket, select.POLLIN | select.POLLOUT)
        while self.pgconn.flush():
            if any(happened & ~select.POLLOUT for _, happened in both.poll()):
                self.pgconn.consume_input()

    def _next_result(self) -> pq.abc.PGresult | None:
        pgconn = self.pgconn
        while pgconn.is_busy():  # waiting is done here, not in libpq: there it would hold up every other thread
            self.answers.poll()
            pgconn.consume_input()
        return pgconn.get_result()

    # -- transactions -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.inside = True
        self.keep("begin", ())

    def commit(self) -> None:
        if self.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            raise errors.EventsError("A statement of this transaction failed and was passed over: nothing is kept.")
        if len(self.kept) == 1 and self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return  # only "begin": nothing was said
        self.keep("commit", ())
        self.send()

    def end(self) -> None:
        """After a commit there is nothing left to do; otherwise roll back. Never raises: what made that necessary is
        more interesting, and a connection that is lost, or was left in the middle of something, rolls back by ending.
        """
        self._drop_kept()
        self.inside = False
        if self.db.closed_in_transaction or self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return
        try:
            # Saying anything to a statement under way would wait for its end.
            under_way = self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE
            if self.pgconn.pipeline_status == pq.PipelineStatus.OFF and not under_way:
                self.query("rollback", ())
        except (psycopg.Error, errors.EventsError):
            pass
        if self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self.pgconn.finish()

    def before_others(self, run: Callable[..., Any], sql: Any, parameters: Any, many: bool, context: Any) -> Any:
        """An execute wrapper of Django's: whatever it says comes after what was said here."""
        self.send()
        return run(sql, parameters, many, context)

    # -- statements -------------------------------------------------------------------------------------------------

    def _ready(self, statement: str, parameters: Parameters) -> _Ready:
        """The statement's prepared name, and its parameters as PostgreSQL wants them."""
        if not parameters:
            key: _Key = (statement, None)
            return self.prepared.get(key) or self._prepare(key), None, None
        values = parameters
        if not isinstance(values, list | tuple):
            values = [values[name] for name in _numbered(statement)[1]] if isinstance(values, Mapping) else list(values)
        dumped = self.transformer.dump_sequence(values, [PyFormat.AUTO] * len(values))
        key = (statement, self.transformer.types)
        return self.prepared.get(key) or self._prepare(key), dumped, self.transformer.formats

    def _prepare(self, key: _Key) -> bytes:
        if len(self.prepared) >= MAX_PREPARED:
            self._forget_prepared()
        self.number += 1
        name = b"wire_%d" % self.number
        self.pgconn.send_prepare(name, _numbered(key[0])[0], key[1])
        self._rows(self._answer())
        self.prepared[key] = name
        return name

    def _forget_prepared(self) -> None:
        self.prepared.clear()
        if not self.kept:
            self.pgconn.exec_(b"deallocate all")

    def _rows(self, result: pq.abc.PGresult) -> Rows:
        if result.status not in _GOOD:
            if self.pgconn.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError(result.get_error_message())
            error = psycopg.errors.error_from_result(result)
            if isinstance(error, _STALE):
                self._forget_prepared()
            raise error
        if not result.ntuples:
            return []
        self.transformer.set_pgresult(result)
        return self.transformer.load_rows(0, result.ntuples, tuple)


_MARK = re.compile(r"%(?:%|s|\((\w+)\)s)")


@lru_cache(maxsize=2 * MAX_PREPARED)
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """`%s` and `%(name)s` as PostgreSQL numbers them, and the names in that order."""
    names: dict[str, int] = {}
    count = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal count
        if found[0] == "%%":
            return "%"
        if found[1] is None:
            count += 1
            return f"${count}"
        return f"${names.setdefault(found[1], len(names) + 1)}"

    return _MARK.sub(mark, statement).encode(), tuple(names)


_here = threading.local()  # `line` while inside `transaction`: Django's way to it takes longer


def _line() -> _Line:
    inside: _Line | None = getattr(_here, "line", None)
    if inside is not None:
        return inside
    db: Any = connections[DEFAULT_DB_ALIAS]
    if db.connection is None:
        db.ensure_connection()
    raw = db.connection
    line: _Line | None = getattr(raw, "events_line", None)
    if line is None:
        line = raw.events_line = _Line(db, raw)
    line.db = db  # a pool hands connections from one thread's wrapper to the next one's
    return line


# -- errors ---------------------------------------------------------------------------------------------------------

_explanations: dict[str, Callable[[], errors.EventsError]] = {}


def explain(constraint: str, error: Callable[[], errors.EventsError]) -> None:
    """Say what breaking a constraint means to a person."""
    _explanations[constraint] = error


def translated(error: psycopg.Error) -> errors.EventsError | psycopg.Error:
    """The domain error behind a driver error: by constraint name, else by the kind of error."""
    return _by_constraint(error) or _by_kind(error) or error


def _explained(error: psycopg.Error) -> errors.EventsError | psycopg.Error:
    _forget_broken_connection(connections[DEFAULT_DB_ALIAS])
    return translated(error)


def _by_constraint(error: psycopg.Error) -> errors.EventsError | None:
    constraint = error.diag.constraint_name or ""
    if constraint in _explanations:
        return _explanations[constraint]()
    if constraint in _OURS:
        return _OURS[constraint](error.diag)
    if constraint == "events_stream_pkey":
        stream = _KEY.search(error.diag.message_detail or "")
        return errors.WrongExpectedVersion(stream[1] if stream else "?", 0, None)
    if constraint.startswith("events_event_p") and constraint.endswith("_version"):
        return errors.WrongExpectedVersion("?", "?", None)
    if constraint.startswith("events_event_p") and constraint.endswith("_event_id"):
        return errors.DuplicateEvent()
    return None


_KEY: Final = re.compile(r"\(stream\)=\((.*)\)")
_OURS: Final[dict[str, Callable[[psycopg.errors.Diagnostic], errors.EventsError]]] = {
    "events_expected_version": lambda told: errors.WrongExpectedVersion(**orjson.loads(told.message_detail or "{}")),
    "events_archived": lambda told: errors.Archived(told.message_primary, upto=int(told.message_detail or 0)),
    "events_primary": lambda told: errors.NotPrimary(told.message_primary),
    "events_append_only": lambda told: errors.AppendOnly(told.message_primary),
}


def _by_kind(error: psycopg.Error) -> errors.EventsError | None:
    if isinstance(error, psycopg.errors.UntranslatableCharacter):
        return errors.InvalidEvent("A text holds a NUL character, which PostgreSQL cannot store.")
    if isinstance(error, psycopg.DataError):
        return errors.InvalidEvent(str(error))
    if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08")[:2] in {"08", "57"}:
        return errors.StoreUnavailable()
    return None
