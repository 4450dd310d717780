"""The order of the log holds when the server crashes, is restored, is promoted, or has another version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from backoffice.sections.users.domain import UserUpdated
from devtools.postgres import Postgres
from events import checks, errors, head, store
from events.integrity import seals, verify
from events.subscriptions import checkpoints
from events.types import new_id
from tests.events import effects, servers, test_append_only, test_head, test_store

pytestmark = pytest.mark.django_db(transaction=True)

# With this delay the WAL on disk holds only what a commit waited for, so a crash loses everything else.
LAZY = {"wal_writer_delay": "10s", "max_prepared_transactions": "5", "autovacuum": "off"}


@pytest.fixture(scope="module", params=["own", "other"])
def running(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A server with an empty log: of the suite's version, and of another one that this machine has."""
    programs = servers.other_programs() if request.param == "other" else None
    if request.param == "other" and programs is None:
        pytest.skip("no other PostgreSQL found: install Debian's postgresql-15, or any from 15 to 18")
    with servers.server(f"server-{request.param}", programs, **LAZY) as postgres:
        yield postgres


@pytest.fixture
def server(running: Postgres, transactional_db: None) -> Iterator[Postgres]:
    if not running.running:
        running.start()
    with servers.used(running):
        servers.migrate()
        yield running


@pytest.fixture
def other(server: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url()) as session:
        yield session
        session.rollback()


def append() -> int:
    return store.append(f"user-{new_id()}", [UserUpdated(first_name="Ada")]).position


SMOKE = [
    test_head.test_head_without_writers_is_the_end_of_the_log,
    test_store.test_append_to_several_streams_is_atomic,
    test_store.test_hash_chain_is_the_same_for_every_append_function,
    test_store.test_digest_does_not_depend_on_the_sessions_time_zone,
    test_append_only.test_every_partition_has_every_trigger,
]
SMOKE_OF_TWO = [
    test_head.test_head_waits_for_an_earlier_position_that_commits_later,
    test_head.test_rolled_back_savepoint_releases_its_floor_and_publishes_a_new_one,
    test_head.test_rows_written_by_copy_publish_a_floor,
    test_head.test_session_that_holds_the_head_back_is_named,
]


def test_order_holds_on_each_version(server: Postgres) -> None:
    for check in SMOKE:
        check()
    for check in SMOKE_OF_TWO:
        with psycopg.connect(server.url()) as session:
            check(session)
    assert [message.id for message in checks.check_order(databases=["default"])] == []
    assert seals.seal()
    assert verify.verify().ok


def test_positions_lost_in_a_crash_were_never_below_the_head(server: Postgres) -> None:
    """The sequence logs 32 values ahead, but only a commit waits until that is on disk."""
    for _ in range(3):  # the server may write its WAL by itself just in that moment
        while store.query("select log_cnt from events_position_seq")[0][0]:
            append()
        with psycopg.connect(server.url()) as session:
            lost = test_head.append_through(session, "user-lost")
            session.rollback()
        assert head.last() == lost, "a reader that took this for the head …"
        assert head.safe() < lost
        epoch = head.epoch()
        servers.crash(server)
        assert head.epoch() == epoch, "no client has to start over"
        if append() == lost:  # … would have missed this event
            break
    else:
        pytest.fail("the sequence was not set back in three crashes")
    assert head.safe() == lost


def test_prepared_transaction_holds_the_head_back_across_a_crash(server: Postgres) -> None:
    with psycopg.connect(server.url()) as session:
        session.execute("begin")
        prepared = test_head.append_through(session, f"user-{new_id()}")
        session.execute("prepare transaction 'slow'")
    late = append()
    for _ in range(2):
        assert head.safe() < prepared < late
        assert [(holder.pid, holder.floor < prepared) for holder in head.holders()] == [(None, True)]
        servers.crash(server)
    store.execute("commit prepared 'slow'")
    assert head.safe() == late
    assert [event.position for event in store.read_all(prepared - 1, upto=late)] == [prepared, late]


def test_log_restored_elsewhere_continues_with_another_epoch(server: Postgres, tmp_path: Path) -> None:
    effects.grow(3)
    epoch, end = head.epoch(), append()
    wanted, ahead = effects.subscription(name="restored"), effects.subscription(name="ahead")
    for one in (wanted, ahead):
        checkpoints.ensure(one)
    program, dump = server.program, tmp_path / "dump"
    servers.run(program.with_name("pg_dump"), "--format=custom", f"--file={dump}", server.url())
    server.create_database("restored")
    try:
        servers.run(program.with_name("pg_restore"), "--exit-on-error", f"--dbname={server.url('restored')}", str(dump))
        with servers.used(server, database="restored"):
            store.execute("update events_checkpoint set position = %s where name = 'ahead'", (end + 100,))
            assert head.epoch() != epoch
            assert_continues(end, wanted, ahead)
    finally:
        store.execute("drop database restored")


def assert_continues(end: int, wanted: checkpoints.Subscription, ahead: checkpoints.Subscription) -> None:
    """Check a restored log: positions continue, system checks pass, only a subscription ahead of the log halts."""
    assert append() == end + 1
    assert [message.id for message in checks.check_order(databases=["default"])] == []
    assert verify.verify().ok
    assert checkpoints.acquire(wanted, "a") is not None
    store.append(f"user-{new_id()}", [UserUpdated(first_name="Ada")] * 200)
    with pytest.raises(errors.HistoryRewound, match="ahead is at"):  # although the log has grown past it since
        checkpoints.acquire(ahead, "a")
    checkpoints.rewind(ahead, end, reason="restored from last night's dump")
    lease = checkpoints.acquire(ahead, "a")
    assert lease is not None
    assert lease.position == end
    written = store.read_stream("subscription-ahead")[-1]
    assert (written.data["position"], written.data["before"], written.reason) == (
        end,
        [end + 100],
        "restored from last night's dump",
    )


def test_promoted_standby_that_lost_its_tail_has_another_epoch(server: Postgres) -> None:
    append()
    epoch, upto = head.epoch(), head.safe()
    servers.disconnect()
    server.stop()
    standby = Postgres(
        server.folder.with_name(f"{server.folder.name}-standby"),
        durable=False,
        programs=server.program.parent,
        settings=server.settings,
    )
    servers.run("cp", "-a", str(server.folder), str(standby.folder))
    (standby.cluster / "standby.signal").touch()
    server.start()
    lost = append()
    try:
        standby.start()
        with servers.used(standby):
            assert head.epoch() == epoch, "a standby changes nothing"
            with pytest.raises(errors.NotPrimary):  # the locks of open appends are on the primary only
                head.safe()
            assert store.query("select pg_promote()")[0][0]
            assert head.safe() == upto < lost
            assert head.epoch() not in {epoch, None}
            assert head.epoch() == head.epoch()
            assert append() <= lost
    finally:
        standby.stop()
        servers.run("rm", "-r", str(standby.folder))
    assert head.epoch() == epoch
