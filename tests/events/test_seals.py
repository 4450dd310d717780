"""Verification detects tampering with the log and names the row, even when every trigger was disabled."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from backoffice.sections.site_settings.domain import SettingChanged
from events import context, errors, head, sql, store, tasks
from events.integrity import checks, export, merkle, proofs, seals, stored_rows, verify
from events.integrity.report import VerificationReport
from events.integrity.seals import Seal
from events.types import new_id
from tests.events.isolated_log import execute, migration, own_log

with_database = pytest.mark.django_db(transaction=True)

ADA, BOB, CLEO = "user-ada", "user-bob", "user-cleo"
WRITTEN = [ADA, BOB, ADA, CLEO, BOB, ADA, None, CLEO, ADA, BOB]  # at positions 1 to 10; None was rolled back
LATER = [ADA, CLEO]  # at 11 and 12, not sealed
SIZE = 4  # seals: (0, 4], (4, 8], (8, 10]


# -- an isolated log --------------------------------------------------------------------------------------------------


@pytest.fixture
def empty(db: None, transactional_db: None) -> Iterator[None]:
    with own_log():
        yield


def write(stream: str | None) -> None:
    with transaction.atomic(), context.acting(actor="staff:1", reason="by phone"):
        store.append(stream or "user-nobody", [SettingChanged(value=f"N{head.last()}")])
        transaction.set_rollback(stream is None)


@pytest.fixture
def log(empty: None) -> None:
    for stream in WRITTEN:
        write(stream)
    assert seals.seal(SIZE) == 3
    for stream in LATER:
        write(stream)


@contextmanager
def without_triggers() -> Iterator[Callable[..., None]]:
    """Disable every trigger of the log, as the owner of the tables can; yields a function that executes statements."""
    tables = [
        name
        for (name,) in store.query(
            "select relname from pg_class c where relkind in ('r', 'p') and relnamespace = 'tampered'::regnamespace"
        )
    ]
    execute(*(f"alter table {name} disable trigger user" for name in tables))
    yield execute
    for table, trigger in store.query(
        """select tgrelid::regclass::text, tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
            where c.relnamespace = 'tampered'::regnamespace and not tgisinternal and tgparentid = 0"""
    ):
        execute(f"alter table {table} enable always trigger {trigger}")


def tamper(*statements: str) -> None:
    with without_triggers() as run:
        run(*statements)


Location = tuple[int | None, str | None, int | None, str]


def locations(report: VerificationReport) -> list[Location]:
    return [(found.position, found.stream, found.version, found.check) for found in report.findings()]


RELINK = """
do $$ declare r record; link bytea; begin
    for r in select * from events_event where stream = '{stream}' order by version loop
        link := events_chain_step(link, null, events_digest(r.stream, r.type, r.schema_version, r.data, r.event_id,
            r.recorded_at, r.actor, r.reason, r.correlation_id, r.causation_id, r.metadata));
        update events_event set hash = link where position = r.position;
        update events_stream set hash = link, version = r.version where stream = r.stream;
    end loop;
end $$
"""

REWRITE_ADA = ["""update events_event set data = '{"value": "Eve"}' where stream = 'user-ada'""",
               RELINK.format(stream=ADA)]  # fmt: skip

INSERT = """
insert into events_event_p{partition:012} (position, stream, version, type, data, event_id, actor, hash)
values ({position}, '{stream}', {version}, 'user.updated', '{{}}', gen_random_uuid(), 'staff:1', '')
"""


# -- detection -----------------------------------------------------------------------------------------------------


@with_database
def test_untouched_log_passes_verification(log: None) -> None:
    report = verify.verify()
    assert report.findings() == []
    assert (report.ok, report.events, report.streams, report.seals) == (True, 11, 3, 3)
    assert (report.head, report.sealed_upto, report.unsealed, report.unlinked) == (12, 10, 2, 0)


@with_database
@pytest.mark.parametrize(
    "change",
    [
        """data = '{"value": "Eve"}'""",
        "actor = 'staff:2'",
        "reason = 'by letter'",
        "reason = null",
        "recorded_at = recorded_at + interval '1 microsecond'",
        "type = 'user.created'",
        "schema_version = 2",
        "event_id = gen_random_uuid()",
        "correlation_id = gen_random_uuid()",
        "causation_id = gen_random_uuid()",
        """metadata = '{"ip": "10.0.0.1"}'""",
        "hash = sha256(hash)",
    ],
)
@pytest.mark.parametrize(("position", "row"), [(3, (ADA, 2)), (11, (ADA, 5))], ids=["sealed", "not sealed"])
def test_changed_column_is_reported_with_its_row(log: None, change: str, position: int, row: tuple[str, int]) -> None:
    tamper(f"update events_event set {change} where position = {position}")
    first = verify.verify().findings()[0]
    assert (first.position, first.stream, first.version, first.check) == (position, *row, "chain")
    assert "altered" in str(first)


@with_database
@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param(
            ["""update events_event e set data = o.data from events_event o
                 where (e.position, o.position) in ((3, 6), (6, 3))"""],
            [(3, ADA, 2, "chain"), (6, ADA, 3, "chain")],
            id="the contents of two events swapped",
        ),
        pytest.param(
            ["update events_event set position = 18 where position = 8",
             "update events_event set position = 8 where position = 9",
             "update events_event set position = 9 where position = 18"],
            [(8, ADA, 4, "seal"), (9, CLEO, 2, "seal")],
            id="the positions of two events swapped",
        ),
        pytest.param(
            ["update events_event set version = 9 where position = 3",
             "update events_event set version = 2 where position = 6",
             "update events_event set version = 3 where position = 3"],
            [(3, ADA, 3, "seal"), (None, ADA, 2, "version"), (6, ADA, 2, "version"), (9, ADA, 4, "chain")],
            id="the versions of two events swapped",
        ),
        pytest.param(
            ["delete from events_event where position = 6"],
            [(6, ADA, 3, "version")],
            id="one deleted in the middle",
        ),
        pytest.param(
            ["delete from events_event where position in (3, 6)"],
            [(3, ADA, 2, "version")],
            id="two deleted in the middle",
        ),
        pytest.param(
            ["delete from events_event where position = 12"],
            [(None, CLEO, 3, "version")],
            id="the last of a stream deleted, not sealed",
        ),
        pytest.param(
            ["delete from events_event where position = 10"],
            [(10, BOB, 3, "version")],
            id="the last of a stream deleted, sealed",
        ),
        pytest.param(
            ["delete from events_event where stream = 'user-ada' and version > 2",
             "delete from events_stream where stream = 'user-ada'"],
            [(1, ADA, 1, "head"), (6, None, None, "seal"), (9, None, None, "seal")],
            id="a tail deleted with its head row",
        ),
        pytest.param(
            ["delete from events_event where stream = 'user-ada' and version > 2", RELINK.format(stream=ADA)],
            [(6, None, None, "seal"), (9, None, None, "seal")],
            id="a tail deleted and its head set back",
        ),
        pytest.param(
            ["delete from events_event where stream = 'user-bob'",
             "delete from events_stream where stream = 'user-bob'"],
            [(2, None, None, "seal"), (5, None, None, "seal"), (10, None, None, "seal")],
            id="a whole stream deleted with its head row",
        ),
        pytest.param(
            ["delete from events_event where stream = 'user-cleo'"],
            [(None, CLEO, 1, "version"), (4, None, None, "seal"), (8, None, None, "seal")],
            id="all events of a stream deleted",
        ),
        pytest.param(
            [INSERT.format(partition=6, position=7, stream="user-eve", version=1),
             "insert into events_stream values ('user-eve', 1, '')", RELINK.format(stream="user-eve")],
            [(7, "user-eve", 1, "seal")],
            id="a valid stream inserted at a rolled back position",
        ),
        pytest.param(
            [INSERT.format(partition=6, position=7, stream=BOB, version=4)],
            [(7, BOB, 4, "seal"), (None, BOB, 3, "version"), (10, BOB, 3, "version")],
            id="an event inserted into a stream",
        ),
        pytest.param(
            [INSERT.format(partition=16, position=18, stream=BOB, version=4), RELINK.format(stream=BOB)],
            [(18, BOB, 4, "head")],
            id="a valid event inserted beyond the last position drawn",
        ),
        pytest.param(
            [INSERT.format(partition=16, position=18, stream=BOB, version=4)],
            [(18, BOB, 4, "head")],
            id="an event inserted beyond its stream's head",
        ),
        pytest.param(
            ["update events_stream set hash = sha256(hash) where stream = 'user-bob'"],
            [(10, BOB, 3, "head")],
            id="a head altered",
        ),
        pytest.param(
            REWRITE_ADA,
            [(1, ADA, 1, "seal"), (3, ADA, 2, "seal"), (6, ADA, 3, "seal"), (9, ADA, 4, "seal")],
            id="a stream rewritten with its chain and its head",
        ),
        pytest.param(
            ["update events_seal set root = sha256(root) where number = 2"],
            [(5, None, None, "seals")],
            id="a seal altered",
        ),
        pytest.param(
            ["update events_seal set prints = overlay(prints placing '\\x0000' from 9) where number = 1"],
            [(1, None, None, "seals"), (2, BOB, 1, "seal")],
            id="a print in a seal altered",
        ),
        pytest.param(
            ["delete from events_seal where number = 2"],
            [(9, None, None, "seals")],
            id="a seal deleted in the middle",
        ),
    ],
)  # fmt: skip
def test_each_tampering_is_reported_with_position_and_check(
    log: None, statements: list[str], expected: list[Location]
) -> None:
    tamper(*statements)
    found = locations(verify.verify())
    assert found[0] == expected[0]
    assert set(found) == set(expected)
    with pytest.MonkeyPatch.context() as patch:  # with so little memory that every link must be looked up again
        patch.setattr(stored_rows, "CHUNK", 1)
        patch.setattr(checks, "STREAMS_KEPT", 0)
        assert locations(verify.verify())[0] == expected[0]


@with_database
def test_verification_works_with_minimal_memory(log: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows, "CHUNK", 1)
    monkeypatch.setattr(checks, "STREAMS_KEPT", 0)
    assert verify.verify().to_dict() | {"findings": []} == {
        "ok": True, "events": 11, "head": 12, "seals": 3, "sealed_upto": 10, "unsealed": 2, "unlinked": 0,
        "removed": 0, "seals_in_part": 0, "absent": [], "total": 0,
        "unreadable": 0, "unreadable_events": [], "first": None, "findings": [],
    }  # fmt: skip


# -- seals kept elsewhere -------------------------------------------------------------------------------------------


@pytest.fixture
def kept(log: None, tmp_path: Path) -> Path:
    """An export of the seals, where the owner of the database cannot write."""
    file = tmp_path / "seals.jsonl"
    call_command("seal_events", export=file, json=True, stdout=StringIO())  # also seals the last two
    return file


FORGET_SEALS = "delete from events_seal"


@with_database
def test_seals_kept_elsewhere_reveal_a_rewritten_stream_under_rewritten_seals(kept: Path) -> None:
    tamper(*REWRITE_ADA, FORGET_SEALS)
    seals.seal(SIZE)
    assert verify.verify().ok  # the database is consistent again
    found = locations(verify.verify(kept=kept))
    assert found[0] == (1, ADA, 1, "seal")
    assert {location for location in found if location[1]} == {
        (p, ADA, v, "seal") for p, v in ((1, 1), (3, 2), (6, 3), (9, 4), (11, 5))
    }
    assert (1, None, None, "seals") in found


@with_database
def test_seals_deleted_from_the_database_are_reported(kept: Path) -> None:
    tamper("delete from events_seal where number > 2")
    assert verify.verify().ok
    report = verify.verify(kept=kept)
    assert [found.message for found in report.findings()] == [
        "seal 3 is not in the database any more",
        "seal 4 is not in the database any more",
    ]


@with_database
def test_older_seals_kept_elsewhere_are_accepted(kept: Path) -> None:
    for stream in (ADA, BOB):
        write(stream)
    seals.seal(SIZE)
    write(CLEO)
    report = verify.verify(kept=kept)
    assert (report.ok, report.seals, report.unsealed) == (True, 5, 1)


# -- ranges and streams ---------------------------------------------------------------------------------------------


@with_database
@pytest.mark.parametrize(
    ("after", "upto", "ok"),
    [(0, 5, True), (5, 6, False), (6, 12, False), (9, None, True), (4, 8, False), (9, 10, True)],
)
def test_range_is_verified_on_its_own(log: None, after: int, upto: int | None, ok: bool) -> None:
    tamper(
        "update events_event set hash = sha256(hash) where position = 6"
    )  # so that 9, the next version, does not match either
    report = verify.verify(after, upto)
    assert report.ok == ok, report.findings()


@with_database
def test_one_stream_is_verified_on_its_own(log: None) -> None:
    tamper("update events_event set actor = 'staff:2' where position = 5")
    assert locations(verify.verify_stream(BOB)) == [(5, BOB, 2, "chain")]
    report = verify.verify_stream(ADA)
    assert (report.ok, report.events, report.unsealed) == (True, 5, 1)
    tamper(*REWRITE_ADA)
    assert locations(verify.verify_stream(ADA))[0] == (1, ADA, 1, "seal")
    with pytest.raises(errors.StreamNotFound):
        verify.verify_stream("user-nobody")


@with_database
def test_verify_stream_reports_a_stream_without_events(log: None) -> None:
    tamper("delete from events_event where stream = 'user-cleo'")
    assert locations(verify.verify_stream(CLEO)) == [(None, CLEO, 1, "version")]


@with_database
def test_positions_without_partition_are_reported_as_absent(log: None) -> None:
    execute("alter table events_event detach partition events_event_p000000000001")
    report = verify.verify()
    assert report.absent == [(1, 5)]
    assert locations(report) == [(1, None, None, "absent")]
    report = verify.verify(archived=True)
    assert (report.ok, report.events, report.unlinked) == (True, 6, 3)
    assert (report.seals, report.partial) == (1, 2)
    tamper("delete from events_event where position = 9")
    assert locations(verify.verify(archived=True)) == [(9, ADA, 4, "version")]


# -- sealing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def other() -> Iterator[psycopg.Connection]:
    """A second session in the same log."""
    parameters = connection.get_connection_params()
    with psycopg.connect(
        **{k: v for k, v in parameters.items() if k in {"host", "port", "user", "password", "dbname"}}
    ) as session:
        session.execute("set search_path = tampered, public")
        session.commit()
        yield session
        session.rollback()


def every() -> list[Seal]:
    return list(seals.every_seal())


@with_database
def test_seals_cover_the_log_without_gaps(log: None) -> None:
    assert [(seal.number, seal.after, seal.upto, seal.count) for seal in every()] == [
        (1, 0, 4, 4),
        (2, 4, 8, 3),
        (3, 8, 10, 2),
    ]
    assert every()[1].positions == "{[5,7),[8,9)}"
    assert seals.seal() == 1
    assert seals.seal() == 0
    assert every()[-1].upto == 12


@with_database
def test_seal_excludes_an_uncommitted_append(log: None, other: psycopg.Connection) -> None:
    other.execute(
        """select events_append_one('user-slow', null, 'user.updated', 1::smallint, '{}', %s, 'x', null, null, null,
           '{}')""",
        (new_id(),),
    )
    write(ADA)
    assert seals.seal() == 1
    assert every()[-1].upto == 12  # the open append has 13, Ada's 14
    other.commit()
    assert seals.seal() == 1
    assert (every()[-1].upto, every()[-1].count) == (14, 2)
    assert verify.verify().ok


@with_database
def test_only_one_process_seals_at_a_time(log: None, other: psycopg.Connection) -> None:
    assert other.execute(seals.TRY_LOCK).fetchone() == (True,)
    assert seals.seal() == 0
    other.rollback()
    assert tasks.seal() == 1


@with_database
def test_sealing_continues_after_a_crash(log: None) -> None:
    for _ in range(3):
        write(BOB)

    def die(made: Seal) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seals.seal(2, on_seal=die)
    assert seals.seal(2) == 2
    assert [seal.upto for seal in every()] == [4, 8, 10, 12, 14, 15]
    assert verify.verify().ok


@with_database
def test_range_of_rolled_back_positions_is_sealed_once_it_is_full(empty: None) -> None:
    for _ in range(3):
        write(None)
    write(ADA)
    assert seals.seal(5) == 1
    for _ in range(6):
        write(None)
    assert seals.seal(5) == 0
    write(ADA)
    assert seals.seal(5) == 2
    assert [(seal.upto, seal.count) for seal in every()] == [(4, 1), (9, 0), (11, 1)]
    assert every()[1].root == hashlib.sha256().digest()
    assert verify.verify().ok


@with_database
def test_empty_log_passes_verification(empty: None) -> None:
    assert seals.seal() == 0
    assert verify.verify().ok
    assert seals.last() is None


@with_database
@pytest.mark.parametrize(
    "statement",
    [
        "update events_seal set root = sha256('')",
        "delete from events_seal where number = 3",
        "truncate events_seal",
        """insert into events_seal select number + 3, epoch, after + 20, upto + 20, count, sealed_at, root, previous,
                  positions, prints, hash from events_seal where number = 1""",
        """insert into events_seal select 4, epoch, 10, 12, count, sealed_at, root, hash, positions, prints, hash
             from events_seal where number = 3""",
    ],
)
def test_seals_are_append_only_and_chained(log: None, statement: str) -> None:
    with pytest.raises(DatabaseError, match=r"append-only|does not follow"), transaction.atomic():
        execute("set local session_replication_role = replica", statement)


@with_database
def test_seal_migration_is_reversible(empty: None) -> None:
    execute(*filter(str.strip, migration("0002_seals").BACKWARD.split(";")))
    assert store.query("select to_regclass('tampered.events_seal')")[0][0] is None
    execute(*(sql.read(name) for name in migration("0002_seals").FORWARD))
    write(ADA)
    assert seals.seal() == 1


# -- files: no database ---------------------------------------------------------------------------------------------


@pytest.fixture
def files(kept: Path, tmp_path: Path) -> tuple[Path, Path]:
    events = tmp_path / "events.jsonl.gz"
    call_command("seal_events", events=events, json=True, stdout=StringIO())
    return events, kept


def lines_of(file: Path) -> list[dict[str, Any]]:
    with export.open_file(file, "rb") as opened:
        return [json.loads(line) for line in opened]


def rewritten(file: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    lines = lines_of(file)
    change(lines)
    with gzip.open(file, "wt") as opened:
        opened.writelines(json.dumps(line) + "\n" for line in lines)
    return file


@with_database
def test_exported_files_pass_verification_without_a_database(files: tuple[Path, Path]) -> None:
    connection.close()
    report = verify.verify_files(*files)
    assert (report.ok, report.events, report.seals, report.unsealed) == (True, 11, 4, 0)


@with_database
@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda lines: lines[2].update(data="{}"), (3, ADA, 2, "chain")),
        (lambda lines: lines[2].update(reason=None), (3, ADA, 2, "chain")),
        (lambda lines: lines.pop(5), (6, ADA, 3, "version")),
        (lambda lines: lines.pop(), (12, None, None, "seal")),
        (lambda lines: lines.insert(6, lines[5] | {"position": 7}), (7, ADA, 3, "version")),
        (lambda lines: lines.insert(3, lines.pop(2)), (3, ADA, 2, "version")),
    ],
    ids=["data", "reason", "removed", "the last removed", "inserted", "two swapped"],
)
def test_changed_file_is_reported_without_a_database(
    files: tuple[Path, Path], change: Callable[[list[dict[str, Any]]], Any], first: Location
) -> None:
    events, kept = files
    report = verify.verify_files(rewritten(events, change), kept)
    assert locations(report)[0] == first


@with_database
def test_wrong_root_is_reported_although_all_prints_fit(files: tuple[Path, Path]) -> None:
    events, kept = files
    *others, last = export.read_lines(kept, Seal)
    wrong = msgspec.structs.replace(last, root=sha(last.root))
    wrong = msgspec.structs.replace(wrong, hash=wrong.computed_hash())
    kept.write_bytes(b"".join(map(export.line, [*others, wrong])))
    report = verify.verify_files(events, kept)
    assert [found.message for found in report.findings()] == ["the 2 events do not have the root of seal 4"]


@with_database
def test_invalid_line_is_reported_with_its_number(files: tuple[Path, Path]) -> None:
    events, kept = files
    with pytest.raises(errors.InvalidEvent, match="line 3"):
        verify.verify_files(rewritten(events, lambda lines: lines[2].pop("hash")), kept)


@with_database
def test_independent_program_can_check_the_files_by_the_documentation(files: tuple[Path, Path]) -> None:
    """The test follows docs/integrity.md literally, without any code of this project."""
    events, kept = (lines_of(file) for file in files)
    before: dict[str, bytes] = {}
    leaves: dict[int, bytes] = {}
    for e in events:
        parts = [
            f"{len(e['stream'])}:{e['stream']}{len(e['type'])}:{e['type']}{e['schema_version']}",
            e["event_id"],
            f"{len(e['actor'])}:{e['actor']}"
            + (f"{len(e['reason'])}:{e['reason']}" if e["reason"] is not None else "-"),
            e["correlation_id"] or "-",
            e["causation_id"] or "-",
            f"{len(e['metadata'])}:{e['metadata']}{e['data']}",
        ]
        instant = struct.pack(">q", e["recorded_at"] - 946684800000000)
        digest = sha(instant + ":".join(parts).encode())
        link = sha(before[e["stream"]] + digest) if e["stream"] in before else digest
        assert link == base64.b64decode(e["hash"])
        before[e["stream"]] = link
        position, version = struct.pack(">q", e["position"]), struct.pack(">q", e["version"])
        leaves[e["position"]] = sha(b"\0" + position + e["stream"].encode() + version + link)
    previous = bytes(32)
    for s in kept:
        root = merkle_root([leaves[p] for p in sorted(leaves) if s["after"] < p <= s["upto"]])
        numbers = struct.pack(">qqqq", s["after"], s["upto"], s["count"], s["sealed_at"])
        hints = sha(s["positions"].encode()) + sha(base64.b64decode(s["prints"]))
        epoch = bytes.fromhex(s["epoch"].replace("-", ""))
        previous = sha(b"\2" + struct.pack(">q", s["number"]) + epoch + numbers + root + previous + hints)
        assert previous == base64.b64decode(s["hash"])


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def merkle_root(leaves: list[bytes]) -> bytes:
    """The Merkle root as RFC 6962 §2.1 defines it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha(b"")
    k = reduce(lambda k, _: k * 2 if k * 2 < len(leaves) else k, range(64), 1)
    return sha(b"\1" + merkle_root(leaves[:k]) + merkle_root(leaves[k:]))


# -- proofs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [range(1, 66), range(66, 131)], ids=["1-65", "66-130"])
def test_audit_paths_prove_exactly_their_own_leaf(sizes: range) -> None:
    for size in sizes:
        leaves = [merkle.leaf_hash(str(number).encode()) for number in range(size)]
        root = merkle.Tree(leaves).root()
        assert root == merkle_root(leaves)
        for index in range(size):
            path = merkle.path(leaves, index)
            assert merkle.root_of_path(leaves[index], index, size, path) == root
            assert merkle.root_of_path(sha(leaves[index]), index, size, path) != root
            assert size == 1 or merkle.root_of_path(leaves[index], (index + 1) % size, size, path) != root
            assert merkle.root_of_path(leaves[index], index, size, [*path, root]) != root
            assert not path or merkle.root_of_path(leaves[index], index, size, path[:-1]) != root
            for number in range(len(path)):
                altered = [*path[:number], sha(path[number]), *path[number + 1 :]]
                assert merkle.root_of_path(leaves[index], index, size, altered) != root


def test_path_of_a_missing_leaf_raises_index_error() -> None:
    leaves = [bytes([number]) * 32 for number in range(3)]
    for index in (-1, 3):
        with pytest.raises(IndexError):
            merkle.path(leaves, index)
        assert merkle.root_of_path(leaves[0], index, 3, []) is None


@with_database
def test_one_event_is_proved_without_the_others(log: None) -> None:
    for position in (1, 2, 3, 4, 5, 6, 8, 9, 10):
        proved = msgspec.json.decode(export.line(proofs.prove(position)), type=proofs.Proof)
        sealed = next(seal for seal in every() if seal.number == proved.seal)
        assert proofs.check(proved, sealed)
        event, change = proved.event, msgspec.structs.replace
        for lie in (
            change(proved, event=change(event, data="{}")),
            change(proved, event=change(event, position=event.position + 1)),
            change(proved, event=change(event, version=event.version + 1)),
            change(proved, event=change(event, hash=sha(event.hash))),
            change(proved, before=sha(b"")),
            change(proved, index=proved.index + 1),
            change(proved, path=[*proved.path, sha(b"")]),
            change(proved, seal=proved.seal + 1),
        ):
            assert not proofs.check(lie, sealed)
        assert not proofs.check(proved, change(sealed, root=sha(b"")))


@with_database
def test_unsealed_or_missing_event_cannot_be_proved(log: None) -> None:
    with pytest.raises(errors.InvalidEvent, match="not sealed"):
        proofs.prove(11)
    with pytest.raises(errors.InvalidEvent, match="no event"):
        proofs.prove(7)


@given(st.sets(st.integers(1, 60)))
def test_seal_returns_the_rank_of_each_position(positions: set[int]) -> None:
    built = seals.SealBuilder()
    for position in sorted(positions):
        built.add(position, stored_rows.leaf(position, "user-x", 1, b""))
    sealed = Seal(1, "", 0, 60, len(positions), 0, b"", b"", built.positions, built.prints)
    assert list(sealed.every_position()) == sorted(positions)
    for position in range(62):
        rank = sealed.rank(position)
        assert rank == (sorted(positions).index(position) if position in positions else None)
        if rank is not None:
            assert sealed.print_at(rank) == stored_rows.leaf(position, "user-x", 1, b"")[: seals.PRINT]


@with_database
def test_python_and_database_compute_the_same_digest(empty: None) -> None:
    """The texts include characters of several bytes, empty text, and digits and colons next to the lengths."""
    odd = ["", "é", "𝄞:1", "1:2", "-", "a\nb\\"]
    for number, text in enumerate(odd):
        with context.acting(actor=f"staff:{text}", reason=text or None, causation_id=new_id()):
            store.append(f"user-{number % 2}{text[:1]}", [SettingChanged(value=[text, text * 2])])
    report = verify.verify()
    assert (report.ok, report.events) == (True, len(odd))


# -- commands -------------------------------------------------------------------------------------------------------


def run(name: str, *arguments: Any) -> str:
    output = StringIO()
    call_command(name, *map(str, arguments), stdout=output)
    return output.getvalue()


@with_database
def test_command_reports_success_and_unsealed_events(log: None) -> None:
    output = run("verify_events")
    assert output.startswith("OK: ")
    assert "2 events are not sealed" in output
    assert json.loads(run("verify_events", "--json"))["ok"] is True
    assert run("verify_events", "--stream", ADA).startswith("OK: ")
    assert run("verify_events", "--from", 5, "--to", 8).startswith("OK: ")


@with_database
def test_command_fails_and_names_the_first_altered_row(log: None) -> None:
    tamper("update events_event set actor = 'staff:2' where position in (3, 8, 11)")
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_events", stdout=output)
    assert ended.value.code == 1
    lines = output.getvalue().splitlines()
    assert lines[0].startswith("FAILED: position 3, user-ada version 2, chain: altered")
    assert lines[1] == "and 2 more:"
    output = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_events", "--json", stdout=output)
    found = json.loads(output.getvalue())
    assert (found["ok"], found["total"], [f["position"] for f in found["findings"]]) == (False, 3, [3, 8, 11])


@with_database
def test_commands_export_and_check_files_and_proofs(files: tuple[Path, Path], tmp_path: Path) -> None:
    events, kept = files
    assert run("verify_events", "--events", events, "--seals", kept).startswith("OK: ")
    assert run("verify_events", "--seals", kept).startswith("OK: ")
    proof = tmp_path / "proof.json"
    proof.write_text(run("seal_events", "--proof", 6))
    assert run("verify_events", "--proof", proof, "--seals", kept).startswith("OK: position 6, user-ada version 3")
    proof.write_text(proof.read_text().replace("staff:1", "staff:2"))
    with pytest.raises(SystemExit):
        run("verify_events", "--proof", proof, "--seals", kept)


@with_database
@pytest.mark.parametrize(
    "arguments",
    [
        ["--events", "x"],
        ["--proof", "x"],
        ["--stream", ADA, "--from", 2],
        ["--from", 3, "--to", 2],
        ["--stream", "user-nobody"],
        ["--seals", "/nowhere/seals.jsonl"],
    ],
)
def test_command_rejects_invalid_option_combinations(log: None, arguments: list[Any]) -> None:
    with pytest.raises(CommandError):
        run("verify_events", *arguments)


@with_database
def test_seal_events_prints_the_last_hash(log: None) -> None:
    output = json.loads(run("seal_events", "--json"))
    assert (output["made"], output["seals"], output["upto"]) == (1, 4, 12)
    assert output["hash"] == every()[-1].hash.hex()
    assert output["hash"] in run("seal_events")
