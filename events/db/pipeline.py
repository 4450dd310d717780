"""Statements on Django's connection and in its transaction, with as few round trips as possible.

Every statement of the store goes through here: prepared once per connection, adapted by psycopg, sent by libpq without
the layers of a cursor, which cost more than most of these statements do. `transaction` goes further: inside it

    BEGIN     is sent with the first statement
    execute   only queues the statement: it has no rows to wait for
    defer     queues it as well; reading its rows sends the queue
    query     sends the queue and itself, and waits for its own rows
    COMMIT    is sent with the rest of the queue

so that a command costs two round trips: one to read, one to write. Any other use of the connection (the ORM, a
savepoint) sends the queue first, so statements run in the order in which they were called.

Driver errors are raised as domain errors (`events.db.driver_errors`). The error of a queued statement is raised when
the queue is sent, at the latest at the end of the transaction; then nothing of the transaction is stored.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import transaction as django_transaction
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer

from events import errors
from events.db import adapters, driver_errors, placeholders, replica

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
Rows: TypeAlias = list[Any]

MAX_QUEUED_BYTES: Final = 32_768  # more is sent at once: the queue must fit into any socket buffer
MAX_QUEUED: Final = 64
MAX_PREPARED: Final = 1_000

_SUCCESS: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
# A prepared statement was deallocated, or a migration changed its result: it must be prepared again.
_STALE: Final = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.FeatureNotSupported)

_Key: TypeAlias = tuple[str, tuple[int, ...] | None]
_Prepared: TypeAlias = tuple[bytes, Sequence[Any] | None, Sequence[pq.Format] | None]


def query(statement: str, parameters: Parameters = ()) -> Rows:
    """Run one statement and return its rows as tuples; one that only reads may run on a standby (`replica.reading`)."""
    return _pipeline(replica.alias()).query(statement, parameters)


def execute(statement: str, parameters: Parameters = ()) -> None:
    """Run one statement without returning rows: at once, or inside `transaction` with the next one that waits."""
    pipeline = _pipeline()
    if pipeline.queues():
        pipeline.queue(statement, parameters)
    else:
        pipeline.query(statement, parameters)


def together(statements: Sequence[tuple[str, Parameters]]) -> list[Rows]:
    """Run statements in one round trip, and in one transaction; return the rows of each.

    They are not prepared: so a time limit that one of them sets applies to parsing the next ones, which can wait for a
    lock, and statements of many shapes do not crowd out the prepared ones.
    """
    return _pipeline(replica.alias()).together(statements)


class PendingRows:
    """The rows of a statement that may still be queued; reading them sends the queue."""

    __slots__ = ("_pipeline", "_rows")

    def __init__(self, pipeline: Pipeline, rows: Rows | None = None) -> None:
        self._pipeline, self._rows = pipeline, rows

    @property
    def in_transaction(self) -> bool:
        """True while its connection is inside a transaction."""
        return bool(self._pipeline.db.in_atomic_block)

    @property
    def rows(self) -> Rows:
        if self._rows is None:
            self._pipeline.send()
        assert self._rows is not None, "read after its transaction failed"
        return self._rows

    def resolve(self, rows: Rows) -> None:
        self._rows = rows


def defer(statement: str, parameters: Parameters = ()) -> PendingRows:
    """Run one statement whose rows are not needed yet; see `PendingRows`."""
    pipeline = _pipeline()
    if pipeline.queues():
        return pipeline.queue(statement, parameters)
    return PendingRows(pipeline, pipeline.query(statement, parameters))


@contextmanager
def transaction() -> Iterator[None]:
    """A transaction with as few round trips as possible; inside another one, a savepoint of it.

    To Django it is an `atomic` block like any other: savepoints nest in it, `on_commit` waits for its end. See the
    module's docstring.
    """
    pipeline = _pipeline()
    db = pipeline.db
    if db.in_atomic_block or not db.get_autocommit():
        with django_transaction.atomic():
            yield
        return
    pipeline.begin()
    _set_django_flags(db, inside=True)
    db.execute_wrappers.append(pipeline.before_others)
    _local.pipeline = pipeline
    try:
        try:
            yield
            if not db.needs_rollback:
                pipeline.commit()
        finally:
            pipeline.end()
    except BaseException:
        db.run_on_commit = []
        raise
    finally:
        _local.pipeline = None
        db.execute_wrappers.remove(pipeline.before_others)
        _set_django_flags(db, inside=False)
        _forget_broken_connection(db)
    db.run_and_clear_commit_hooks()


def once_committed(act: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """Call `act` after the commit, at once where there is no transaction; never after a rollback.

    Its exceptions are logged, not raised.
    """

    def act_once_committed() -> None:
        act(*arguments, **named)

    # Django logs a failed hook by this name, and fails itself for a hook without one, such as a `partial`.
    act_once_committed.__qualname__ = getattr(act, "__qualname__", repr(act))
    _pipeline().db.on_commit(act_once_committed, robust=True)


def _set_django_flags(db: Any, *, inside: bool) -> None:
    """Set the flags that Django's `atomic` sets when its outermost block begins and ends."""
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
    """Close a connection that the server has closed: Django would hand it out until the next request."""
    if db.connection is not None and db.connection.closed and not db.in_atomic_block:
        db.close()


# -- the pipeline -----------------------------------------------------------------------------------------------------


class Pipeline:
    """One connection: its prepared statements, and the queue of statements to send together."""

    def __init__(self, db: Any, raw: Any) -> None:
        self.db = db  # not Django's proxy, whose attribute access costs more than a parameter to PostgreSQL
        self.raw = raw
        self.pgconn: pq.abc.PGconn = raw.pgconn
        self.readable = select.poll()
        self.readable.register(self.pgconn.socket, select.POLLIN)
        self.transformer = Transformer(adapters.AdaptContext(raw))
        self.prepared: dict[_Key, bytes] = {}
        self.number = 0
        self.in_transaction = False
        self.queued: list[_Prepared] = []
        self.pending: list[PendingRows] = []
        self.queued_bytes = 0

    def query(self, statement: str, parameters: Parameters) -> Rows:
        if not self.raw.autocommit and self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            self.queue("begin", ())  # Django's own atomic leaves this to the first statement
        if self.queued:
            pending = self.queue(statement, parameters)
            self.send()
            return pending.rows
        try:
            try:
                return self._rows(self._execute(self._prepared(statement, parameters)))
            except _STALE:
                if self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                    raise
                return self._rows(self._execute(self._prepared(statement, parameters)))
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: psycopg.Error) -> errors.EventsError | psycopg.Error:
        _forget_broken_connection(self.db)
        return driver_errors.translate(error)

    def _execute(self, prepared: _Prepared) -> pq.abc.PGresult:
        self.pgconn.send_query_prepared(*prepared)
        return self._result()

    def _result(self) -> pq.abc.PGresult:
        """The result of the one statement just sent. Waits here, not in libpq, which would not let signals through."""
        self._flush()
        result = None
        while (found := self._next_result()) is not None:
            result = found
        if result is None:
            raise psycopg.OperationalError("the connection is lost")
        return result

    # -- queueing -----------------------------------------------------------------------------------------------------

    def queues(self) -> bool:
        """True inside `transaction`, but not in a savepoint: its errors must be raised before it is released."""
        return self.in_transaction and not self.db.savepoint_ids

    def queue(self, statement: str, parameters: Parameters) -> PendingRows:
        try:
            prepared = self._prepared(statement, parameters)
        except psycopg.Error as error:
            raise self._translated(error) from error
        size = sum(map(len, filter(None, prepared[1] or ())))
        if self.queued and (self.queued_bytes + size > MAX_QUEUED_BYTES or len(self.queued) >= MAX_QUEUED):
            self.send()
        pending = PendingRows(self)
        self.queued.append(prepared)
        self.pending.append(pending)
        self.queued_bytes += size
        return pending

    def together(self, statements: Sequence[tuple[str, Parameters]]) -> list[Rows]:
        self.send()
        if not self.raw.autocommit and self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            self.query("select 1", ())  # sends "begin" first
        queued = []
        for statement, parameters in statements:
            values = self._dumped(statement, parameters)
            text = placeholders.numbered(statement)[0]
            queued.append((text, values, self.transformer.types, self.transformer.formats))
        try:
            return [self._rows(result) for result in self._run(queued, self.pgconn.send_query_params)]
        except psycopg.Error as error:
            raise self._translated(error) from error

    def send(self) -> None:
        """Send the queue in order and hand out the rows of every statement."""
        queued, waiting = self.queued, self.pending
        self._clear_queue()
        if not queued:
            return
        try:
            for result, pending in zip(self._run(queued), waiting, strict=True):
                pending.resolve(self._rows(result))
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _clear_queue(self) -> None:
        self.queued, self.pending, self.queued_bytes = [], [], 0

    def _run(self, queued: Sequence[tuple[Any, ...]], send: Any = None) -> list[pq.abc.PGresult]:
        """One pipeline: all statements, one synchronisation, one result each (after one that failed: "aborted")."""
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        send = send or pgconn.send_query_prepared
        for arguments in queued:
            send(*arguments)
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
        """Send the output buffer; reads meanwhile, so that neither side blocks on the other."""
        if not self.pgconn.flush():
            return
        both = select.poll()
        both.register(self.pgconn.socket, select.POLLIN | select.POLLOUT)
        while self.pgconn.flush():
            if any(happened & ~select.POLLOUT for _, happened in both.poll()):
                self.pgconn.consume_input()

    def _next_result(self) -> pq.abc.PGresult | None:
        pgconn = self.pgconn
        while pgconn.is_busy():  # libpq would wait with the GIL held
            self.readable.poll()
            pgconn.consume_input()
        return pgconn.get_result()

    # -- transactions -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.in_transaction = True
        self.queue("begin", ())

    def commit(self) -> None:
        if self.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            raise errors.EventsError("A statement of this transaction failed and was ignored: nothing is stored.")
        if len(self.queued) == 1 and self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return  # only "begin": nothing was executed
        self.queue("commit", ())
        self.send()

    def end(self) -> None:
        """Roll back unless the transaction was committed.

        Never raises: the error that led here matters more. A connection that is lost, or was left in the middle of a
        statement, is closed, which rolls back.
        """
        self._clear_queue()
        self.in_transaction = False
        if self.db.closed_in_transaction or self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            return
        try:
            # A rollback would wait for a statement that is still running.
            running = self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE
            if self.pgconn.pipeline_status == pq.PipelineStatus.OFF and not running:
                self.query("rollback", ())
        except (psycopg.Error, errors.EventsError):
            pass
        if self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self.pgconn.finish()

    def before_others(self, run: Callable[..., Any], sql: Any, parameters: Any, many: bool, context: Any) -> Any:
        """Django execute wrapper: sends the queue before any other statement on the connection."""
        self.send()
        return run(sql, parameters, many, context)

    # -- statements ---------------------------------------------------------------------------------------------------

    def _prepared(self, statement: str, parameters: Parameters) -> _Prepared:
        """The statement's prepared name, and its parameters encoded for PostgreSQL."""
        if not parameters:
            key: _Key = (statement, None)
            return self.prepared.get(key) or self._prepare(key), None, None
        dumped = self._dumped(statement, parameters)
        key = (statement, self.transformer.types)
        return self.prepared.get(key) or self._prepare(key), dumped, self.transformer.formats

    def _dumped(self, statement: str, parameters: Parameters) -> Sequence[Any]:
        """The parameters encoded for PostgreSQL; `transformer` has their types and formats."""
        values = parameters
        if not isinstance(values, list | tuple):
            values = (
                [values[name] for name in placeholders.numbered(statement)[1]]
                if isinstance(values, Mapping)
                else list(values)
            )
        return self.transformer.dump_sequence(values, [PyFormat.AUTO] * len(values))

    def _prepare(self, key: _Key) -> bytes:
        if len(self.prepared) >= MAX_PREPARED:
            self._forget_prepared()
        self.number += 1
        name = b"events_%d" % self.number
        self.pgconn.send_prepare(name, placeholders.numbered(key[0])[0], key[1])
        self._rows(self._result())
        self.prepared[key] = name
        return name

    def _forget_prepared(self) -> None:
        self.prepared.clear()
        if not self.queued:
            self.pgconn.exec_(b"deallocate all")

    def _rows(self, result: pq.abc.PGresult) -> Rows:
        if result.status not in _SUCCESS:
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


_local = threading.local()  # `pipeline` while inside `transaction`: Django's look-up takes longer


def _pipeline(alias: str = DEFAULT_DB_ALIAS) -> Pipeline:
    inside: Pipeline | None = getattr(_local, "pipeline", None)
    if inside is not None:
        return inside
    db: Any = connections[alias]
    if db.connection is None:
        db.ensure_connection()
    raw = db.connection
    pipeline: Pipeline | None = getattr(raw, "events_pipeline", None)
    if pipeline is None:
        pipeline = raw.events_pipeline = Pipeline(db, raw)
    pipeline.db = db  # a pool hands connections from one thread's wrapper to the next one's
    return pipeline
