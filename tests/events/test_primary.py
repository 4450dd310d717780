"""Which of two servers is the former primary, and what happens to connections to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection

from backoffice import health
from events import errors, head, store, witness
from events.db import primary
from events.subscriptions import checkpoints
from tests.events import effects, servers

FIRST = primary.History(log="log", epoch="first", started_at=1.0)
SECOND = primary.History(log="log", epoch="second", started_at=0.5, ended=frozenset({"first"}))
SIBLING = primary.History(log="log", epoch="sibling", started_at=2.0, ended=frozenset({"first"}))
# As after a promotion or a recovery: the next reader of the epoch draws a new one.
MOVED = "update events_epoch set place = 'elsewhere'"


@pytest.mark.parametrize(
    ("one", "other", "is_older"),
    [
        (FIRST, FIRST, False),
        (FIRST, SECOND, True),
        (SECOND, FIRST, False),  # although the clock of its server was behind
        (SECOND, SIBLING, True),  # both continued the first: the later one
        (SIBLING, SECOND, False),
        (FIRST, primary.History(log="a copy", epoch="third", started_at=9.0, ended=frozenset({"first"})), False),
    ],
)
def test_older_history_was_continued_by_the_other_or_began_earlier(
    one: primary.History, other: primary.History, is_older: bool
) -> None:
    assert one.is_older_than(other) is is_older


def test_process_refuses_each_history_before_the_newest_it_knew(db: None) -> None:
    with servers.forgotten():
        known = primary.KNOWN
        assert known.accepts(FIRST)
        assert known.accepts(SECOND)
        assert known.accepts(SIBLING)
        assert [known.accepts(one) for one in (FIRST, SECOND, SIBLING)] == [False, False, True]


def test_record_reaches_other_processes_and_returns_when_it_is_lost(db: None) -> None:
    with servers.forgotten():
        primary.KNOWN.accepts(SECOND)
        primary.KNOWN.refresh()
        assert primary.recorded("log") == [SECOND, SECOND], "in Valkey and in the file"
        other = primary.KnownHistory()
        other.accepts(FIRST)
        other.refresh()
        assert other.history is not None
        assert other.history.epoch == "second"
        primary.file("log").write_text("{")
        third = primary.KnownHistory()
        third.accepts(SECOND)
        third.refresh()
        assert [one and one.epoch for one in primary.recorded("log")] == ["second", "second"]


@pytest.fixture
def successor(transactional_db: None) -> Iterator[primary.History]:
    """A history that has continued that of this server, as this process knows it."""
    with servers.forgotten():
        servers.disconnect()
        history = primary.read(_raw())
        assert history is not None
        known = primary.History(
            log=history.log, epoch="successor", started_at=time.time() - 60, ended=history.ended | {history.epoch}
        )
        primary.KNOWN.accepts(known)
        yield known
        servers.disconnect()


def _raw() -> Any:
    connection.ensure_connection()
    return connection.connection


@pytest.mark.parametrize(
    "use",
    [lambda: checkpoints.acquire(effects.subscription(name="kept"), "a"), lambda: witness.observe(1)],
    ids=["lease", "witness"],
)
def test_kept_connection_to_a_former_primary_is_closed_when_it_is_used(
    successor: primary.History, use: Callable[[], object]
) -> None:
    raw = _raw()
    with pytest.raises(errors.NotPrimary, match="is a former primary"):
        use()
    assert raw.closed


def test_one_kept_connection_to_a_former_primary_ends_all_that_the_pool_keeps(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with servers.forgotten():
        _raw()
        pool = connection.pool
        kept = [pool.getconn() for _ in range(5)]
        for one in kept:
            pool.putconn(one)
        connection.close()
        history = primary.read(kept[0])
        assert history is not None
        primary.KNOWN.accepts(
            primary.History(
                log=history.log, epoch="next", started_at=time.time() - 60, ended=history.ended | {history.epoch}
            )
        )
        refused: list[int] = []
        reason = primary._reason
        monkeypatch.setattr(primary, "_reason", lambda raw: refused.append(id(raw)) or reason(raw))
        monkeypatch.setattr(pool, "timeout", 0.2)
        with pytest.raises(psycopg.OperationalError):
            connection.connect()
        assert refused.count(refused[0]) == len([raw for raw in kept if id(raw) in refused]) == 1
        assert all(raw.closed for raw in kept)
        servers.disconnect()


def test_epoch_that_is_drawn_on_an_open_connection_is_known_at_once(transactional_db: None) -> None:
    with servers.forgotten():
        servers.disconnect()
        effects.grow()  # an empty log would share nothing with a hub of this process that has followed other tests
        before = head.epoch()
        with psycopg.connect(**health.parameters(), autocommit=True) as administrator:
            administrator.execute(MOVED)
        drawn = head.epoch()
        assert drawn != before
        assert primary.KNOWN.history is not None
        assert primary.KNOWN.history.epoch == drawn
        servers.disconnect()


def test_probe_and_command_name_a_former_primary(successor: primary.History, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(primary.FormerPrimary, match="continued by another server as successor"):
        health.connect()
    servers.disconnect()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", _without_pool())
    with pytest.raises(OperationalError, match="is a former primary"):
        store.query("select 1")


def test_server_that_was_promoted_and_not_used_since_is_no_former_primary(successor: primary.History) -> None:
    with psycopg.connect(**health.parameters(), autocommit=True) as administrator:
        administrator.execute(MOVED)
    servers.disconnect()
    assert effects.grow() > 0
    assert head.epoch() not in {"successor", *successor.ended}
    assert primary.KNOWN.history is not None
    assert primary.KNOWN.history.epoch == head.epoch()


def test_command_on_a_restored_copy_does_not_make_others_refuse_the_original(db: None, settings: Any) -> None:
    with servers.forgotten():
        primary.KNOWN.accepts(FIRST)
        primary.KNOWN.refresh()
        settings.IS_COMMAND = True
        command = primary.KnownHistory()
        command.accepts(FIRST)
        command.refresh()
        assert command.accepts(SECOND), "the copy drew an epoch"
        command.refresh()
        assert [one and one.epoch for one in primary.recorded("log")] == ["first", "first"]


async def _connect_async() -> None:
    await primary.AsyncConnection.connect(**health.parameters(), autocommit=True)


@pytest.mark.parametrize("connect", [health.connect, lambda: asyncio.run(_connect_async()), _raw])
def test_connection_whose_history_cannot_be_read_is_closed(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, connect: Callable[[], object]
) -> None:
    servers.disconnect()
    opened: list[Any] = []

    def noting(real: Callable[..., None]) -> Callable[..., None]:
        def init(raw: Any, *given: Any, **named: Any) -> None:
            real(raw, *given, **named)
            opened.append(raw)

        return init

    with monkeypatch.context() as broken:
        broken.setitem(connection.settings_dict, "OPTIONS", _without_pool())
        broken.setattr(primary, "READ", "select 1 / 0")
        for of in (psycopg.Connection, psycopg.AsyncConnection):
            broken.setattr(of, "__init__", noting(of.__init__))
        with pytest.raises((psycopg.Error, DatabaseError), match="division by zero"):
            connect()
    assert [raw.closed for raw in opened] == [True]
    assert connection.connection is None


def _without_pool() -> dict[str, Any]:
    return {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "pool"}
