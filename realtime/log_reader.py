"""Reads the event store on the event loop: a small async pool and a few statements, without ORM or threads.

The safe head is read as `events.head` describes it: separate statements in autocommit, in that order. Every error of
the driver or the pool is raised as `Unavailable`, so callers handle one exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import psycopg
import psycopg_pool
from django.db import connections
from psycopg import rows

from events import decoding, head, store, types
from events.db import driver_errors, primary, session
from events.privacy import subject_keys

# Catching up uses up to four (`catch_up_readers`); the follower and the handshakes must not wait for it.
POOL: Final = 6
TIMEOUT: Final = 5.0

T = TypeVar("T")
Connection: TypeAlias = primary.AsyncConnection

NO_CONNECTION: Final = (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, psycopg_pool.PoolClosed)
FAILURES: Final = (psycopg.Error, OSError)


class Unavailable(Exception):
    """The event store cannot be read right now."""


class Archived(Exception):
    """The events up to the position `upto` are in an archive file by now, too old for a socket."""

    def __init__(self, message: str, upto: int) -> None:
        super().__init__(message)
        self.upto = upto


class Head(NamedTuple):
    """The name of the log's history, the last position assigned, and the position up to which it is complete."""

    epoch: str
    last: int
    safe: int


class LogReader:
    """Reads the event store from the event loop. `open` never fails; reads raise `Unavailable`."""

    def __init__(self) -> None:
        self._pool: psycopg_pool.AsyncConnectionPool[Connection] | None = None

    async def open(self) -> None:
        pool: psycopg_pool.AsyncConnectionPool[Connection] = psycopg_pool.AsyncConnectionPool(
            kwargs=_connection_parameters(),
            connection_class=primary.AsyncConnection,
            min_size=1,
            max_size=POOL,
            timeout=TIMEOUT,
            max_waiting=200,
            reconnect_timeout=0,
            open=False,
            name="realtime",
        )
        await pool.open(wait=False)
        self._pool = pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def head(self, *, doubtful: bool = False) -> Head:
        """The head of the log. No event at or below `safe` can still appear.

        `doubtful`: another history was announced, so read first whether this server is a former primary.
        """
        if doubtful:
            await asyncio.to_thread(primary.KNOWN.refresh)

        async def read(connection: Connection) -> Head:
            (epoch,) = await _one(connection, head.EPOCH_SQL)
            await connection.note(str(epoch))
            last, safe = await _one(connection, head.HEAD_SQL)
            return Head(str(epoch), last, safe)

        return await self.query(read)

    async def lineage(self) -> dict[str, int]:
        """The earlier epochs of the log and the last position of each that it still has; see `events.head.lineage`."""

        async def read(connection: Connection) -> dict[str, int]:
            return dict(await (await connection.execute(head.LINEAGE_SQL)).fetchall())

        return await self.query(read)

    async def read(self, after: int, upto: int, limit: int) -> list[types.RecordedEvent]:
        """Events in (after, upto] in position order, at most `limit`. Raises `Archived` where they begin in a file."""

        async def read(connection: Connection) -> list[types.RecordedEvent]:
            cursor = connection.cursor(row_factory=rows.tuple_row)
            await cursor.execute(store.READ_ALL_SQL, {"after": after, "upto": upto, "limit": limit})
            reading = decoding.EventRows(await cursor.fetchall())
            if missing := reading.decryptor.missing:
                await cursor.execute(subject_keys.KEYS, (missing,))
                reading.decryptor.learn(await cursor.fetchall(), lambda act: act())  # autocommit
            return reading.events()

        return await self.query(read)

    async def query(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a function that only reads, on a pooled connection in autocommit.

        It runs a second time when the connection had ended unnoticed: checking each connection first would cost a
        round trip every time.
        """
        try:
            try:
                return await self._run(work)
            except psycopg.OperationalError as error:
                if self._pool is None or isinstance(error, NO_CONNECTION) or not driver_errors.is_session_end(error):
                    raise
            await self._pool.check()  # where one connection has ended, others have too
            return await self._run(work)
        except FAILURES as error:
            if isinstance(error, psycopg.Error) and error.diag.constraint_name == "events_archived":
                raise Archived(error.diag.message_primary or "", int(error.diag.message_detail or 0)) from error
            raise Unavailable(str(error) or type(error).__name__) from error

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self._pool is None:
            raise Unavailable("the pool is closed")
        for _ in range(POOL):
            async with self._pool.connection(timeout=TIMEOUT) as connection:
                if await connection.is_current():
                    return await work(connection)
                await connection.close()  # the pool replaces it
        raise Unavailable("every connection is to a former primary")


async def _one(connection: Connection, sql: Any) -> Sequence[Any]:
    row: Sequence[Any] | None = await (await connection.execute(sql)).fetchone()
    assert row is not None
    return row


def _connection_parameters() -> dict[str, Any]:
    """Django's database settings as libpq parameters, with autocommit and TCP keepalives."""
    ours = {"connect_timeout": 5, **session.TCP}
    given = connections["default"].get_connection_params()
    for key in ("pool", "cursor_factory", "context", "server_side_binding", "isolation_level", "assume_role"):
        given.pop(key, None)
    return {**ours, **given, "autocommit": True, "prepare_threshold": 3}
