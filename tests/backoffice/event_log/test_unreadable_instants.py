"""An inserted event whose time Python cannot read is unreadable and stops no reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse

from backoffice.sections.users import domain as users
from events import commands, head, search, snapshots, store
from events.archive import reader as archives
from events.archive import restore
from events.integrity import stored_rows, verify
from events.rebuild import replay
from events.subscriptions import parked as parking
from events.subscriptions import status
from events.types import new_id
from realtime.log_reader import LogReader
from tests import factories
from tests.backoffice import api_client
from tests.events import effects
from tests.own_database import own_database

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def database(transactional_db: None, template: str) -> Iterator[None]:
    """Creates a database for this test, because it damages the log."""
    with own_database(template):
        yield


# Times that PostgreSQL stores and Python does not, and years that a time zone moves out of Python's calendar.
TIMES = (
    "infinity",
    "-infinity",
    "294276-12-31 12:00Z",
    "200000-01-01Z",
    "9999-12-31 23:59Z",
    "0001-01-01Z",
    "4000-01-01Z BC",
)

INSERT = """
with moved as (
    update events_stream set version = version + 1, hash = %(digest)s where stream = %(stream)s returning version)
insert into events_event (stream, version, type, schema_version, data, event_id, recorded_at, actor, metadata, hash)
select %(stream)s, version, 'user.updated', 1, '{"role": "partner"}', %(id)s, %(at)s::timestamptz, 'system', '{}',
       %(digest)s from moved returning position
"""


@pytest.fixture(params=TIMES)
def broken(request: Any) -> tuple[str, int, int]:
    """Returns a user's stream, the position of its second event, whose time is unreadable, and that of a later one."""
    key = factories.user(first_name="Ada")
    stream = f"user-{key}"
    values = {"stream": stream, "id": new_id(), "at": request.param, "digest": b"x" * 32}
    with connection.cursor() as cursor:
        cursor.execute(INSERT, values)
        position = cursor.fetchone()[0]
    after = store.query("select position from events_event where stream = %s", (f"user-{factories.user()}",))[0][0]
    return stream, position, after


def test_readers_show_the_event_as_unreadable(broken: tuple[str, int, int]) -> None:
    stream, position, after = broken
    key = stream.partition("-")[2]
    found = {event.position: event.unreadable for event in store.read_all(position - 1, upto=head.safe())}
    assert found == {position: "no_instant", after: None}
    assert [event.position for event in snapshots.folded(stream).unreadable] == [position]
    assert search.find(search.Query(stream=stream), upto=head.safe(), limit=5).events[0].unreadable == "no_instant"
    assert search.first_since(store.query("select now()")[0][0], head.safe()) is not None
    caller = api_client.signed_in("admin")
    answer = caller.get(f"events/?after={position - 1}").json()["items"]
    assert [event.get("unreadable") for event in answer] == ["no_instant", None]
    for address in (
        reverse("admin:index"),
        reverse("admin:events_storedevent_changelist"),
        reverse("admin:events_storedevent_change", args=[position]),
        reverse("admin:backoffice_user_history", args=[key]),
        reverse("admin:backoffice_user_change", args=[key]),
        "/api/v1/system/subscriptions/",
    ):
        assert caller.client.get(address).status_code == 200, address
    assert api_client.signed_in("dpo").command("user.erase", key, reason="asked").status_code == 200


def test_socket_reads_past_the_event(broken: tuple[str, int, int]) -> None:
    _, position, after = broken

    async def read() -> list[tuple[int, str | None]]:
        log = LogReader()
        await log.open()
        try:
            return [(event.position, event.unreadable) for event in await log.read(position - 1, after, 10)]
        finally:
            await log.close()

    assert asyncio.run(read()) == [(position, "no_instant"), (after, None)]


def test_subscriptions_park_the_event_and_operators_see_it(broken: tuple[str, int, int]) -> None:
    stream, position, after = broken
    with effects.effects():
        wanted = effects.subscription(start=position - 1)
        assert [one.behind for one in status.statuses(wanted.name)] in ([], [2])
        effects.catch_up(wanted)
        assert effects.effect() == [after]
        (parked,) = parking.parked(wanted.name)
        assert [one.recorded_at for one in parking.waiting(wanted.name, stream)] == [None]
        assert parked.position == position


def test_rebuild_export_and_verification_report_the_event(broken: tuple[str, int, int], tmp_path: Path) -> None:
    stream, position, after = broken
    assert [event is None for _, event in replay.read("user", position - 1, after, 10)] == [True, False]
    file = tmp_path / "events.jsonl"
    call_command("export_events", str(file), after=position - 1, stdout=StringIO(), stderr=StringIO())
    assert json.loads(file.read_bytes().splitlines()[0])["unreadable"] == "no_instant"
    report = verify.verify_stream(stream)
    assert (report.ok, report.unreadable) == (False, 1)  # the manual insert has no valid hash
    with pytest.raises((CommandError, SystemExit)):
        call_command("verify_events", stdout=StringIO(), stderr=StringIO())


def test_archive_keeps_its_time(broken: tuple[str, int, int]) -> None:
    _, position, _ = broken
    (row,) = (row for rows in stored_rows.read(position - 1, position) for row in rows)
    assert archives.events_of([row])[0].unreadable == "no_instant"
    stored = restore._to_columns(row)[restore.COLUMNS.index("recorded_at")]
    same = "select recorded_at = %s::timestamptz, events_digest(stream, type, schema_version, data, event_id,"
    same += " recorded_at, actor, reason, correlation_id, causation_id, metadata) from events_event where position = %s"
    is_same, digest = store.query(same, (str(stored), position))[0]
    if row.recorded_at == stored_rows.FOREVER:
        is_same = True  # the last years that PostgreSQL supports are stored as `infinity`
    assert is_same
    text = store.query("select recorded_at::text from events_event where position = %s", (position,))[0][0]
    assert (bytes(digest) == row.digest()) == (not text.startswith("294276"))


def test_commands_about_other_records_continue(broken: tuple[str, int, int]) -> None:
    assert commands.dispatch(factories.command(users.CreateUser(email=api_client.email()))).status == "applied"
