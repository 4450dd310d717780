"""The removal of an event is recorded, and is the only way to change a stored event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction

from backoffice.models import User
from events import context, errors, head, removal, snapshots, store
from events.archive import reader as archives
from events.archive import restore
from events.archive import writer as archiving
from events.integrity import seals, verify
from events.rebuild import builder as rebuild
from tests import factories
from tests.events.isolated_log import execute, own_log

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log(transactional_db: None, tmp_path: Path, settings: Any) -> Iterator[None]:
    settings.ARCHIVE_DIR = tmp_path / "archive"
    with own_log():
        yield


@pytest.fixture
def secret(log: None) -> int:
    """The position of an event to remove, which another event of its record follows."""
    key = factories.user(first_name="Ada")
    position = factories.update(key, first_name="4111 1111 1111 1111").position
    factories.update(key, last_name="Lovelace")
    seals.seal()
    assert position
    return position


def removed_event(secret: int) -> removal.LogRemoved:
    with context.acting(actor="staff:7"):
        return removal.remove(secret, "a card number")


def test_removal_deletes_the_contents_and_keeps_the_position(secret: int) -> None:
    before = store.read_all(0, 100, upto=head.safe())
    removed = removed_event(secret)
    after = store.read_all(0, 100, upto=head.safe())
    assert b"4111 1111" not in json.dumps([event.to_wire() for event in after]).encode()
    assert [(e.position, e.stream, e.version, e.event_id) for e in before] == [
        (e.position, e.stream, e.version, e.event_id) for e in after[:-1]
    ]
    written = after[-1]
    assert (written.stream, written.event, written.actor, written.reason) == (
        f"removal-{secret}",
        removed,
        "staff:7",
        "a card number",
    )
    report = verify.verify()
    assert (report.ok, report.removed) == (True, 1)
    assert verify.verify_stream(removed.stream).ok
    assert store.query("select count(*) from events_snapshot") == [(0,)]


def test_states_and_read_tables_skip_a_removed_event(secret: int) -> None:
    removed = removed_event(secret)
    state, version = snapshots.state(removed.stream)
    assert (state.first_name, state.last_name, version) == ("Ada", "Lovelace", 3)
    rebuild.rebuild("users", fresh=True)
    row = User.objects.get()
    assert (row.first_name, row.last_name, row.version) == ("Ada", "Lovelace", 3)
    assert factories.update(row.pk, first_name="Grace").version == 4


def test_files_exported_after_a_removal_pass_verification(secret: int, tmp_path: Path) -> None:
    removed_event(secret)
    kept, events = tmp_path / "seals.jsonl", tmp_path / "events.jsonl"
    call_command("seal_events", export=kept, events=events, stdout=StringIO())
    assert "4111 1111" not in events.read_text()
    report = verify.verify_files(events, kept)
    assert (report.ok, report.removed) == (True, 1)


FORGED = [
    "update events_event set data = '{{}}' where position = {0}",
    removal.EMPTY.replace("{}", "{{}}").replace("%s", "{0}"),
    "delete from events_event where position = {0}",
]


@pytest.mark.parametrize("statement", FORGED)
def test_other_changes_of_an_event_are_rejected(secret: int, statement: str) -> None:
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        execute(statement.format(secret))


def test_removal_record_with_a_wrong_digest_is_rejected(secret: int) -> None:
    with pytest.raises(errors.AppendOnly), transaction.atomic():
        one = removal.LogRemoved(position=secret, stream="user-x", version=1, type="user.updated", digest="00")
        store.append(f"removal-{secret}", [one])
        store.execute(removal.EMPTY, (secret,))


def test_event_emptied_without_a_removal_record_is_reported(secret: int) -> None:
    execute(
        "alter table events_event disable trigger append_only",
        f"update events_event set type = 'event.removed', data = '{{}}' where position = {secret}",
        "alter table events_event enable always trigger append_only",
    )
    found = verify.verify().findings()
    assert [(one.position, one.message) for one in found] == [
        (secret, "emptied, but its removal is not recorded"),
    ]


def test_removed_event_cannot_be_removed_again(secret: int) -> None:
    removed_event(secret)
    for position in (secret, head.safe()):
        with pytest.raises(errors.AppendOnly, match="cannot be removed"):
            removal.remove(position, "again")
    with pytest.raises(errors.StreamNotFound):
        removal.remove(10_000, "a card number")
    with pytest.raises(errors.InvalidCommand):
        removal.remove(1, "  ")


def test_archive_with_a_removed_event_is_written_again(secret: int) -> None:
    while head.safe() < 6:
        factories.user()
    seals.seal()
    first = archiving.archive_next(keep_days=0)
    assert first is not None
    assert first.low <= secret < first.high
    with pytest.raises(errors.StreamNotFound, match="restore its archive first"):
        removal.remove(secret, "a card number")
    restore.restore(first.low)
    removed_event(secret)
    assert not first.path.exists()
    second = archiving.archive_next(keep_days=0)
    assert second is not None
    assert "4111 1111" not in str([row for rows in archives.Reader(second).rows(0, secret) for row in rows])
    report = verify.verify()
    assert (report.ok, report.removed) == (True, 1)


def test_command_asks_for_confirmation_and_lists_remaining_work(secret: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="Nothing was removed"):
        call_command("remove_event", str(secret), reason="a card number")
    out = StringIO()
    call_command("remove_event", str(secret), reason="a card number", no_input=True, stdout=out)
    assert "removed user.updated" in out.getvalue()
    assert "rebuild_projection users" in out.getvalue()
    with pytest.raises(CommandError, match="cannot be removed"):
        call_command("remove_event", str(secret), reason="again", no_input=True)
