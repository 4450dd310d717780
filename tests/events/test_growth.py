"""Costs that do not grow with a stream or the log: counted in rows read and statements, never in time."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction, utils

from backoffice.sections.site_settings import domain as site_settings
from backoffice.sections.users import domain as users
from backoffice.sections.users.domain import UserUpdated
from events import commands, context, head, search, snapshot_upkeep, snapshots, store
from events.archive import reader as archives
from events.archive import writer as archiving
from events.integrity import seals
from events.types import new_id
from tests import factories
from tests.costs import rows_read, rows_read_of, statements
from tests.events import effects
from tests.events.isolated_log import execute, own_log

SPACING = snapshot_upkeep.SPACING


def versions(stream: str) -> list[int]:
    found = store.query("select version from events_snapshot where stream = %s order by version", (stream,))
    return [row[0] for row in found]


def without_plans_of_small_tables() -> None:
    """Have indexes used in small tables too: the planner reads those whole."""
    execute("set local enable_seqscan = off", "analyze events_event", "analyze events_snapshot")


# -- writes -----------------------------------------------------------------------------------------------------------


def change(key: object, numbers: range) -> None:
    commands.dispatch_many([factories.command(users.UpdateUser(first_name=f"N{n}"), key) for n in numbers])


@pytest.mark.django_db
def test_batches_take_snapshots_of_long_streams() -> None:
    key = factories.user()
    for start in range(0, 120, 8):
        change(key, range(start, start + 8))
    assert versions(f"user-{key}") == [57, 113]
    assert snapshots.state(f"user-{key}")[0].first_name == "N119"


@pytest.mark.django_db
def test_cost_of_a_write_does_not_grow_with_the_batches_before() -> None:
    key, other = factories.user(), factories.user()
    for start in range(0, 80, 8):
        change(key, range(start, start + 8))
    for start in range(0, 640, 8):
        change(other, range(start, start + 8))
    without_plans_of_small_tables()
    single = [rows_read(factories.update, one, first_name="last") for one in (key, other)]
    batch = [rows_read(change, one, range(8)) for one in (key, other)]
    assert max(*single, *batch) < 200, (single, batch)


@pytest.mark.django_db
def test_settings_take_snapshots() -> None:
    for number in range(60):
        commands.dispatch(factories.command(site_settings.SetSetting(value=number), "growth"))
    assert versions("setting-growth") == [50]


@pytest.mark.django_db
def test_long_stream_without_a_snapshot_gets_one_at_its_next_write() -> None:
    key = factories.user()
    store.append(f"user-{key}", [UserUpdated(first_name=f"N{number}") for number in range(120)])
    factories.update(key, last_name="Next")
    assert versions(f"user-{key}") == [122]
    factories.update(key, last_name="Later")
    assert versions(f"user-{key}") == [122]


@pytest.mark.django_db
def test_batch_loads_all_its_streams_with_one_statement() -> None:
    def cost(size: int) -> int:
        keys = [factories.user() for _ in range(size)]
        batch = [factories.command(users.UpdateUser(plan="premium"), key) for key in keys]
        with context.acting():
            return statements(commands.dispatch_many, batch)

    assert cost(40) == cost(10)


# -- old versions -----------------------------------------------------------------------------------------------------


def grown(count: int) -> str:
    """A user with that many events, appended without a command and so without a snapshot."""
    stream = f"user-{factories.user()}"
    store.append(stream, [UserUpdated(first_name=f"N{number}") for number in range(2, count + 1)])
    return stream


@pytest.mark.django_db
def test_old_version_starts_from_the_nearest_snapshot() -> None:
    stream = grown(5 * SPACING + 7)
    expected = {version: snapshots.state(stream, version) for version in (3, 1400, 2111, 5 * SPACING)}
    assert snapshot_upkeep.refresh() >= 6
    kept = [*range(SPACING, 5 * SPACING + 1, SPACING), 5 * SPACING + 7]
    assert versions(stream) == kept
    snapshot_upkeep.prune()
    assert versions(stream) == kept, "each is the first of its five hundred versions"
    assert snapshot_upkeep.refresh() == 0
    without_plans_of_small_tables()
    for version, state in expected.items():
        assert snapshots.state(stream, version) == state
        assert rows_read(snapshots.state, stream, version) < SPACING + 50


@pytest.mark.django_db
def test_pruning_keeps_one_snapshot_in_five_hundred_versions() -> None:
    stream = grown(2 * SPACING + 300)
    for version in range(50, 2 * SPACING + 301, 50):
        snapshots.save(users.AGGREGATE, stream, *reversed(snapshots.state(stream, version)))
    snapshot_upkeep.prune(keep=2)
    assert versions(stream) == [500, 1000, 1250, 1300]


# A setting with an event for each hour; recorded up to nine minutes earlier, as by transactions that waited for a lock.
HOURLY = """
with made as (
    insert into events_event (stream, version, type, data, event_id, recorded_at, actor, hash)
    select 'setting-hourly', n, 'setting.changed', jsonb_build_object('value', n), gen_random_uuid(),
           %s::timestamptz + n * interval '1 hour' - (n * 7 %% 10) * interval '1 minute', 'system', '\\x00'
      from generate_series(1, %s) n returning version)
insert into events_stream (stream, version, hash) select 'setting-hourly', max(version), '\\x00' from made
"""


@pytest.mark.django_db
def test_state_at_an_instant_starts_from_the_nearest_snapshot() -> None:
    stream, count, start = "setting-hourly", 4 * SPACING, datetime.fromisoformat("2020-01-01T00:00Z")
    with connection.cursor() as cursor:
        cursor.execute(HOURLY, [start, count])
    instants = [event.recorded_at for event in store.read_stream(stream)]
    assert snapshot_upkeep.refresh() >= 4
    without_plans_of_small_tables()
    rng = random.Random(1)
    for _ in range(40):
        at = start + timedelta(minutes=rng.randint(0, 60 * count + 60))
        late = next((number for number, instant in enumerate(instants) if instant > at), count)
        state, version = snapshots.state(stream, at=at)
        assert (version, state.value if late else None) == (late, late or None)
        assert rows_read(snapshots.state, stream, at=at) < 2 * SPACING + 50


@pytest.mark.django_db
def test_snapshot_within_the_slack_before_an_instant_is_not_used() -> None:
    """Its transaction may have begun before that of an event with a lower version."""
    key = factories.user()
    for number in range(60):
        factories.update(key, first_name=f"N{number}")
    (event,) = store.read_stream(f"user-{key}", 50, upto=51)
    assert snapshots.load(users.AGGREGATE, f"user-{key}", at=event.recorded_at) == (None, 0)
    later = event.recorded_at + search.SLACK
    assert snapshots.load(users.AGGREGATE, f"user-{key}", at=later)[1] == 50


# -- the log ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_rare_types_are_searched_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    start = head.safe()
    effects.grow(30)
    placed = store.append("setting-rare", [site_settings.SettingChanged(value=1)]).position
    effects.grow(30)
    monkeypatch.setattr(search, "REACH", 20)
    found, after, steps = [], start, 0
    while after < head.safe():
        stretch = search.read_stretch(after, 10, upto=head.safe(), types=["setting.changed"])
        found += [event.position for event in stretch.events]
        assert after < stretch.reached <= after + 20
        after, steps = stretch.reached, steps + 1
    assert (found, steps) == ([placed], -(-(after - start) // 20))
    assert rows_read(search.read_stretch, start, 10, upto=start + 60, types=["user.erased"]) <= 40
    with effects.effects():
        effects.catch_up(effects.subscription(start=start, batch=7, types=("setting.changed",)))
        assert effects.effect() == [placed]


@pytest.mark.django_db(transaction=True)
def test_first_events_of_a_request_are_read_without_the_others() -> None:
    """In a log of its own: planning reads past the entries that earlier tests rolled back, at the ends of indexes."""

    def cost(events: int) -> int:
        correlation = uuid.uuid4()
        with transaction.atomic():
            with context.acting(correlation_id=correlation):
                store.append(f"user-{new_id()}", [UserUpdated(first_name=f"N{n}") for n in range(events)])
            without_plans_of_small_tables()
            return rows_read_of("events_event", search.events_of_request, correlation, upto=2**62, limit=20)

    with own_log(size=10_000, upto=10_000):
        assert cost(4000) <= cost(100) + 5


@pytest.mark.django_db(transaction=True)
def test_index_of_requests_is_built_again_after_an_interruption() -> None:
    build = import_module("events.migrations.0015_growth").forward
    with own_log(upto=30):
        store.append("setting-a", [site_settings.SettingChanged(value=number) for number in range(3)])
        execute(
            "drop index events_event_request",
            "create index events_event_request on only events_event "
            "(correlation_id, position) where correlation_id is not null",
        )
        first = "events_event_p000000000001"
        with pytest.raises(utils.IntegrityError):
            execute(f"create unique index concurrently {first}_request on {first} (actor)")
        assert invalid() == {"events_event_request", f"{first}_request"}
        build(None, None)
        assert invalid() == set()
        build(None, None)
        execute("select events_partition(100, 5)")
        assert store.query("select to_regclass('events_event_correlation')") == [(None,)]
        assert store.query(LACKING) == []


def invalid() -> set[str]:
    found = store.query(
        """select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
            where c.relnamespace = current_schema()::regnamespace and not i.indisvalid"""
    )
    return {row[0] for row in found}


LACKING = """
select inhrelid::regclass::text from pg_inherits p where inhparent = 'events_event'::regclass and not exists (
    select from pg_index i where i.indrelid = p.inhrelid
       and pg_get_indexdef(i.indexrelid) like '%%(correlation_id, "position")%%')
"""


# -- archiving --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(transactional_db: None, tmp_path: Path, settings: Any) -> Iterator[None]:
    settings.ARCHIVE_DIR = tmp_path / "archive"
    archives.reader.cache_clear()
    yield
    archives.reader.cache_clear()


def test_archiving_needs_no_statement_and_no_snapshot_for_a_short_stream(
    folder: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    least, names = snapshots.TAIL, ["setting-long", "setting-longer", "setting-longest"]
    monkeypatch.setattr(archiving, "EVENTS", 2 * least)

    def cost(streams: int) -> int:
        with own_log(size=streams + 60, upto=2 * streams + 120):
            keys = [factories.user(first_name="Ada") for _ in range(streams)]
            for name in names:
                store.append(name, [site_settings.SettingChanged(value=n) for n in range(least)])
            effects.grow(60)
            seals.seal()
            spent = statements(archiving.archive_next, keep_days=0)
            taken = store.query("select stream, version from events_snapshot order by stream")
            assert taken == [(name, least) for name in names]
            assert snapshots.state(f"user-{keys[0]}")[0].first_name == "Ada", "read from the file"
            assert factories.update(keys[0], last_name="Lovelace").version == 2
            assert versions(f"user-{keys[0]}") == [2], "the next write need not read the file"
        return spent

    assert cost(120) == cost(30)


def test_several_streams_are_read_from_archives_and_the_log(folder: None) -> None:
    with own_log(size=20, upto=40):
        names = [f"user-{new_id()}" for _ in range(6)]
        for number in range(24):
            store.append(names[number % 6], [UserUpdated(first_name=f"N{number}")])
        seals.seal()
        expected = store.read_streams(names)
        assert archiving.archive_next(keep_days=0) is not None
        assert store.read_streams(names) == expected
        assert snapshots.folded_many(names) == {name: snapshots.folded(name) for name in names}
