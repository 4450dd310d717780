"""A standby: how far it knows the log, what it keeps of an epoch when it is promoted, and who may read from it."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection, connections, transaction

from devtools import processes
from devtools.postgres import Postgres
from events import errors, export_reads, freshness, head, store
from events.db import replica, timeouts
from events.subscriptions import runner as subscriptions
from tests import factories
from tests.events import effects, servers, test_head
from tests.events.interleaving import LONG

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = 8
APPENDS = 800 if LONG else 60
WAIT = 30.0

# The head as it would be without the refusal: on a standby it sees no lock of an open append.
NAIVE = """
select coalesce(max(position), 0) from events_event where position <= least(
    (select last_value from events_position_seq),
    (select min(((classid::bigint & 65535) << 32) | objid::bigint) from pg_locks
      where locktype = 'advisory' and objsubid = 1 and (classid::bigint >> 16) = 17779))
"""


@pytest.fixture(scope="module")
def running(django_db_setup: None) -> Iterator[Postgres]:
    """A copy of the suite's server."""
    with servers.copy("primary") as copy:
        yield copy


@pytest.fixture(scope="module")
def follower(running: Postgres) -> Iterator[Postgres]:
    """A standby for the tests that leave it one."""
    with servers.copy("follower", running.url(), standby=True) as standby:
        yield standby


@pytest.fixture
def primary(running: Postgres, transactional_db: None) -> Iterator[Postgres]:
    """The server that this process uses."""
    with servers.used(running, database=connection.settings_dict["NAME"]):
        yield running


@pytest.fixture
def standby(primary: Postgres) -> Iterator[Postgres]:
    """A standby of its own, to be promoted."""
    with servers.copy("standby", primary.url(), standby=True) as copy:
        yield copy


@contextmanager
def session_of(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url(connection.settings_dict["NAME"]), autocommit=True) as session:
        yield session


@contextmanager
def following() -> Iterator[None]:
    """A subscription that follows the log of the primary; its checkpoint is what a standby knows."""
    stop = threading.Event()
    wanted = effects.subscription(name="follower", handle=lambda _events: None)
    thread = factories.Thread(lambda: subscriptions.run(wanted, stop))
    try:
        yield
    finally:
        stop.set()
        thread.result(timeout=WAIT)


def value(session: psycopg.Connection, statement: str) -> int:
    row = session.execute(statement).fetchone()
    assert row
    return int(row[0])


def wait_for(session: psycopg.Connection, position: int) -> None:
    """Wait until the standby of this session knows the log up to a position."""
    reached = processes.wait_until(lambda: value(session, head.KNOWN_SQL) >= position, WAIT)
    assert reached, (
        position,
        store.query("select * from events_head(), events_known_head(), events_epoch, events_checkpoint"),
        store.query("select state, sent_lsn, flush_lsn, replay_lsn, pg_current_wal_lsn() from pg_stat_replication"),
        session.execute("select pg_last_wal_replay_lsn(), events_known_head(), * from events_checkpoint").fetchall(),
    )


def has(session: psycopg.Connection, position: int) -> bool:
    return session.execute("select from events_event where position = %s", (position,)).fetchone() is not None


def test_reader_on_a_standby_misses_nothing_and_one_by_the_naive_head_does(
    primary: Postgres, follower: Postgres
) -> None:
    start, done = head.last(), threading.Event()
    seen: dict[str, list[int]] = {head.KNOWN_SQL: [], NAIVE: []}

    def write(seed: int) -> None:
        dice = random.Random(seed)
        with psycopg.connect(primary.url(connection.settings_dict["NAME"])) as session:
            for _ in range(APPENDS):
                test_head.append_through(session, test_head.stream())
                session.execute("select pg_sleep(%s)", (dice.random() * 0.01,))
                session.rollback() if dice.random() < 0.1 else session.commit()

    def read(statement: str) -> None:
        with session_of(follower) as session:
            cursor = start
            while True:
                last_round = done.is_set()
                upto = value(session, statement)
                rows = session.execute(
                    "select position from events_event where position > %s and position <= %s order by 1",
                    (cursor, upto),
                ).fetchall()
                seen[statement] += [row[0] for row in rows]
                cursor = max(cursor, upto)
                if last_round:
                    return

    with following():
        readers = [factories.Thread(lambda statement=statement: read(statement)) for statement in seen]
        for writer in [factories.Thread(lambda seed=seed: write(seed)) for seed in range(WRITERS)]:
            writer.result(timeout=600)
        with session_of(follower) as session:
            last = head.newest()
            wait_for(session, last)
        done.set()
        for reader in readers:
            reader.result(timeout=WAIT)
    stored = [
        row[0] for row in store.query("select position from events_event where position > %s order by 1", (start,))
    ]
    assert seen[head.KNOWN_SQL] == stored
    assert len(seen[NAIVE]) < len(stored), "this test would not notice a head that skips events"


def test_promoted_standby_shares_the_old_epoch_up_to_the_first_missing_position(
    primary: Postgres, standby: Postgres
) -> None:
    with following():
        known = effects.grow(3)
        assert processes.wait_until(lambda: head.known() >= known, WAIT)
    with psycopg.connect(primary.url(connection.settings_dict["NAME"])) as session:
        # Replicated without a checkpoint: one, a position that is rolled back, another one.
        one = effects.grow()
        test_head.append_through(session, test_head.stream())
        session.rollback()
        other = effects.grow()
    old = head.epoch()
    with session_of(standby) as session:
        assert processes.wait_until(lambda: has(session, other), WAIT)
        assert value(session, "select pg_promote()::int") == 1
    with servers.used(standby, database=connection.settings_dict["NAME"]):
        first = effects.grow()
        assert first > other
        assert head.epoch() != old, "the first append draws it"
        assert head.lineage()[old] == one, "whether an event was lost in between is not known"


def test_first_append_after_a_promotion_is_not_taken_for_an_old_event(primary: Postgres, standby: Postgres) -> None:
    old, upto = head.epoch(), effects.grow()
    with session_of(standby) as session:
        assert processes.wait_until(lambda: has(session, upto), WAIT)
        assert value(session, "select pg_promote()::int") == 1
        session.execute(f"select setval('events_position_seq', {upto})")  # as if its record had been lost
    with servers.used(standby, database=connection.settings_dict["NAME"]):
        assert effects.grow() == upto + 1
        assert head.lineage()[old] <= upto


def test_log_without_a_checkpoint_is_not_known_at_all(primary: Postgres) -> None:
    store.execute("truncate events_checkpoint")
    effects.grow(3)
    assert head.known() == 0
    effects.catch_up(effects.subscription(handle=lambda _events: None))
    assert head.known() == head.safe() > 0


def test_second_change_of_epoch_lowers_what_earlier_ones_share(primary: Postgres) -> None:
    upto, earlier = effects.grow(5), str(uuid.uuid4())
    store.execute("insert into events_epoch_history (epoch, upto) values (%s, %s)", (earlier, upto + 50))
    before = head.epoch()
    store.execute("update events_epoch set place = 'elsewhere'")
    assert head.epoch() != before
    assert all(shared <= upto for shared in head.lineage().values())
    assert {before, earlier} <= head.lineage().keys()


# -- reading from a standby -------------------------------------------------------------------------------------------


@contextmanager
def read_from(standby: Postgres) -> Iterator[None]:
    """The standby as `DATABASE_READ_URL`."""
    given = connection.settings_dict
    connections.settings[replica.ALIAS] = given | {"HOST": servers.host_of(standby), "OPTIONS": {}}
    connections[replica.ALIAS].connect()  # Django's test case would refuse it later: it does not know this database
    try:
        yield
    finally:
        connections[replica.ALIAS].close()
        del connections[replica.ALIAS]
        del connections.settings[replica.ALIAS]


def where() -> bool:
    """Whether a statement runs on a standby."""
    return bool(store.query("select pg_is_in_recovery()")[0][0])


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> freshness.Freshness:
    """Returns the freshness that a standby, configured for this test, uses."""
    fresh = freshness.Freshness()
    monkeypatch.setattr(replica, "STANDBY", replica.Standby(fresh))
    monkeypatch.setattr(replica, "configured", lambda: True)
    return fresh


def test_standby_is_read_as_far_as_the_position_of_the_reader_allows(
    primary: Postgres, follower: Postgres, known: freshness.Freshness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with following(), read_from(follower):
        position = effects.grow()
        with session_of(follower) as session:
            wait_for(session, position)
        known.start(head.epoch(), position)
        known.trusted_until = float("inf")
        for seen, from_standby in ((position, True), (0, True), (position + 1, False), (None, False)):
            with replica.reading(seen):
                assert where() is from_standby
        with monkeypatch.context() as patched, replica.reading(0):
            patched.setattr(replica, "MAX_SILENCE", 0.0)
            assert where()
            with replica.reading(0):
                assert not where(), "it may have stopped replaying"
        with replica.reading(position):
            assert head.safe() == position, "the head is what the standby knows"
            assert store.read_all(position - 1, upto=head.safe())[0].position == position
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                store.query("select set_config('a.b', '1', true), nextval('events_position_seq')")
            appended = effects.grow()  # writes go to the primary
        assert appended > position
        assert not where()


def test_export_waits_for_the_standby_and_reads_it_inside_of_a_transaction(
    primary: Postgres, follower: Postgres, known: freshness.Freshness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_reads, "PATIENCE", WAIT)
    with read_from(follower):
        position = effects.grow()
        with transaction.atomic():
            reads = export_reads.ExportReads()
            assert reads.run(where)
            assert replica.run_in(None, lambda: reads.head) == head.safe() == position
            assert reads.run(lambda: store.read_all(position - 1, upto=position)[0].position) == position
            assert not where()


@contextmanager
def paused(follower: Postgres) -> Iterator[None]:
    """A standby that receives the WAL and does not replay it."""
    with session_of(follower) as session:
        session.execute("select pg_wal_replay_pause()")
        state = "select (pg_get_wal_replay_pause_state() = 'paused')::int"
        assert processes.wait_until(lambda: value(session, state) == 1, WAIT)
        try:
            yield
        finally:
            session.execute("select pg_wal_replay_resume()")


STARTED = "select started_at from events_epoch"


def test_export_includes_committed_changes_without_an_event(
    primary: Postgres, follower: Postgres, known: freshness.Freshness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with following(), read_from(follower):
        with session_of(follower) as session:
            wait_for(session, effects.grow())
        with paused(follower):
            store.execute("update events_epoch set started_at = started_at + interval '1 minute'")
            changed = store.query(STARTED)
            monkeypatch.setattr(export_reads, "PATIENCE", 0.0)
            reads = export_reads.ExportReads()
            assert not reads.run(where), "the standby has every event, but not the change"
            assert reads.run(lambda: store.query(STARTED)) == changed
        monkeypatch.setattr(export_reads, "PATIENCE", WAIT)
        reads = export_reads.ExportReads()
        assert reads.run(where)
        assert reads.run(lambda: store.query(STARTED)) == changed


def test_export_does_not_wait_for_a_server_that_is_no_standby_of_the_epoch(
    primary: Postgres, follower: Postgres, known: freshness.Freshness
) -> None:
    with read_from(follower):
        assert replica.STANDBY.replayed(head.epoch(), "0/0") == (True, True)
        assert replica.STANDBY.replayed(str(uuid.uuid4()), "0/0") == (False, False)
    with read_from(primary):
        assert replica.STANDBY.replayed(head.epoch(), "0/0") == (False, False)


def test_time_limit_holds_for_a_statement_on_the_standby_inside_of_a_transaction(
    primary: Postgres, follower: Postgres, known: freshness.Freshness
) -> None:
    def slow() -> None:
        with timeouts.at_most(0.05):
            store.query("select pg_sleep(10)")

    with read_from(follower):
        limit = replica.run_in(replica.Scope.ALL, lambda: store.query("show statement_timeout"))
        with transaction.atomic(), pytest.raises(errors.TookTooLong):
            replica.run_in(replica.Scope.ALL, slow)
        assert replica.run_in(replica.Scope.ALL, lambda: store.query("show statement_timeout")) == limit


def test_table_that_the_standby_does_not_have_yet_is_read_from_the_primary(
    primary: Postgres, follower: Postgres, known: freshness.Freshness
) -> None:
    with following(), read_from(follower):
        position = effects.grow()
        with session_of(follower) as session:
            wait_for(session, position)
        known.start(head.epoch(), position)
        known.trusted_until = float("inf")
        with paused(follower):
            store.execute("create table migrated (n int)")
            assert replica.run(position, lambda: store.query("select n from migrated")) == []
        store.execute("drop table migrated")


def test_standby_that_lags_or_process_that_does_not_follow_the_log_reads_from_the_primary(
    primary: Postgres, follower: Postgres, known: freshness.Freshness
) -> None:
    with following(), read_from(follower):
        position = effects.grow()
        with session_of(follower) as session:
            wait_for(session, position)
        with paused(follower):
            with replica.reading(0):
                assert not where(), "this process does not follow the log"
            known.start(head.epoch(), effects.grow(2))
            known.trusted_until = float("inf")
            with replica.reading(0):
                assert not where(), "the standby lacks what this process has followed"


def test_read_that_the_standby_fails_is_repeated_on_the_primary(
    primary: Postgres, follower: Postgres, known: freshness.Freshness
) -> None:
    ran = []

    def read() -> int:
        ran.append(where())
        last: int = store.query("select nextval('events_position_seq')")[0][0]
        return last

    with following(), read_from(follower):
        position = effects.grow()
        with session_of(follower) as session:
            wait_for(session, position)
        known.start(head.epoch(), position)
        known.trusted_until = float("inf")
        assert replica.run(position, read) > position
        assert ran == [True, False]
        with replica.reading(position):
            assert not where(), "after a failure the primary is used for a while"
