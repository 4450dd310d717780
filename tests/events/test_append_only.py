"""The database itself rejects changes of stored events."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from backoffice.sections.users.domain import AGGREGATE, UserUpdated
from events import errors, head, removal, snapshots, store
from events.checks import check_rights
from events.db import grants, session
from events.integrity import seals, verify
from events.types import new_id
from tests import factories, services_plugin
from tests.events.isolated_log import execute, own_log

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "statement",
    [
        "update events_event set actor = 'somebody else'",
        "update events_event set data = '{}' where position = (select max(position) from events_event)",
        "delete from events_event",
        "truncate events_event",
        "truncate events_event_p000000000001",
        """insert into events_event_p000000000001 (position, stream, version, type, data, event_id, actor, hash)
           values (5, 'user-x', 1, 'user.created', '{}', gen_random_uuid(), 'x', '')""",
    ],
)
def test_stored_events_cannot_be_changed_deleted_or_inserted_directly(statement: str) -> None:
    factories.user()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_restore_mode_cannot_change_stored_events() -> None:
    factories.user()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("set local session_replication_role = replica")
        cursor.execute("delete from events_event")


def test_refused_change_raises_append_only() -> None:
    factories.user()
    with pytest.raises(errors.AppendOnly), transaction.atomic():
        store.query("update events_event set actor = 'x' returning 1")


def test_version_cannot_be_stored_twice_by_direct_insert() -> None:
    stream = f"user-{factories.user()}"
    insert = """insert into events_event (stream, version, type, data, event_id, actor, hash)
                values (%s, 1, 'user.created', '{}', %s, 'x', '') returning 1"""
    with pytest.raises(errors.WrongExpectedVersion), transaction.atomic():
        store.query(insert, (stream, new_id()))


def test_partitions_are_created_ahead_and_only_once() -> None:
    assert store.query("select events_partition(20000000)")[0][0] == 0
    assert store.query("select events_partition(30000000)")[0][0] == 1
    assert store.query("select events_partition(30000000)")[0][0] == 0


def test_every_partition_has_every_trigger() -> None:
    missing = store.query(
        """select c.relname, wanted from pg_inherits i join pg_class c on c.oid = i.inhrelid,
                  unnest(array['no_truncate', 'through_the_log', 'append_only']) wanted
            where i.inhparent = 'events_event'::regclass and not exists (
                  select 1 from pg_trigger t where t.tgrelid = c.oid and t.tgname = wanted and t.tgenabled = 'A')"""
    )
    assert missing == []


# -- privileges -----------------------------------------------------------------------------------------------------


@pytest.fixture
def as_application() -> Iterator[None]:
    """Switch the connection to a role that has exactly the application's privileges."""
    role = f"application_{services_plugin.worker()}"
    with connection.cursor() as cursor:
        cursor.execute(f"create role {role}")
        grants.grant(role)
        cursor.execute(f"set local role {role}")
        yield
        cursor.execute("reset role")


def test_application_works_without_the_right_to_change_events(as_application: None) -> None:
    key = factories.user()
    factories.update(key, first_name="Grace")
    stream = f"user-{key}"
    assert snapshots.state(stream)[1] == 2
    snapshots.save(AGGREGATE, stream, *reversed(snapshots.state(stream)))
    assert head.epoch()
    assert [holder.pid for holder in head.holders()]
    assert store.query("select events_partition(30000000)")[0][0] == 1
    assert check_rights(databases=["default"]) == []


def test_role_has_the_session_settings_that_a_pooler_drops() -> None:
    role = f"pooled_{services_plugin.worker()}"
    with connection.cursor() as cursor:
        cursor.execute(f"create role {role}")
        grants.grant(role)
        cursor.execute("select unnest(setconfig) from pg_db_role_setting where setrole = %s::regrole", (role,))
        given = dict(row[0].split("=", 1) for row in cursor.fetchall())
        for name, value in session.SETTINGS.items():
            cursor.execute("select set_config(%s, %s, true)", (name, given[name]))
            assert cursor.fetchone()[0] == value, "shown by PostgreSQL as `doctor` expects it"


def test_application_cannot_shadow_the_log_with_a_table_of_its_own(as_application: None) -> None:
    store.execute("create temp table events_event (like public.events_event) partition by range (position)")
    parts = "select count(*) from pg_inherits where inhparent = 'public.events_event'::regclass"
    before = store.query(parts)[0][0]
    assert store.query("select events_partition(30000000)")[0][0] == 1
    assert store.query(parts)[0][0] == before + 1


# Functions with the owner's privileges that would read the tables of another schema than their own.
ELSEWHERE = """
select oid::regprocedure::text from pg_proc where prosecdef
   and not coalesce('search_path=' || pronamespace::regnamespace || ', pg_temp' = any(proconfig), false)
"""


@pytest.mark.django_db(transaction=True)
def test_application_role_can_seal_and_verify() -> None:
    role = f"sealer_{services_plugin.worker()}"
    with own_log():
        execute(f"create role {role}")
        grants.grant(role)
        assert store.query(ELSEWHERE) == []
        execute(f"set role {role}")
        try:
            store.append("user-ada", [UserUpdated(first_name="Ada")])
            assert head.safe() == 1
            assert seals.seal() == 1
            assert verify.verify().ok
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                removal.remove(1, "no owner")
        finally:
            execute("reset role", f"drop owned by {role}", f"drop role {role}")


@pytest.mark.parametrize(
    "statement",
    [
        "update events_event set actor = 'somebody else'",
        "delete from events_event",
        "truncate events_event",
        "delete from events_event_p000000000001",
        "insert into events_event_p000000000001 select * from events_event",
        "alter table events_event disable trigger user",
        "drop table events_event_p000000000001",
        "alter table events_event detach partition events_event_p000000000001",
        "set local session_replication_role = replica",
        "select setval('events_position_seq', 1)",
        "delete from events_stream",
        "delete from events_seal",
        "update events_seal set root = ''",
        "update events_archive set gone_at = now()",
        "create function events_digest() returns int language sql as 'select 1'",
    ],
)
def test_application_role_cannot_change_stored_events(as_application: None, statement: str) -> None:
    factories.user()
    with pytest.raises(DatabaseError, match=r"permission denied|must be owner"), transaction.atomic():
        connection.cursor().execute(statement)


def test_check_warns_when_the_owner_serves_requests() -> None:
    assert [message.id for message in check_rights(databases=["default"])] == ["events.W003"]
