"""Every reader still reads archived events, which are no longer in the database."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from backoffice.models import User
from backoffice.sections.users.domain import UserUpdated
from events import checks, commands, errors, freshness, head, snapshots, store
from events.archive import reader as archives
from events.archive import restore
from events.archive import writer as archiving
from events.integrity import export, proofs, seals, stored_rows
from events.integrity import verify as verifying
from events.privacy import erasure, purging
from events.rebuild import builder as rebuild
from events.rebuild import replay
from events.subscriptions import runner as subscriptions
from events.types import ERASED
from metrics.management.commands import doctor
from realtime import conf, follower
from realtime import log_reader as realtime_log
from tests import factories
from tests.backoffice import api_client
from tests.events import effects
from tests.events.isolated_log import execute, own_log

pytestmark = pytest.mark.django_db(transaction=True)

ADA, BOB = (f"user-00000000-0000-7000-8000-{number:012}" for number in (1, 2))


@pytest.fixture
def log(transactional_db: None, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sealed log of twelve positions, of which two were rolled back.

    Partitions have five positions, blocks of an archive two.
    """
    settings.ARCHIVE_DIR = tmp_path / "archive"
    for module in (archives, archiving):
        monkeypatch.setattr(module, "BLOCK", 2)
    archives.reader.cache_clear()
    with own_log(upto=30):
        for name in [ADA, BOB, ADA, None, BOB, ADA, ADA, None, BOB, ADA, BOB, ADA]:
            _write(name)
        assert seals.seal(4)
        yield
    archives.reader.cache_clear()


def _write(name: str | None) -> None:
    if name is None:
        store.query("select nextval('events_position_seq')")
    else:
        store.append(name, [UserUpdated(first_name=f"N{head.last() + 1}")])


def archive() -> archives.Archive:
    found = archiving.archive_next(keep_days=0)
    assert found is not None
    return found


def everything() -> list[Any]:
    """The results of every kind of read."""
    upto = 12
    instants = [event.recorded_at for event in store.read_all(0, upto=upto)]
    results: list[Any] = [store.read_all(after, limit, upto=upto) for after in range(12) for limit in (1, 3, 100)]
    results += [store.read_all(0, upto=upto, types=["user.updated"]), store.read_all(0, upto=upto, categories=["form"])]
    for name in (ADA, BOB, "user-nobody"):
        results += [store.read_stream(name, after, limit) for after in range(8) for limit in (None, 1, 2)]
        results += [store.read_stream(name, after, upto=version) for after in range(3) for version in range(7)]
        results += [store.read_stream(name, at=at) for at in (*instants, instants[0] - timedelta(seconds=1))]
        results += [snapshots.state(name, version) for version in (None, *range(1, 6))]
        results += [snapshots.state(name, at=at) for at in instants]
    results += [row for rows in archives.rows(0, upto) for row in rows]
    return results + [archives.proof(position) for position in (1, 3, 6, 9)]


def test_archived_events_are_read_like_stored_ones(log: None) -> None:
    before = everything()
    rows = [row for chunk in stored_rows.read(0, 5) for row in chunk]
    first = archive()
    assert (first.low, first.high, first.events, first.gone) == (1, 6, 4, True)
    assert store.query("select min(position) from events_event") == [(6,)]
    assert everything() == before
    archive()
    assert archiving.archive_next(keep_days=0) is None, "positions 11 to 15 are not closed"
    assert everything() == before
    execute("delete from events_snapshot")
    assert everything() == before
    assert gzip.decompress(first.path.read_bytes()).splitlines(keepends=True) == [export.line(row) for row in rows]
    assert all(proofs.check(archives.proof(at), seals.seal_of(at)) for at in (1, 6, 7))  # type: ignore[arg-type]


def test_erased_subject_is_unreadable_in_the_archive_and_the_log_still_verifies(log: None) -> None:
    first = archive()
    written = first.path.read_bytes()
    assert store.read_stream(ADA, upto=1)[0].data == {"first_name": "N1"}
    with transaction.atomic():
        assert erasure.shred([ADA]) == [ADA]
    archives.reader.cache_clear()  # as in another process, which has no cache yet
    names = [event.data["first_name"] for event in store.read_stream(ADA)]
    assert set(names) == {ERASED}, "archived or not"
    assert {event.data["first_name"] for event in store.read_all(0, upto=12) if event.stream == BOB} >= {"N2"}
    purging.finish()  # deletes the snapshot over the archived events; the state is read from the file again
    assert snapshots.state(ADA)[0].first_name == ERASED
    assert verifying.verify().findings() == []
    archive()  # an archive written after the erasure contains the ciphertext too
    assert {event.data["first_name"] for event in store.read_stream(ADA)} == {ERASED}
    assert verifying.verify().findings() == []
    assert first.path.read_bytes() == written, "not a byte of the file was touched"


def test_verification_reads_archives(log: None) -> None:
    before = verifying.verify().to_dict()
    archive()
    after = verifying.verify()
    added = {"events": before["events"] + 1, "head": before["head"] + 1, "unsealed": before["unsealed"] + 1}
    assert after.to_dict() == before | added  # the event log.archived
    assert verifying.verify_stream(ADA).ok
    assert verifying.verify(6).ok
    assert verifying.verify(2, 8).ok


def test_altered_archive_is_reported_with_its_first_altered_row(log: None) -> None:
    found = archive()
    lines = gzip.decompress(found.path.read_bytes()).splitlines(keepends=True)
    forged = [lines[0], lines[1].replace(b"system", b"nobody"), *lines[2:]]
    assert forged != lines
    members = [gzip.compress(b"".join(forged[:2])), gzip.compress(b"".join(forged[2:3])), gzip.compress(forged[3])]
    _rewrite(found, members)
    report = verifying.verify()
    assert [(one.position, one.stream, one.check) for one in report.findings()[:2]] == [
        (1, None, "archive"),
        (2, BOB, "chain"),
    ]
    found.path.write_bytes(b"not a gzip file")
    archives.reader.cache_clear()
    assert not verifying.verify().ok
    with pytest.raises(errors.Archived, match="was altered"):
        store.read_all(0, upto=12)


def _rewrite(found: archives.Archive, members: list[bytes]) -> None:
    """Forge an archive file and its index."""
    offsets = [sum(map(len, members[:count])) for count in range(len(members) + 1)]
    index = bytearray(found.index.read_bytes())
    archives.struct.pack_into(f">{len(offsets)}Q", index, len(archives.MAGIC) + 4, *offsets)
    found.path.write_bytes(b"".join(members))
    found.index.write_bytes(index)
    archives.reader.cache_clear()


def test_missing_archive_file_is_named_in_the_error(log: None) -> None:
    found = archive()
    execute("delete from events_snapshot")
    found.path.unlink()
    archives.reader.cache_clear()
    for read in (lambda: store.read_stream(ADA), lambda: store.read_all(0, upto=9), lambda: snapshots.state(BOB)):
        with pytest.raises(errors.Archived, match=r"Positions 1 to 5 are archived in log-0+1-0+5\.jsonl\.gz"):
            read()
    report = verifying.verify()
    assert [(one.position, one.check) for one in report.findings()] == [(1, "absent")]
    assert verifying.verify(archived=True).ok
    assert len(store.read_all(5, upto=12)) == 6, "events in the log need no file"


def test_doctor_names_a_missing_or_truncated_archive_file(log: None) -> None:
    assert doctor.archive_files().text == "none"
    made = archive()
    assert doctor.archive_files().state == "ok"
    content = made.path.read_bytes()
    made.path.write_bytes(content[:-1])
    assert (doctor.archive_files().state, made.file in doctor.archive_files().text) == ("wrong", True)
    made.path.write_bytes(content)
    made.index.unlink()
    assert doctor.archive_files().state == "wrong"


def test_record_with_archived_events_accepts_commands(log: None) -> None:
    key = factories.user(first_name="Ada")
    command = factories.command(factories.users.UpdateUser(first_name="Grace"), key)
    first = commands.dispatch(command)
    while head.safe() <= 20:
        _write(BOB)
    seals.seal(4)
    while archiving.archive_next(keep_days=0):
        pass
    assert store.query("select min(position) > %s from events_event", (first.position,)) == [(True,)]
    again = commands.dispatch(command)
    assert (again.status, again.position) == ("duplicate", first.position)
    assert store.query("select 1 from events_snapshot where stream = %s", (f"user-{key}",)) == []
    assert factories.update(key, last_name="Hopper").version == 3, "from the file"
    assert factories.update(key, base_version=1, plan="premium").version == 4, "from its snapshot"
    state = snapshots.state(f"user-{key}")[0]
    assert (state.first_name, state.last_name, state.plan) == ("Grace", "Hopper", "premium")
    rebuild.rebuild("users", fresh=True)
    row = User.objects.get(pk=key)
    assert (row.first_name, row.last_name, row.plan, row.version) == ("Grace", "Hopper", "premium", 4)


PLANS = ["force_generic_plan", "force_custom_plan"]


@pytest.mark.parametrize("plans", PLANS)
def test_range_without_any_partition_is_read_from_the_archive(log: None, plans: str) -> None:
    """PostgreSQL leaves out all partitions of such a range; the range is not empty."""
    expected = [store.read_all(0, upto=3), store.read_all(0, upto=3, types=["user.updated"])]
    archive()
    with transaction.atomic():
        execute(f"set local plan_cache_mode = {plans}")
        for read in (
            lambda: store.read_here(0, 10, upto=3),
            lambda: store.read_here(0, 10, upto=3, types=["user.updated"]),
            lambda: store.query(subscriptions.READ_PARTITION, PARTITION),
        ):
            with pytest.raises(errors.Archived), transaction.atomic():
                read()
        with pytest.raises(psycopg.Error, match="are archived"), transaction.atomic():
            replay.read("user", 0, 3, 10)
    assert [store.read_all(0, upto=3), store.read_all(0, upto=3, types=["user.updated"])] == expected
    assert len(expected[0]) == 3


PARTITION = {"after": 0, "upto": 3, "types": None, "partitions": 1, "partition": 0, "limit": 10}


@pytest.mark.parametrize("stretch", [2, 1_000_000])
def test_rebuild_in_stretches_within_an_archive_loses_no_row(
    log: None, monkeypatch: pytest.MonkeyPatch, stretch: int
) -> None:
    keys = [factories.user(first_name=f"N{number}") for number in range(4)]
    while head.safe() <= 20:
        _write(BOB)
    seals.seal(4)
    while archiving.archive_next(keep_days=0):
        pass
    monkeypatch.setattr(rebuild, "STRETCH", stretch)
    rebuild.rebuild("users", fresh=True)
    assert set(User.objects.values_list("pk", flat=True)) >= set(keys)


@pytest.mark.parametrize("partitions", [1, 2])
def test_new_subscription_reads_archived_events(log: None, monkeypatch: pytest.MonkeyPatch, partitions: int) -> None:
    monkeypatch.setattr(subscriptions, "ARCHIVED_PER_TURN", 3)
    archive(), archive()
    expected = [event.position for event in store.read_all(0, upto=head.safe()) if event.stream in {ADA, BOB}]
    with effects.effects():
        wanted = effects.subscription(start=0, batch=2, partitions=partitions, types=("user.updated",))
        for partition in range(partitions):
            effects.catch_up(wanted, partition=partition)
        assert effects.effect() == expected
        assert effects.out_of_order() == []


def test_api_reads_archived_events_but_does_not_search_them(log: None) -> None:
    archive()
    manager = api_client.signed_in("manager")
    assert [event["position"] for event in manager.get("events/?limit=100").json()["items"]][:5] == [1, 2, 3, 5, 6]
    assert manager.get(f"streams/{ADA}/?limit=2").json()["items"][0]["version"] == 1
    refused = manager.get("events/?type=user.deleted")
    assert (refused.status_code, refused.json()["code"]) == (503, "archived")
    assert "up to 5" in refused.json()["detail"]
    assert manager.get("events/?type=user.deleted&after=5").status_code == 200


def test_page_explains_a_missing_archive_file(log: None) -> None:
    key = factories.user(first_name="Grace")
    factories.update(key, last_name="Hopper")
    while head.safe() <= 15:
        _write(BOB)
    seals.seal(4)
    while found := archiving.archive_next(keep_days=0):
        found.path.unlink()
    archives.reader.cache_clear()
    reader, page = Client(), reverse("admin:backoffice_user_record", args=[key])
    reader.force_login(api_client.staff("manager"))
    changed = reader.get(f"{page}change/")
    assert changed.status_code == 200, "the row needs no file"
    assert "data-archived" in changed.content.decode()
    assert reader.post(f"{page}change/", {"last_name": "Lovelace"}).status_code == 503
    for path in ("history/", "history/1/", "compare/?a=1&b=2"):
        answer = reader.get(f"{page}{path}", follow=True, headers={"Accept-Language": "fr"})
        assert answer.redirect_chain == [(f"{page}change/", 302)]
        assert "sont archivés dans log-0" in answer.content.decode()


def test_socket_with_an_archived_position_starts_over(log: None, monkeypatch: pytest.MonkeyPatch) -> None:
    archive()
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "options", f"{options['options']} -c search_path=tampered,public")

    async def read() -> None:
        reader = realtime_log.LogReader()
        await reader.open()
        try:
            assert [event.position for event in await reader.read(5, 12, 2)] == [6, 7]
            with pytest.raises(realtime_log.Archived):
                await reader.read(3, 12, 2)
        finally:
            await reader.close()

    asyncio.run(read())


def test_process_that_starts_or_wakes_within_an_archived_range_follows_the_rest(
    log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive()
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "options", f"{options['options']} -c search_path=tampered,public")
    expected = [event.position for event in store.read_all(5, upto=head.safe())]
    delivered: list[int] = []
    rewound: list[str] = []

    async def follow() -> None:
        reader = realtime_log.LogReader()
        await reader.open()
        following = follower.Follower(
            conf.limits(),
            reader,
            before=lambda _: None,
            deliver=lambda encoded: delivered.append(encoded.event.position),
            on_continue=lambda _shared, _lost: None,
            on_rewind=rewound.append,
            relay_reachable=lambda: False,
        )
        try:
            async with asyncio.TaskGroup() as group:  # fails if `follow` ends
                task = group.create_task(following.follow())
                await following.ready.wait()
                assert (delivered, rewound) == (expected, []), "its ring would have begun in the archive"
                following.position = 3  # as if it had read nothing while the log was archived
                await following.refresh()
                assert rewound == ["too_old"]
                assert (following.position, delivered) == (expected[-1], [*expected, *expected])
                task.cancel()
        finally:
            freshness.LOCAL.disconnect()
            await reader.close()

    asyncio.run(follow())


REASONS = [
    ("insert into events_checkpoint (name, position, epoch) values ('slow', 4, gen_random_uuid())", "slow is at 4"),
    (f"insert into events_parked values ('relay', '{ADA}', 3)", f"{ADA} is parked for relay"),
    ("insert into events_rebuild (name, phase, position) values ('users', 'building', 3)", "users is being rebuilt"),
]


@pytest.mark.parametrize(("statement", "reason"), REASONS)
def test_partition_needed_by_a_reader_is_not_archived(log: None, statement: str, reason: str) -> None:
    execute(statement)
    part = archiving.parts()[0]
    assert reason in str(archiving.needed(part, 0))
    assert archiving.archive_next(keep_days=0) is None
    with pytest.raises(errors.ArchiveRefused, match=reason):  # a reader that started between the check and the lock
        archiving._drop(part, archiving._record(part, archiving._write(part, archiving.ignore_progress)), 0, 0)
    assert archiving.parts()[0] == part
    assert archives.gone() == []


def test_young_or_unsealed_partition_is_not_archived(log: None) -> None:
    part = archiving.parts()[0]
    assert f"its last event is of {datetime.now(UTC).date()}" in str(archiving.needed(part))
    for _ in range(4):
        _write(BOB)
    assert archiving.needed(archiving.parts()[1], 0) is None
    assert archiving.needed(archiving.parts()[2], 0) == "it is sealed up to 12 only"
    assert archiving.needed(archiving.parts()[3], 0) == "it is not closed yet"


def test_archiving_gives_up_while_a_reader_holds_a_lock(log: None) -> None:
    session = psycopg.connect(**connection.get_connection_params() | {"autocommit": False})
    with session:
        session.execute("set search_path = tampered, public")
        session.execute("select count(*) from events_event")
        with pytest.raises(errors.ArchiveRefused, match="could not be locked within 0 s"):
            archiving.archive_next(keep_days=0, patience=0)
    assert archives.gone() == []
    assert archive().gone


class Killed(BaseException):
    """Simulates a killed process: no code of the project catches it."""


def test_archiving_killed_in_any_phase_continues(log: None) -> None:
    before = everything()

    def killed_in(phase: str) -> Callable[[str, int, int], None]:
        def report_progress(current: str, done: int, total: int) -> None:
            if current == phase:
                raise Killed

        return report_progress

    for phase in ("write", "snapshot", "verify"):
        with pytest.raises(Killed):
            archiving.archive_next(keep_days=0, report_progress=killed_in(phase))
        assert everything() == before
        assert archives.gone() == []
    phases: list[str] = []
    done = archiving.archive_next(keep_days=0, report_progress=lambda what, *_: phases.append(what))
    assert done is not None
    assert set(phases) == {"snapshot", "verify"}, "the file is not written again"
    assert {path.name for path in done.path.parent.iterdir()} == {done.file, done.index.name}
    assert everything() == before


def test_archive_that_contradicts_the_seals_removes_nothing(log: None) -> None:
    part = archiving.parts()[0]
    written = archiving._record(part, archiving._write(part, archiving.ignore_progress))
    execute(
        "alter table events_event disable trigger append_only",
        """update events_event set data = '{"first_name": "Eve"}' where position = 3""",
        "alter table events_event enable always trigger append_only",
    )
    written.path.unlink()
    with pytest.raises(errors.ArchiveRefused, match=rf"position 3, {ADA} version 2, chain.*Nothing was removed"):
        archiving.archive_next(keep_days=0)
    assert store.query("select count(*) from events_event where position <= 5") == [(4,)]


def test_archived_partition_can_be_restored(log: None) -> None:
    before = everything()
    first, second = archive(), archive()
    with pytest.raises(errors.ArchiveRefused, match="the newest is the one that begins at 6"):
        restore.restore(1)
    restore.restore(6)
    restore.restore(1)
    assert archives.gone() == []
    assert everything() == before
    for path in (first.path, second.path):
        path.rename(path.with_suffix(".away"))
    assert verifying.verify().ok
    assert [message.id for message in checks.check_order(databases=["default"]) if message.id != "events.W001"] == []
    kinds = [event.type for event in store.read_stream("log-000000000006")]
    assert kinds == ["log.archived", "log.restored"]
    with pytest.raises(errors.WrongExpectedVersion):
        store.append(ADA, [UserUpdated(first_name="A")], expected=3)
    assert archive().sha256 == first.sha256, "the same events are the same bytes"


def test_archive_and_restore_commands_report_their_work(log: None) -> None:
    out, err = StringIO(), StringIO()
    call_command("archive_events", keep_days=0, dry_run=True, stdout=out, stderr=err)
    assert err.getvalue().splitlines() == [
        "positions 1 to 5: can be archived",
        "positions 6 to 10: can be archived",
        "positions 11 to 15: stay, it is not closed yet",
    ]
    call_command("archive_events", keep_days=0, stdout=out)
    call_command("restore_archive", stdout=out)
    assert "positions 1 to 5: 4 events in log-000000000001-000000000005.jsonl.gz" in out.getvalue()
    assert "6 to 10: 4 events, archived" in out.getvalue()
    call_command("archive_events", keep_days=0, stdout=out, stderr=err)
    with pytest.raises(CommandError, match="newest"):
        call_command("restore_archive", "1")
    call_command("restore_archive", "6", stdout=out)
    assert "positions 6 to 10 are in the log again" in out.getvalue()
