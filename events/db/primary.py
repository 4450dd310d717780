"""Refuses a former primary: a server that accepts writes although another one has continued its history.

A primary that was lost and comes back, or that a network partition hides for a while, still takes itself for the
primary. With several hosts in the address, new connections would reach it, others would stay with its successor, and
both logs would grow. So each process keeps the newest history of its log that it knows, and all processes share it: in
Valkey and in `DATA_DIR`, outside the database.

    1  open     a new connection reads the server's history; a former primary is closed, the other hosts are tried
    2  use      a connection from the pool, and one that a subscription keeps, is compared again (`require_current`)
    3  refresh  for the comparison, the shared record is read at most once a second
    4  learn    a newer history replaces the one that is known, here and in the record; so does an epoch that was
                drawn while the connection was open (`note`). A command does not record: it may be run on a copy

Which of two histories is newer is known by the epochs that each has continued, else by the time of its own epoch.
Servers of different logs are not compared: a dump that was loaded, or a copy for tests, is another log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
import redis
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg import rows

from events import errors, valkey

log = logging.getLogger(__name__)

# In the message about a former primary.
IS_FORMER: Final = "is a former primary"
REFRESH_SECONDS: Final = 1.0
LOG_SECONDS: Final = 30.0
NEVER: Final = float("-inf")

# The log, without the timeline: a primary and its standbys have the same one.
READ: Final = """
select concat_ws(' ', (select system_identifier from pg_control_system()),
                 (select oid from pg_database where datname = current_database()), 'events_event'::regclass::oid),
       epoch::text, extract(epoch from started_at)::float8,
       array(select h.epoch::text from events_epoch_history h order by h.ended_at desc limit 100)
  from events_epoch
"""
# Before a server is refused: one that was promoted or recovered, and not used since, still has the epoch of its source.
DRAW: Final = "select events_current_epoch()"
# The schema is missing, older, or belongs to a role that may not read it.
UNKNOWN: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InsufficientPrivilege,
)


class FormerPrimary(psycopg.OperationalError):
    """The server is a former primary, and no other server of the address accepts writes."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The history of a server's log: its epoch, when that was drawn (Unix seconds), and the epochs it has continued."""

    log: str
    epoch: str
    started_at: float
    ended: frozenset[str] = frozenset()

    def is_older_than(self, other: History) -> bool:
        """Whether `other` has continued this history; of two that have not, whether its epoch was drawn later."""
        if self.epoch == other.epoch or self.log != other.log or other.epoch in self.ended:
            return False
        return self.epoch in other.ended or self.started_at < other.started_at


class KnownHistory:
    """The newest history that this process knows of the log that it uses."""

    def __init__(self) -> None:
        self.history: History | None = None
        self._refreshed_at = NEVER
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()

    def accepts(self, history: History) -> bool:
        """Learn a history that is not older than the one known; returns False for one that is."""
        known = self.history
        if known is not None and known.epoch == history.epoch and known.log == history.log:
            return True
        with self._lock:
            known = self.history
            if known is not None and history.is_older_than(known):
                return False
            self._learn(history)
        return True

    def refresh(self) -> None:
        """Compare with the shared record, at most once in `REFRESH_SECONDS`; correct the one that is older.

        Threads wait for the first comparison only: a process must know the record before it uses any server.
        """
        before = self._refreshed_at
        if self.history is None or time.monotonic() - before < REFRESH_SECONDS:
            return
        if not self._refreshing.acquire(blocking=before == NEVER):
            return
        try:
            if self._refreshed_at == before:
                self._compare(self.history)
                self._refreshed_at = time.monotonic()
        finally:
            self._refreshing.release()

    def _compare(self, known: History) -> None:
        records = recorded(known.log)
        with self._lock:
            for found in records:
                if found is not None and (self.history is None or self.history.is_older_than(found)):
                    self._learn(found)
            known = self.history or known
        if not settings.IS_COMMAND and any(found is None or found.is_older_than(known) for found in records):
            _record(known)

    def _learn(self, history: History) -> None:
        before = self.history
        if before is not None and before.log == history.log:
            if before.epoch in history.ended:
                log.warning("the history %s of the log is continued as %s", before.epoch, history.epoch)
            else:  # it was restored, or two standbys were promoted
                log.error("the history %s of the log is replaced by %s, of another server", before.epoch, history.epoch)
            history = msgspec.structs.replace(history, ended=history.ended | before.ended | {before.epoch})
        self.history = history
        self._refreshed_at = NEVER  # the next refresh records it


# The one of this process.
KNOWN = KnownHistory()


def read(raw: Any) -> History | None:
    """The history of a connection's server; None where its schema has none. `raw` is in autocommit."""
    try:
        row = raw.cursor(row_factory=rows.tuple_row).execute(READ).fetchone()
    except UNKNOWN:
        return None
    return _history(row)


async def read_async(raw: psycopg.AsyncConnection[Any]) -> History | None:
    """Like `read`."""
    try:
        row = await (await raw.cursor(row_factory=rows.tuple_row).execute(READ)).fetchone()
    except UNKNOWN:
        return None
    return _history(row)


def _history(row: Any) -> History | None:
    return None if row is None else History(log=row[0], epoch=row[1], started_at=row[2], ended=frozenset(row[3]))


def accepts(history: History | None) -> bool:
    """Learn the history of a server; returns whether the server may be used, as one without a history may."""
    return history is None or KNOWN.accepts(history)


# -- connections ------------------------------------------------------------------------------------------------------


def is_current(raw: Any) -> bool:
    """Return False for a connection to a former primary, as far as this process can know.

    Reads the shared record when that is due. A server that seems to be one draws its epoch first, see `DRAW`.
    """
    if getattr(raw, "events_history", None) is None:
        raw.events_history = read(raw)
        accepts(raw.events_history)
    KNOWN.refresh()
    if accepts(raw.events_history):
        return True
    raw.execute(DRAW)
    raw.events_history = read(raw)
    return accepts(raw.events_history)


def note(epoch: str) -> None:
    """Learn the history of Django's connection, whose server has this epoch: it may have been drawn just now.

    Not inside a transaction, whose rollback would take it back.
    """
    db = connections[DEFAULT_DB_ALIAS]
    raw: Any = db.connection
    history: History | None = getattr(raw, "events_history", None)
    if history is not None and history.epoch != epoch and not db.in_atomic_block:
        raw.events_history = read(raw)
        accepts(raw.events_history)


def require_current() -> None:
    """Close Django's connection to a former primary, for work that keeps a connection. Raises `NotPrimary`."""
    db = connections[DEFAULT_DB_ALIAS]
    raw = db.connection
    if raw is None or is_current(raw):
        return
    text = _reason(raw)
    raw.close()
    db.close()
    raise errors.NotPrimary(text)


def refuse_former(connection: Any, **_: object) -> None:
    """Receiver of Django's `connection_created`, which is also sent for a connection that a pool has handed out.

    The pool opens another one for it; that fails where no other server accepts writes.
    """
    raw = connection.connection
    if connection.alias != DEFAULT_DB_ALIAS:
        return
    try:
        current = is_current(raw)
    except BaseException:
        connection.close()  # Django would keep it, and not send the signal for it again
        raise
    if current:
        return
    text = _reason(raw)
    raw.close()
    connection.close()
    if connection.pool is None:
        raise FormerPrimary(text)
    connection.pool.drain()  # the others that it keeps are to the same server: each would lead here again
    connection.connect()


class Connection(psycopg.Connection[Any]):
    """A connection that is not to a former primary: where the first server is one, the other hosts are tried.

    `connect` raises `FormerPrimary` where every host that accepts it is one.
    """

    @classmethod
    def connect(cls, conninfo: str = "", **given: Any) -> Connection:
        hosts = _hosts(given)
        while True:
            opened = super().connect(conninfo, **_limited(given, hosts))
            try:
                current = is_current(opened)
                if not opened.autocommit:
                    opened.commit()
            except BaseException:
                opened.close()
                raise
            if current:
                return opened
            text = _reason(opened)
            hosts = _others(hosts, opened)
            opened.close()
            if not hosts:
                raise FormerPrimary(text)


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """`Connection` for asyncio; an open connection does not read the shared record, which would need a thread."""

    events_history: History | None = None

    @classmethod
    async def connect(cls, conninfo: str = "", **given: Any) -> AsyncConnection:
        hosts = _hosts(given)
        while True:
            opened = await super().connect(conninfo, **_limited(given, hosts))
            try:
                opened.events_history = await read_async(opened)
                if accepts(opened.events_history):
                    await asyncio.to_thread(KNOWN.refresh)
                current = await opened.is_current()
            except BaseException:
                await opened.close()
                raise
            if current:
                return opened
            text = _reason(opened)
            hosts = _others(hosts, opened)
            await opened.close()
            if not hosts:
                raise FormerPrimary(text)

    async def note(self, epoch: str) -> None:
        """Like the function `note`."""
        if self.events_history is not None and self.events_history.epoch != epoch:
            self.events_history = await read_async(self)
            accepts(self.events_history)

    async def is_current(self) -> bool:
        """Like the function `is_current`, without the shared record."""
        if accepts(self.events_history):
            return True
        await self.execute(DRAW)
        self.events_history = await read_async(self)
        return accepts(self.events_history)


def writable_servers(given: dict[str, Any]) -> dict[str, bool]:
    """The servers of an address that accept writes, as `host:port`; True for a former primary. For `doctor`."""
    found: dict[str, History] = {}
    for host, port in _hosts(given):
        only = given | {"host": host, "port": port, "target_session_attrs": "read-write"}
        with contextlib.suppress(psycopg.Error), psycopg.connect(**only, autocommit=True) as opened:
            history = read(opened)
            if history is not None:
                found[f"{opened.info.host}:{opened.info.port}"] = history
                KNOWN.accepts(history)
    KNOWN.refresh()
    return {name: not KNOWN.accepts(history) for name, history in found.items()}


Hosts = list[tuple[str, str]]


def _hosts(given: Mapping[str, Any]) -> Hosts:
    """The hosts of an address, each with its port."""
    hosts, ports = (str(given.get(name) or "").split(",") for name in ("host", "port"))
    return list(zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False))


def _limited(given: dict[str, Any], hosts: Hosts) -> dict[str, Any]:
    """The parameters of a connection to one of these hosts."""
    if hosts == _hosts(given):
        return given
    return given | {"host": ",".join(host for host, _ in hosts), "port": ",".join(port for _, port in hosts)}


def _others(hosts: Hosts, opened: Any) -> Hosts:
    """The hosts except for that of a connection; empty if it is none of them, so that no host is tried forever."""
    used = (opened.info.host, str(opened.info.port))
    left = [(host, port) for host, port in hosts if host != used[0] or port not in {"", used[1]}]
    return left if len(left) < len(hosts) else []


_logged: dict[str, float] = {}


def _reason(raw: Any) -> str:
    """The message about a former primary; logged as well, but not each time."""
    where, now = f"{raw.info.host}:{raw.info.port}", time.monotonic()
    text = (
        f"{where} {IS_FORMER}: its history {raw.events_history.epoch} was continued by another server as "
        f"{KNOWN.history.epoch if KNOWN.history else '?'}. Stop it and make it a standby; "
        "if its files were put back on purpose, draw a new epoch (docs/several-hosts.md)"
    )
    if now - _logged.get(where, NEVER) >= LOG_SECONDS:
        _logged[where] = now
        log.error(text)
    return text


# -- the shared record ------------------------------------------------------------------------------------------------


def key(of: str) -> str:
    """The key in Valkey of the record of a log."""
    return f"{settings.REDIS_PREFIX}:log-history:{of}"


def file(of: str) -> Path:
    """The file of the record of a log."""
    return Path(settings.DATA_DIR) / f"log-history-{hashlib.sha256(of.encode()).hexdigest()[:8]}.json"


def recorded(of: str) -> list[History | None]:
    """The records in Valkey and in the file, None for a missing one; a place that cannot be read contributes none."""
    found: list[Any] = []
    with contextlib.suppress(redis.RedisError, OSError):
        found.append(valkey.shared_client("cache").get(key(of)))
    try:
        found.append(file(of).read_bytes())
    except FileNotFoundError:
        found.append(None)
    except OSError:
        pass
    return [_decoded(raw) for raw in found]


def _decoded(raw: bytes | None) -> History | None:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(raw, type=History) if raw else None
    return None


def _record(history: History) -> None:
    raw = msgspec.json.encode(history)
    with contextlib.suppress(redis.RedisError, OSError):
        valkey.shared_client("cache").set(key(history.log), raw)
    with contextlib.suppress(OSError):
        new = file(history.log).with_suffix(f".{os.getpid()}.{threading.get_ident()}.new")
        new.write_bytes(raw)
        new.replace(file(history.log))
