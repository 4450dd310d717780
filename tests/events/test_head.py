"""No event can still appear at or below the head; sessions that hold it back are named."""

from __future__ import annotations

import random
import threading
import uuid
from types import ModuleType
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from psycopg.types.json import Jsonb

from backoffice.sections.users.domain import UserUpdated
from events import head, store
from events.types import new_id
from tests import factories
from tests.events.interleaving import LONG

pytestmark = pytest.mark.django_db(transaction=True)


def stream() -> str:
    return f"user-{new_id()}"


def event() -> UserUpdated:
    return UserUpdated(first_name="Ada")


def another_session() -> psycopg.Connection:
    known = {"host", "port", "user", "password", "dbname"}
    return psycopg.connect(**{k: v for k, v in connection.get_connection_params().items() if k in known})


@pytest.fixture
def other() -> psycopg.Connection:
    """A second session, which uses transactions."""
    session = another_session()
    yield session
    session.close()


def append_through(session: psycopg.Connection, name: str) -> int:
    row = session.execute(
        """select o_position from events_append_one(%s, null, 'user.updated', 1::smallint, '{"first_name": "B"}', %s,
           'system', null, null, null, '{}')""",
        (name, new_id()),
    ).fetchone()
    assert row
    return row[0]


def test_head_without_writers_is_the_end_of_the_log() -> None:
    placed = store.append(stream(), [event()])
    assert head.safe() == head.last() == placed.position


def test_head_waits_for_an_earlier_position_that_commits_later(other: psycopg.Connection) -> None:
    before = head.safe()
    early = append_through(other, stream())
    late = store.append(stream(), [event()]).position
    assert early < late
    assert head.safe() < early  # a naive reader would read up to `late` and miss `early`
    assert store.read_all(before, upto=head.safe()) == []
    other.commit()
    assert [e.position for e in store.read_all(before, upto=head.safe())] == [early, late]


def test_head_passes_rolled_back_positions(other: psycopg.Connection) -> None:
    before = head.safe()
    append_through(other, stream())
    late = store.append(stream(), [event()]).position
    other.rollback()
    assert head.safe() == late
    assert [e.position for e in store.read_all(before, upto=head.safe())] == [late]


def test_transaction_without_events_does_not_hold_the_head_back(other: psycopg.Connection) -> None:
    other.execute("create temp table scratch (n int)")
    other.execute("insert into scratch values (1)")
    placed = store.append(stream(), [event()])
    assert head.safe() == placed.position


def test_rolled_back_savepoint_releases_its_floor_and_publishes_a_new_one(other: psycopg.Connection) -> None:
    other.execute("savepoint s")
    append_through(other, stream())
    other.execute("rollback to savepoint s")
    placed = store.append(stream(), [event()])
    assert head.safe() == placed.position
    late = append_through(other, stream())
    assert head.safe() == placed.position < late
    other.commit()
    assert head.safe() == late


def test_rows_written_by_copy_publish_a_floor(other: psycopg.Connection) -> None:
    columns = "stream, version, type, data, event_id, actor, hash"
    with other.cursor().copy(f"copy events_event ({columns}) from stdin") as copy:
        copy.write_row((stream(), 1, "user.updated", "{}", str(uuid.uuid4()), "system", b""))
    before = head.safe()
    placed = store.append(stream(), [event()])
    assert before == head.safe() < placed.position
    other.rollback()


def test_append_to_several_streams_becomes_visible_at_once(other: psycopg.Connection) -> None:
    before = head.safe()
    ids = [new_id(), new_id()]
    rows = other.execute(
        "select o_position from events_append_each(%s, %s, %s, %s, %s, %s, 'system', null, null, null, '{}')",
        ([stream(), stream()], [None, None], ["user.updated"] * 2, [1, 1], [Jsonb({}), Jsonb({})], ids),
    ).fetchall()
    late = store.append(stream(), [event()]).position
    assert head.safe() == before
    other.commit()
    assert head.safe() == late
    assert [e.position for e in store.read_all(before, upto=late)] == [*sorted(position for (position,) in rows), late]


def test_atomic_request_holds_the_head_back_until_it_ends(client: Client, settings: Any) -> None:
    """ATOMIC_REQUESTS: the append becomes visible with the response, and a failing request stores nothing."""
    name, seen = stream(), list[int]()

    def view(request: HttpRequest, fails: str) -> HttpResponse:
        placed = store.append(name, [event()])
        with another_session() as session:
            row = session.execute(head.HEAD_SQL).fetchone()
        seen.append(placed.position - row[1])
        if fails == "1":
            raise ZeroDivisionError
        return HttpResponse(str(placed.position))

    urls = ModuleType("urls_of_one_view")
    urls.urlpatterns = [path("append/<fails>/", view)]  # type: ignore[attr-defined]
    settings.ROOT_URLCONF, settings.MIDDLEWARE = urls, []
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        with pytest.raises(ZeroDivisionError):
            client.get("/append/1/")
        assert store.version_of(name) == 0
        placed = int(client.get("/append/0/").content)
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert min(seen) > 0, "nobody could see it while the request was under way"
    assert head.safe() == placed
    assert store.version_of(name) == 1


def test_session_that_holds_the_head_back_is_named(other: psycopg.Connection) -> None:
    other.execute("set application_name = 'celery: a slow import'")
    append_through(other, stream())
    holders = head.holders()
    assert [holder.application for holder in holders] == ["celery: a slow import"]
    # The head is a row: the last one below the holder's floor.
    assert store.query("select max(position) from events_event where position <= %s", (holders[0].floor,))[0][0] == (
        head.safe()
    )
    assert holders[0].state == "idle in transaction"
    other.rollback()
    assert head.holders() == []


def test_first_event_of_a_log_is_not_lost(other: psycopg.Connection) -> None:
    """`last_value` of an unused sequence is 1, which would skip position 1; `pg_sequence_last_value` returns null."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("create sequence never_called")
        cursor.execute("select pg_sequence_last_value('never_called')")
        assert cursor.fetchone() == (None,)
        transaction.set_rollback(True)


def test_versions_of_a_busy_stream_are_in_the_order_of_positions() -> None:
    name = stream()
    threads = [factories.Thread(lambda: [store.append(name, [event()]) for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.result()
    events = store.read_stream(name)
    assert [e.version for e in events] == list(range(1, 101))
    assert [e.position for e in events] == sorted(e.position for e in events)


@pytest.mark.timeout(3600 if LONG else 120)
def test_reader_that_stops_at_the_head_misses_nothing_under_load() -> None:
    """Writers with delays, savepoints and rollbacks; one reader; the oracle is the log, read at the end."""
    start, done = head.safe(), threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(5000 if LONG else 40):
            with transaction.atomic():
                store.append(stream(), [event()] * dice.choice([1, 1, 3]))
                if dice.random() < 0.3:
                    sid = transaction.savepoint()
                    store.append(stream(), [event()])
                    transaction.savepoint_rollback(sid) if dice.random() < 0.5 else transaction.savepoint_commit(sid)
                store.query("select pg_sleep(%s)", (dice.random() * 0.004,))
                transaction.set_rollback(dice.random() < 0.25)

    def read() -> list[int]:
        seen, cursor = [], start
        while True:
            last_round = done.is_set()
            upto = head.safe()
            page = store.read_all(cursor, 10_000, upto=upto)
            seen += [e.position for e in page]
            cursor = max(cursor, upto)
            if last_round:
                return seen

    reader = factories.Thread(read)
    writers = [factories.Thread(lambda seed=seed: write(seed)) for seed in range(4)]
    for writer in writers:
        writer.result(timeout=3600 if LONG else 30)
    done.set()
    stored = [
        row[0] for row in store.query("select position from events_event where position > %s order by 1", (start,))
    ]
    assert reader.result() == stored
