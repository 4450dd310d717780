"""The database itself refuses to change what happened."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from events import errors, store
from events.types import new_id
from tests import make

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
def test_stored_events_cannot_be_changed_removed_or_smuggled_in(statement: str) -> None:
    make.user()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_refusal_holds_for_a_restore_too() -> None:
    make.user()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("set local session_replication_role = replica")
        cursor.execute("delete from events_event")


def test_the_refusal_is_an_error_of_ours() -> None:
    make.user()
    with pytest.raises(errors.AppendOnly), transaction.atomic():
        store.query("update events_event set actor = 'x' returning 1")


def test_a_version_cannot_be_stored_twice_behind_the_gates_back() -> None:
    stream = f"user-{make.user()}"
    insert = """insert into events_event (stream, version, type, data, event_id, actor, hash)
                values (%s, 1, 'user.created', '{}', %s, 'x', '') returning 1"""
    with pytest.raises(errors.WrongExpectedVersion), transaction.atomic():
        store.query(insert, (stream, new_id()))


def test_room_for_positions_is_made_ahead_and_only_once() -> None:
    assert store.query("select events_partition(20000000)")[0][0] == 0
    assert store.query("select events_partition(30000000)")[0][0] == 1
    assert store.query("select events_partition(30000000)")[0][0] == 0


def test_every_partition_carries_every_guard() -> None:
    missing = store.query(
        """select c.relname, wanted from pg_inherits i join pg_class c on c.oid = i.inhrelid,
                  unnest(array['no_truncate', 'through_the_log', 'append_only']) wanted
            where i.inhparent = 'events_event'::regclass and not exists (
                  select 1 from pg_trigger t where t.tgrelid = c.oid and t.tgname = wanted and t.tgenabled = 'A')"""
    )
    assert missing == []
