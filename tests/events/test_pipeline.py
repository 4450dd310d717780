"""The pipeline: statements are sent together, in order, and after any failure none of them has an effect."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction
from django.db.utils import IntegrityError

from events import errors
from events.db import arrays, driver_errors, pipeline, pipelined_connection
from events.types import new_id

pytestmark = pytest.mark.django_db(transaction=True)

INSERT = "insert into wire_test (id, word) values (%s, %s)"
WORDS = "select word from wire_test order by id"


@pytest.fixture(autouse=True)
def table(django_db_setup: None, transactional_db: None) -> Iterator[None]:
    pipeline.execute("create table wire_test (id int primary key, word text)")
    yield
    pipeline.execute("drop table wire_test")


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """Another session, which sees only committed rows."""
    known = {"host", "port", "user", "password", "dbname"}
    where = {name: value for name, value in connection.get_connection_params().items() if name in known}
    with psycopg.connect(**where, autocommit=True) as looking:
        yield looking


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the number of statements in each round trip."""
    carried: list[int] = []
    travel = pipeline.Pipeline._run

    def counted(line: Any, kept: Any) -> Any:
        carried.append(len(kept))
        return travel(line, kept)

    monkeypatch.setattr(pipeline.Pipeline, "_run", counted)
    return carried


def words() -> list[str]:
    return [row[0] for row in pipeline.query(WORDS)]


def test_values_keep_their_types() -> None:
    key = UUID(int=7)
    assert pipeline.query("select %s::uuid, %s::bigint", (key, 1 << 40)) == [(key, 1 << 40)]
    assert pipeline.query("select %(b)s::text, %(a)s::int, %(b)s::text, '%%'", {"a": 1, "b": "x"}) == [
        ("x", 1, "x", "%")
    ]
    assert pipeline.query("select %s::text, %s::text[], %s::bytea", (None, ["a", "b"], b"\0")) == [
        (None, ["a", "b"], b"\0")
    ]


def test_transaction_takes_two_round_trips(trips: list[int], other: psycopg.Connection[Any]) -> None:
    with pipeline.transaction():
        assert words() == []
        pipeline.execute(INSERT, (1, "one"))
        known = pipeline.defer("insert into wire_test values (2, 'two') returning word")
        pipeline.execute(INSERT, (3, "three"))
        assert other.execute(WORDS).fetchall() == []
    assert trips == [2, 4], "begin + query, then three inserts + commit"
    assert known.rows == [("two",)]
    assert other.execute(WORDS).fetchall() == [("one",), ("two",), ("three",)]


def test_transaction_without_statements_sends_nothing(trips: list[int]) -> None:
    with pipeline.transaction():
        pass
    assert trips == []
    assert not connection.in_atomic_block


def test_statements_of_store_and_orm_keep_their_order() -> None:
    with pipeline.transaction():
        pipeline.execute(INSERT, (1, "kept"))
        with connection.cursor() as cursor:
            cursor.execute("update wire_test set word = 'seen by the cursor' where id = 1")
            assert cursor.rowcount == 1
        pipeline.execute("update wire_test set word = word || ', then changed' where id = 1")
        assert words() == ["seen by the cursor, then changed"]


def test_reading_a_result_early_sends_the_queued_statements() -> None:
    with pipeline.transaction():
        pipeline.execute(INSERT, (1, "one"))
        assert pipeline.defer(WORDS).rows == [("one",)]


def test_the_queue_is_bounded(trips: list[int]) -> None:
    with pipeline.transaction():
        for number in range(pipelined_connection.MAX_QUEUED * 2):
            pipeline.execute(INSERT, (number, "x"))
        pipeline.execute(INSERT, (-1, "y" * 3 * pipelined_connection.MAX_QUEUED_BYTES))
        pipeline.execute(INSERT, (-2, "z" * 3 * pipelined_connection.MAX_QUEUED_BYTES))
    assert max(trips) <= pipelined_connection.MAX_QUEUED
    assert len(words()) == pipelined_connection.MAX_QUEUED * 2 + 2


def test_results_larger_than_any_buffer_do_not_block_sending() -> None:
    with pipeline.transaction():
        large = [pipeline.defer("select repeat('x', 4000000)") for _ in range(5)]
    assert [len(asked.rows[0][0]) for asked in large] == [4_000_000] * 5


def test_error_of_a_queued_statement_is_raised_at_the_end_and_rolls_back(other: psycopg.Connection[Any]) -> None:
    committed: list[str] = []
    with pytest.raises(psycopg.errors.UniqueViolation), pipeline.transaction():
        transaction.on_commit(lambda: committed.append("committed"))
        pipeline.execute(INSERT, (1, "one"))
        pipeline.execute(INSERT, (1, "again"))
        pipeline.execute(INSERT, (2, "two"))
    assert committed == []
    assert other.execute(WORDS).fetchall() == []
    assert words() == [], "and the connection can be used again"


def test_error_in_the_block_rolls_back_sent_and_queued_statements(other: psycopg.Connection[Any]) -> None:
    with pytest.raises(ZeroDivisionError), pipeline.transaction():
        pipeline.execute(INSERT, (1, "sent"))
        assert words() == ["sent"]
        pipeline.execute(INSERT, (2, "not sent"))
        _ = 1 / 0
    assert words() == []


def test_error_without_a_state_is_no_collision() -> None:
    """A parameter that psycopg cannot adapt fails before anything is sent, so the error has no SQLSTATE."""
    with pytest.raises(psycopg.ProgrammingError) as caught, pipeline.transaction():
        pipeline.execute("select %s", ({},))
    assert driver_errors.sqlstate(caught.value) == ""
    assert not driver_errors.is_collision(caught.value)


def test_ignored_error_does_not_end_in_a_commit() -> None:
    with pytest.raises(errors.EventsError, match="was ignored"), pipeline.transaction():
        pipeline.execute(INSERT, (1, "one"))
        with pytest.raises(errors.InvalidEvent):
            pipeline.query("select 1 / 0")
    assert words() == []


def test_django_treats_the_pipeline_as_an_atomic_block() -> None:
    committed: list[int] = []
    with pipeline.transaction():
        transaction.on_commit(lambda: committed.append(1))
        assert connection.in_atomic_block
        pipeline.execute(INSERT, (1, "one"))
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("insert into wire_test values (1, 'again')")
        with pytest.raises(psycopg.errors.UniqueViolation), pipeline.transaction():
            pipeline.execute(INSERT, (1, "again"))
        with transaction.atomic():
            pipeline.execute(INSERT, (2, "two"))
        assert committed == []
    assert committed == [1]
    assert words() == ["one", "two"]
    with pipeline.transaction():
        pipeline.execute(INSERT, (3, "three"))
        transaction.set_rollback(True)
    assert words() == ["one", "two"]


def test_pipeline_inside_an_atomic_block_is_part_of_it() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        pipeline.execute(INSERT, (1, "first statement of all"))
        with pipeline.transaction():
            pipeline.execute(INSERT, (2, "two"))
        _ = 1 / 0
    assert words() == []


def test_connection_lost_in_the_pipeline_is_reported_and_replaced(other: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.StoreUnavailable), pipeline.transaction():
        pid = pipeline.query("select pg_backend_pid()")[0][0]
        pipeline.execute(INSERT, (1, "one"))
        other.execute("select pg_terminate_backend(%s, 5000)", (pid,))
    assert words() == []


def test_statement_prepared_before_a_migration_is_prepared_again() -> None:
    pipeline.execute(INSERT, (1, "1"))
    assert pipeline.query("select word from wire_test") == [("1",)]
    pipeline.execute("alter table wire_test alter column word type int using word::int")
    assert pipeline.query("select word from wire_test") == [(1,)]
    pipeline.execute("deallocate all")
    assert pipeline.query("select word from wire_test") == [(1,)]


def test_prepared_statements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelined_connection, "MAX_PREPARED", 3)
    for number in range(10):
        assert pipeline.query(f"select {number}") == [(number,)]
    assert len(connection.connection.events_pipeline.prepared) <= 3


def test_wait_for_a_lock_blocks_no_other_thread(other: psycopg.Connection[Any]) -> None:
    """Another thread must continue while this one waits for a lock that the other holds."""
    other.execute("select pg_advisory_lock(4711)")

    def release_lock() -> None:
        while not other.execute("select 1 from pg_locks where locktype = 'advisory' and not granted").fetchall():
            pass
        other.execute("select pg_advisory_unlock(4711)")

    freeing = threading.Thread(target=release_lock)
    freeing.start()
    with pipeline.transaction():
        pipeline.query("select pg_advisory_xact_lock(4711)")
    freeing.join()


def test_long_lists_arrive_unchanged() -> None:
    texts, ids = ["plain", "", 'a "quoted", {braced} \\ one', "naïve 🐘", "null"], [new_id() for _ in range(3)]
    numbers = [0, None, -1, 2**63 - 1, -(2**63)]
    for sent, array, of in (
        (texts, arrays.Texts(texts), "text"),
        (ids, arrays.Uuids(iter(ids)), "uuid"),
        (numbers, arrays.Numbers(numbers), "bigint"),
        (['{"a": [1, "é"]}', "null"], arrays.Jsons([b'{"a": [1, "\xc3\xa9"]}', b"null"]), "jsonb"),
        ([], arrays.Texts([]), "text"),
    ):
        assert pipeline.query("select %s, array_ndims(%s)", (array, array)) == [(sent, 1 if sent else None)], of
        assert pipeline.query("select pg_typeof(%s)::text", (array,)) == [(f"{of}[]",)]
    with pytest.raises(errors.InvalidEvent):
        pipeline.query("select %s", (arrays.Jsons([b"{"]),))
    with pytest.raises(errors.InvalidEvent):
        pipeline.query("select %s", (arrays.Texts(["nul \0 inside"]),))


def test_failing_commit_hook_is_logged_by_name_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fails(*, why: str) -> None:
        raise RuntimeError(why)

    with pipeline.transaction():
        pipeline.once_committed(partial(fails, why="of no use"))
        pipeline.once_committed(done.append, "next")
        assert done == []
    assert done == ["next"]
    assert "Error calling functools.partial" in caplog.text
    assert "of no use" in caplog.text
    with contextlib.suppress(ZeroDivisionError), pipeline.transaction():
        pipeline.once_committed(done.append, "never")
        raise ZeroDivisionError
    pipeline.once_committed(done.append, "at once")
    assert done == ["next", "at once"]
