"""One connection of Django as a pipeline: its prepared statements, and the queue of statements to send together.

`events.db.pipeline` has the functions that the store uses.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer

from events import errors
from events.db import adapters, driver_errors, placeholders

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


def forget_broken_connection(db: Any) -> None:
    """Close a connection that the server has closed: Django would hand it out until the next request."""
    if db.connection is not None and db.connection.closed and not db.in_atomic_block:
        db.close()


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
        forget_broken_connection(self.db)
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
