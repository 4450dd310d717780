"""Snapshots contain no personal data in the clear, and are unreadable once the key is dropped."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from django.db import connection, transaction

from backoffice import commands as entry_point
from backoffice.sections.conflicts import domain as conflict_domain
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import aggregate, commands, errors, head, snapshots, store, tasks, types
from events.archive import reader as archives
from events.archive import writer as archiving
from events.integrity import seals
from events.privacy import erasure, subject_keys
from events.types import ERASED, new_id
from tests import factories
from tests.backoffice import api_client
from tests.events.isolated_log import execute, migration, own_log

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "Zoelinde-Quimper"


@pytest.fixture
def records() -> dict[str, str]:
    """The stream of one record of each kind; its personal fields contain SECRET."""
    user = factories.user(first_name=SECRET)
    form = factories.form(user, title=SECRET)
    answer = factories.submission(form, q=SECRET)
    factories.update(user, last_name="Later")
    boss = api_client.staff("admin")
    clash = factories.command(users.UpdateUser(last_name=SECRET), user, base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(clash, boss)
    conflict = conflict_domain.id_for(clash.id)
    return {"user": f"user-{user}", "form": f"form-{form}", "submission": f"submission-{answer}"} | {
        "conflict": f"conflict-{conflict}"
    }


def taken(stream: str) -> tuple[Any, int]:
    """Take a snapshot of the stream; returns the state and its version."""
    state, version = snapshots.state(stream)
    snapshots.save(aggregate.of_category(types.category_of(stream)), stream, version, state)
    return state, version


def stored(stream: str) -> list[str]:
    return [row[0] for row in store.query("select state::text from events_snapshot where stream = %s", (stream,))]


def loaded(stream: str) -> tuple[Any, int]:
    return snapshots.load(aggregate.of_category(types.category_of(stream)), stream)


def store_plain_snapshot(stream: str) -> None:
    """Store a plain snapshot, as an earlier release did."""
    record = aggregate.of_category(types.category_of(stream))
    state, version = snapshots.state(stream)
    text = msgspec.json.encode(record.dump(state)).decode()
    store.execute("delete from events_snapshot where stream = %s", (stream,))
    store.execute(snapshots.SAVE, (stream, version, record.state_version - 1, text))


def test_personal_snapshot_is_encrypted_and_readable(records: dict[str, str]) -> None:
    assert set(records) == set(snapshots.personal_categories())
    for stream in records.values():
        assert SECRET in repr(taken(stream)[0])
        (text,) = stored(stream)
        assert SECRET not in text
        assert loaded(stream) == snapshots.state(stream)
        subject_keys.CACHE.clear()
        assert loaded(stream)[1] > 0, "also readable by a process without the key in memory"


def test_snapshot_moved_to_another_version_is_ignored(records: dict[str, str]) -> None:
    stream = records["user"]
    version = taken(stream)[1]
    store.execute("update events_snapshot set version = %s where stream = %s", (version - 1, stream))
    assert loaded(stream) == (None, 0)
    assert snapshots.state(stream)[0].first_name == SECRET, "it is folded again"


def test_aggregate_with_personal_events_must_declare_a_subject() -> None:
    nobody = aggregate.Aggregate(
        category="user",
        state=users.User,
        initial=users.User,
        evolve=users.evolve,
        decide=users.decide,
        commands=(),
    )
    known = aggregate._by_category.pop("user")
    try:
        with pytest.raises(RuntimeError, match=r"user\.\w+ holds personal data"):
            aggregate.register(nobody)
    finally:
        aggregate._by_category["user"] = known


def test_erasure_deletes_snapshots_of_every_dependent_stream(records: dict[str, str]) -> None:
    for stream in records.values():
        taken(stream)
    key = types.key_of(records["user"])
    commands.dispatch(factories.command(users.EraseUser(), key, reason="asked"))
    for stream in records.values():
        assert stored(stream) == []
        assert SECRET not in repr(snapshots.state(stream)[0])
        taken(stream)
        assert stored(stream) == [], "no snapshot is stored afterwards"


def test_erasing_a_submission_deletes_only_its_own_snapshot(records: dict[str, str]) -> None:
    gone = records["submission"]
    form = uuid.UUID(types.key_of(records["form"]))
    kept = f"submission-{factories.submission(form, q='kept')}"
    for stream in (gone, kept):
        taken(stream)
    commands.dispatch(factories.command(submissions.EraseSubmission(), types.key_of(gone), reason="asked"))
    assert stored(gone) == []
    assert loaded(kept)[0].answers == {"q": "kept"}


def another_process() -> psycopg.Connection[Any]:
    known = {"host", "port", "user", "password", "dbname"}
    return psycopg.connect(**{k: v for k, v in connection.get_connection_params().items() if k in known})


@pytest.mark.parametrize("kind", ["user", "form", "submission", "conflict"])
def test_snapshot_written_during_an_erasure_is_unreadable(records: dict[str, str], kind: str) -> None:
    """The writer has the state and the key in memory, and writes after the erasure and its purge."""
    stream = records[kind]
    subjects = [records["user"], records["form"]]
    state, version = snapshots.state(stream)
    with another_process() as other:
        other.execute(erasure.WAIT, (subjects,))
        other.execute(erasure.SHRED, (subjects,))
        other.execute(erasure.INCREMENT_GENERATION)
        other.commit()
    snapshots.save(aggregate.of_category(kind), stream, version, state)
    assert all(SECRET not in text for text in stored(stream))
    assert loaded(stream) == (None, 0)
    assert SECRET not in repr(snapshots.state(stream)[0])


def test_plain_snapshots_are_ignored_and_encrypted_in_place(records: dict[str, str]) -> None:
    for stream in records.values():
        store_plain_snapshot(stream)
        assert loaded(stream) == (None, 0)
    assert store.query(snapshots.COUNT_PLAIN, (snapshots.personal_categories(),)) == [(len(records),)]
    tasks.snapshot()
    assert store.query(snapshots.COUNT_PLAIN, (snapshots.personal_categories(),)) == [(0,)]
    for stream in records.values():
        assert SECRET not in stored(stream)[0]
        assert loaded(stream) == snapshots.state(stream)


def test_migration_encrypts_existing_snapshots(records: dict[str, str]) -> None:
    for stream in records.values():
        store_plain_snapshot(stream)
    migration("0013_sealed_snapshots").seal(None, None)
    assert store.query(snapshots.COUNT_PLAIN, (snapshots.personal_categories(),)) == [(0,)]
    assert all(loaded(stream)[1] > 0 for stream in records.values())


def test_any_erasure_removes_plain_snapshots_of_all_subjects(records: dict[str, str]) -> None:
    """This includes snapshots of subjects erased before the upgrade, and snapshots of an old shape."""
    erased_before = f"user-{factories.user(first_name=SECRET)}"
    store_plain_snapshot(erased_before)
    with transaction.atomic():
        erasure.shred([erased_before])
    store.query("update events_subject_key set purged_at = now() where subject = %s returning 1", (erased_before,))
    for stream in records.values():
        store_plain_snapshot(stream)
    other = factories.user()
    store.execute(snapshots.SAVE, (f"user-{other}", 7, 1, f'{{"email": ["{SECRET}"]}}'))
    commands.dispatch(factories.command(users.EraseUser(), other, reason="asked"))
    assert stored(erased_before) == stored(f"user-{other}") == []
    assert store.query("select 1 from events_snapshot where state::text like %s", (f"%{SECRET}%",)) == []
    assert loaded(records["form"])[0].title == SECRET, "snapshots of other subjects are encrypted"


def test_snapshots_of_settings_stay_in_the_clear() -> None:
    record = aggregate.of_category("setting")
    snapshots.save(record, "setting-x", 1, record.initial())
    assert snapshots.load(record, "setting-x") == (record.initial(), 1)
    with transaction.atomic():
        assert snapshots.encrypt_plain(100) == 0


# -- archived --------------------------------------------------------------------------------------------------------


@pytest.fixture
def log(transactional_db: None, tmp_path: Path, settings: Any) -> Iterator[None]:
    """A log with partitions of five positions."""
    settings.ARCHIVE_DIR = tmp_path / "archive"
    archives.reader.cache_clear()
    with own_log(upto=30):
        yield
    archives.reader.cache_clear()


def test_erased_data_is_unreadable_in_archives_and_their_snapshots(log: None) -> None:
    form, when = new_id(), store.query("select now()")[0][0]
    answers = [f"submission-{new_id()}" for _ in range(4)]
    store.append(f"form-{form}", [forms.FormUpdated(title=SECRET)])
    for stream in answers:
        received = submissions.SubmissionReceived(form_id=form, answers={"q": SECRET}, created_at=when)
        store.append(stream, [received])
    for _ in range(8):
        store.append("setting-filler", [submissions.SubmissionErased(form_id=form, erased_at=when)])
    assert head.last() == 13
    assert seals.seal()
    archived = archiving.archive_next(keep_days=0)
    assert archived is not None
    assert store.query("select count(*) from events_snapshot")[0][0] == 5
    assert all(SECRET in repr(snapshots.state(stream)[0]) for stream in answers), "before"
    assert store.query("select 1 from events_snapshot where state::text like %s", (f"%{SECRET}%",)) == []
    with transaction.atomic():
        erasure.shred([f"form-{form}"])
    for purged in (False, True):
        if purged:
            erasure.finish()
            assert store.query("select count(*) from events_snapshot") == [(0,)]
        for stream in answers:
            assert snapshots.state(stream)[0].answers == submissions.NO_ANSWERS
        assert snapshots.state(f"form-{form}")[0].title == ERASED
    execute("delete from events_archive")
