"""Rebuilding a read table beside the live one keeps rows and catalogue, and loses nothing."""

# ruff: noqa: B023 - `history` calls each action in the iteration that creates it
from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import random
import struct
import sys
import termios
import threading
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from backoffice.models import User
from backoffice.sections.conflicts import inbox
from backoffice.sections.forms import domain as forms
from backoffice.sections.site_settings import domain as settings
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from backoffice.sections.users import projection
from events import commands, errors, head, notifications, snapshots, store
from events.rebuild import builder as rebuild
from events.rebuild import read_tables
from events.rebuild.read_tables import RebuildProgress
from events.types import new_id
from tests import factories
from tests.events import effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]

TABLES = ("users", "forms", "submissions", "settings")
ALERTING = ("metrics_alert", "metrics_alert_episode", "metrics_rule", "metrics_silence")


# -- an isolated log --------------------------------------------------------------------------------------------------
# Other tests share one log and empty the read tables in between. Here a table must correspond to its log.


def history(rng: random.Random, count: int = 60) -> None:
    """Create records of every kind, in every state."""
    people = [factories.user(first_name=f"P{n}") for n in range(4)]
    papers = [factories.form(rng.choice(people), fields=[{"id": "a", "type": "text"}]) for _ in range(3)]
    for number in range(count):
        person, paper, name = rng.choice(people), rng.choice(papers), f"limits.n{rng.randint(1, 4)}"
        action = rng.choice(
            [
                lambda: people.append(factories.user(plan=rng.choice(["free", "premium"]))),
                lambda: factories.update(person, first_name=f"Ann {number}", plan=rng.choice(["free", "enterprise"])),
                lambda: stale(person, first_name=f"Stale {number}"),
                lambda: send(users.DeleteUser(), person),
                lambda: send(users.RestoreUser(), person),
                lambda: papers.append(factories.form(rng.choice(people))),
                lambda: send(forms.UpdateForm(title=f"T{number}", fields=[{"id": "b", "type": "email"}]), paper),
                lambda: send(forms.DeleteForm(), paper),
                lambda: factories.submission(paper, a=f"é{number}"),
                lambda: send(submissions.DeleteSubmission(), factories.submission(paper)),
                lambda: send(settings.SetSetting(value={"n": number}), name),
                lambda: send(settings.RemoveSetting(), name),
            ]
        )
        with contextlib.suppress(
            errors.Rejected, errors.StreamNotFound, errors.Conflict
        ):  # a deleted user cannot be changed
            action()


def stale(person: Any, **fields: Any) -> None:
    """Send an edit based on the first version, which is merged or filed in the inbox."""
    command = factories.command(users.UpdateUser(**fields), person, base_version=1)
    try:
        commands.dispatch(command)
    except errors.Conflict as conflict:
        inbox.file(command, conflict)


def send(data: Any, key: Any) -> commands.Result:
    return commands.dispatch(factories.command(data, key))


def rows(table: str) -> list[tuple[Any, ...]]:
    return store.query(f"select to_jsonb(t)::text from (select * from {table}) t order by 1")


def oid(table: str) -> int:
    return store.query("select %s::regclass::oid::bigint", (table,))[0][0]


CATALOGUE = {
    "columns": """select attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid), attidentity
                    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
                   where attrelid = %s::regclass and attnum > 0 order by attnum""",
    "constraints": """select conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid), convalidated
                        from pg_constraint where %s::regclass in (conrelid, confrelid) order by 1, 2""",
    "indexes": """select c.relname, pg_get_indexdef(indexrelid), indisunique, indisprimary, indisvalid
                    from pg_index join pg_class c on c.oid = indexrelid where indrelid = %s::regclass order by 1""",
    "rights": """select relacl::text, pg_get_userbyid(relowner), relpersistence::text
                   from pg_class where oid = %s::regclass""",
}


def catalogue(table: str) -> dict[str, list[Any]]:
    return {name: store.query(query, (table,)) for name, query in CATALOGUE.items()}


def assert_matches_the_log(table: str) -> None:
    """Check that each row of the read table equals the state folded from the log."""
    category = read_tables._tables[table].category
    streams = [
        row[0]
        for row in store.query("select stream from events_stream where split_part(stream, '-', 1) = %s", (category,))
    ]
    shown = {str(row["key" if table == "settings" else "id"]): row for row in (json.loads(r[0]) for r in rows(table))}
    for stream in streams:
        folded, version = snapshots.state(stream)
        row = shown.pop(stream.partition("-")[2], None)
        if table == "settings" and not folded.exists:
            assert row is None
            continue
        assert row is not None, stream
        assert row["version"] == version
        for field in folded.__struct_fields__:
            same(field, row[field], getattr(folded, field))
    assert shown == {}


def same(field: str, stored: Any, folded: Any) -> None:
    folded = msgspec.to_builtins(folded)
    if field.endswith(("_at", "_login")) and stored is not None:
        stored, folded = (msgspec.convert(value, type=users.datetime) for value in (stored, folded))
    assert stored == folded, field


def no_schema_left() -> bool:
    return not store.query("select 1 from pg_namespace where nspname like 'rebuild%%'")


# -- the result ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 4000])
def test_rebuild_reproduces_rows_and_catalogue_of_every_table(batch: int) -> None:
    history(random.Random(batch))
    factories.update(person := factories.user(), first_name="Theirs")
    stale(person, first_name="Mine")
    store.execute("grant select on users to public")
    assert rows("conflicts")
    for table in (*TABLES, "conflicts"):
        before = rows(table), catalogue(table), oid(table)
        done = rebuild.rebuild(table, batch=batch)
        assert (done.phase, done.running, done.error) == ("done", False, None)
        assert (rows(table), catalogue(table)) == before[:2]
        assert oid(table) != before[2]
    for table in TABLES:
        assert_matches_the_log(table)
    assert no_schema_left()


def test_rebuild_repairs_a_damaged_table() -> None:
    person = factories.user(first_name="Ada")
    factories.update(person, last_name="Lovelace")
    other = factories.user()
    before = rows("users")
    store.execute("update users set first_name = 'Eve', version = 9 where id = %s", (person,))
    store.execute("delete from users where id = %s", (other,))
    rebuild.rebuild("users")
    assert rows("users") == before


def test_rebuild_upcasts_events_of_an_old_schema() -> None:
    """The rebuild upcasts events like every other reader of the log."""
    person = factories.user()
    known = users.UserUpdated
    from events import types

    name = types.event_type_of(known)
    newer = msgspec.structs.replace(name, schema_version=2, upcasters={1: lambda data: {"first_name": "Upcast"}})
    factories.update(person, first_name="Ada")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(types._events, name.name, newer)
        patch.setitem(types._event_names, known, newer)
        rebuild.rebuild("users")
    assert User.objects.get(pk=person).first_name == "Upcast"


def test_rebuild_has_no_side_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.user()
    notified: list[int] = []
    monkeypatch.setattr(notifications, "notify", notified.append)
    before = store.query("select count(*), max(position) from events_event")
    checkpoints = store.query("select * from events_checkpoint order by name")
    rebuild.rebuild("users")
    assert notified == []
    assert store.query("select count(*), max(position) from events_event") == before
    assert store.query("select * from events_checkpoint order by name") == checkpoints


@pytest.mark.parametrize(
    "effect",
    [
        lambda: store.query("update forms set title = 'changed' returning 1"),
        lambda: store.append("user-x", [users.UserRestored()]),
        lambda: User.objects.filter(first_name="Ada").update(first_name="Eve") and store.query("select 1 from staff"),
    ],
)
def test_projection_that_uses_another_table_fails_without_effect(effect: Any) -> None:
    factories.form(factories.user(first_name="Ada"))
    before = {table: rows(table) for table in TABLES}, store.query("select count(*) from events_event")

    def uses_another_table(events: Any) -> None:
        projection.users(events)
        effect()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            read_tables._tables,
            "users",
            read_tables.ReadTable(name="users", category="user", project=uses_another_table),
        )
        with pytest.raises(Exception, match="does not exist"):
            rebuild.rebuild("users")
    assert ({table: rows(table) for table in TABLES}, store.query("select count(*) from events_event")) == before
    assert "does not exist" in next(one for one in read_tables.progress() if one.name == "users").error


def test_views_on_the_table_follow_the_swap() -> None:
    history(random.Random(1), 20)
    store.execute("create view living as select * from users where deleted_at is null")
    store.execute("create materialized view by_plan as select plan, count(*) as n from living group by plan")
    store.execute("create unique index by_plan_key on by_plan (plan)")
    store.execute("create view paying as select * from by_plan where plan <> 'free'")
    before = rows("living"), rows("by_plan"), rows("paying"), catalogue("by_plan")["indexes"]
    rebuild.rebuild("users")
    assert (rows("living"), rows("by_plan"), rows("paying"), catalogue("by_plan")["indexes"]) == before
    factories.user(plan="premium")
    store.execute("refresh materialized view concurrently by_plan")
    assert rows("by_plan") != before[1]
    assert rows("living") == rows("users where deleted_at is null")
    assert no_schema_left()


def test_rebuild_refuses_objects_it_cannot_copy() -> None:
    store.execute(
        "create trigger noisy after insert on users for each row execute function suppress_redundant_updates_trigger()"
    )
    with pytest.raises(errors.RebuildRefused, match="the trigger noisy"):
        rebuild.rebuild("users")
    with pytest.raises(errors.RebuildRefused, match="No read table"):
        rebuild.rebuild("staff")


def test_foreign_keys_are_enforced_after_a_rebuild() -> None:
    paper = factories.form()
    for table in ("users", "submissions", "forms"):
        rebuild.rebuild(table)
    factories.submission(paper)
    with pytest.raises(errors.Rejected, match="no such user"):
        factories.form(new_id())
    with pytest.raises(errors.Rejected, match="no such form"):
        factories.submission(new_id())
    with pytest.raises(errors.Rejected, match="email"):
        factories.user(email=User.objects.values_list("email", flat=True)[0])


# -- concurrent use -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_concurrent_writers_lose_nothing(table: str) -> None:
    seed = TABLES.index(table)
    history(random.Random(seed), 30)
    stop, wrote = threading.Event(), threading.Semaphore(0)

    def work(rng: random.Random) -> int:
        done = 0
        while not stop.is_set():
            history(rng, 3)
            done += 1
            wrote.release()
        return done

    writers = [factories.Thread(lambda n=n: work(random.Random(100 * seed + n))) for n in range(3)]

    def between_writes(now: RebuildProgress) -> None:
        assert wrote.acquire(timeout=30)  # a writer has written since the last step

    try:
        assert wrote.acquire(timeout=30)
        done = rebuild.rebuild(table, batch=40, report=between_writes, patience=60)
        assert wrote.acquire(timeout=30)
    finally:
        stop.set()
    assert sum(writer.result() for writer in writers) > 3
    assert done.phase == "done"
    for each in TABLES:
        assert_matches_the_log(each)
    assert no_schema_left()


def test_swap_gives_up_behind_a_long_transaction() -> None:
    person = factories.user()
    before, old, locked, release = rows("users"), oid("users"), threading.Event(), threading.Event()

    def long() -> None:
        with transaction.atomic():
            store.query("select 1 from users")
            locked.set()
            assert release.wait(60)

    reader = factories.Thread(long)
    assert locked.wait(20)
    with pytest.raises(errors.RebuildRefused, match="could not be locked"):
        rebuild.rebuild("users", patience=0)
    assert (rows("users"), oid("users")) == (before, old)
    factories.update(person, first_name="Grace")  # a writer is not blocked
    release.set()
    reader.result()
    seen: list[RebuildProgress] = []
    rebuild.rebuild("users", report=seen.append)
    assert "building" not in {step.phase for step in seen if step.position == 0}
    assert oid("users") != old
    assert User.objects.get(pk=person).first_name == "Grace"
    assert_matches_the_log("users")


def test_open_append_to_another_stream_does_not_delay_the_swap() -> None:
    """The head stops at an open append to another stream; the swap reads beyond it."""
    person = factories.user()
    locked, release = threading.Event(), threading.Event()

    def long() -> None:
        with transaction.atomic():
            store.append("setting-slow", [settings.SettingChanged(value=1)])
            locked.set()
            assert release.wait(60)

    writer = factories.Thread(long)
    assert locked.wait(20)
    factories.update(person, first_name="Behind")
    rebuild.rebuild("users")
    assert User.objects.get(pk=person).first_name == "Behind"
    release.set()
    writer.result()


def test_unique_value_handed_over_in_one_transaction_is_rebuilt() -> None:
    """In the log, the event that takes an address may come before the one that releases it."""
    giver, taker = factories.user(email="x@example.org"), factories.user(email="t@example.org")
    handed: list[commands.Result] = []

    def move_address(now: RebuildProgress) -> None:
        if now.phase == "indexing" and now.position and not handed:
            handed.extend(
                commands.dispatch_many(
                    [
                        factories.command(users.UpdateUser(first_name="T"), taker),
                        factories.command(users.UpdateUser(email="y@example.org"), giver),
                        factories.command(users.UpdateUser(email="x@example.org"), taker),
                    ]
                )
            )

    before = catalogue("users")
    rebuild.rebuild("users", report=move_address, batch=1)
    assert handed
    assert store.query("select stream from events_event where type = 'user.updated' order by position") == [
        (f"user-{taker}",),
        (f"user-{taker}",),
        (f"user-{giver}",),
    ]
    assert catalogue("users") == before
    assert_matches_the_log("users")


# -- interruption ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["building", "indexing", "swapped"])
@pytest.mark.parametrize("fresh", [False, True])
def test_interrupted_rebuild_continues_or_starts_over(phase: str, fresh: bool) -> None:
    history(random.Random(3), 40)
    before, old, was = rows("users"), oid("users"), catalogue("users")

    class Interrupted(BaseException):
        pass

    def interrupt(now: RebuildProgress) -> None:
        if now.phase == phase:
            raise Interrupted

    with pytest.raises(Interrupted):
        rebuild.rebuild("users", report=interrupt, batch=10)
    assert rows("users") == before
    if phase != "swapped":
        assert (oid("users"), catalogue("users")) == (old, was)
    factories.user(first_name="Later")
    seen: list[RebuildProgress] = []
    rebuild.rebuild("users", fresh=fresh, report=seen.append, batch=10)
    if phase == "building":
        assert (seen[0].events <= 10) == fresh
    assert catalogue("users") == was
    assert_matches_the_log("users")
    assert no_schema_left()


KILLED = """
import sys, django
django.setup()
from events.rebuild import builder
builder.rebuild("users", batch=5, report=lambda now: print(now.phase, now.position, flush=True))
"""


@pytest.mark.services
def test_killed_rebuild_continues_where_it_stopped() -> None:
    history(random.Random(5), 80)
    before, old = rows("users"), oid("users")
    process = effects.start_process(KILLED)
    output = [process.stdout.readline() for _ in range(4)]
    process.kill()
    process.communicate()
    assert output[-1].startswith("building")
    assert (rows("users"), oid("users")) == (before, old)
    assert backend_is_terminated()
    seen: list[RebuildProgress] = []
    rebuild.rebuild("users", batch=5, report=seen.append)
    assert seen[0].position > int(output[-1].split()[1])
    assert rows("users") == before
    assert_matches_the_log("users")


def backend_is_terminated() -> bool:
    """Terminate the session of the killed client, which PostgreSQL would notice only when it writes to the client.

    Returns whether the rebuild is no longer running.
    """
    store.query(
        """select pg_terminate_backend(a.pid, 10000) from events_rebuild r
             join pg_stat_activity a on a.pid = r.pid and a.backend_start = r.backend_start"""
    )
    return not read_tables.progress()[-1].running


def test_rebuild_starts_over_after_a_schema_change() -> None:
    history(random.Random(6), 20)

    def interrupt(now: RebuildProgress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        rebuild.rebuild("users", report=interrupt, batch=5)
    store.execute("alter table users add column nickname text not null default 'none'")
    seen: list[RebuildProgress] = []
    rebuild.rebuild("users", report=seen.append, batch=5)
    assert seen[0].events <= 5
    assert {row[0] for row in store.query("select nickname from users")} == {"none"}


def test_only_one_builder_runs_and_a_hanging_one_can_be_replaced() -> None:
    history(random.Random(7), 20)
    begun, go_on = threading.Event(), threading.Event()

    def hang(now: RebuildProgress) -> None:
        begun.set()
        assert go_on.wait(60)

    first = factories.Thread(lambda: rebuild.rebuild("users", report=hang, batch=5))
    assert begun.wait(20)
    with pytest.raises(errors.RebuildRefused, match="is being rebuilt by"):
        rebuild.rebuild("users")
    assert next(one for one in read_tables.progress() if one.name == "users").running
    rebuild.rebuild("users", take_over=True)
    swapped = oid("users")
    go_on.set()
    with pytest.raises(errors.LeaseLost):
        first.result()
    assert oid("users") == swapped
    assert_matches_the_log("users")


# -- for the operator -----------------------------------------------------------------------------------------------


def test_progress_lists_every_read_table_and_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """The position also passes ranges of the log without events of the category."""
    monkeypatch.setattr(rebuild, "STRETCH", 2)
    head_before = head.safe()
    for _ in range(6):
        store.append(f"setting-{new_id()}", [settings.SettingChanged(value=1)])
    empty = range(head_before + 2, head.safe())
    history(random.Random(8), 40)
    assert {one.name: one.phase for one in read_tables.progress()} == dict.fromkeys(
        [*TABLES, "conflicts", "counters", *ALERTING], "none"
    )
    seen: list[RebuildProgress] = []
    rebuild.rebuild("users", batch=3, report=seen.append)
    building = [one for one in seen if one.phase == "building"]
    assert all(one.running and one.owner for one in building)
    assert all(one.seconds_left is not None and one.target >= one.position for one in building)
    assert [one.position for one in building] == sorted({one.position for one in building})
    assert any(one.position in empty for one in building), "a stretch without a user"
    assert {one.target for one in building} == {head.safe()}, "and the target is the head, not the end of the range"
    users_now = next(one for one in read_tables.progress() if one.name == "users")
    assert (users_now.phase, users_now.running, users_now.owner) == ("done", False, None)
    assert users_now.finished_at is not None
    assert users_now.events == store.query("select count(*) from events_event where stream like 'user-%%'")[0][0]


def test_command_reports_as_text_or_json() -> None:
    factories.form()
    text, lines_of_json = io.StringIO(), io.StringIO()
    call_command("rebuild_projection", "users", "forms", stdout=text)
    assert text.getvalue().startswith("users: rebuilt from 1 events")
    call_command("rebuild_projection", "users", "forms", "--json", stdout=lines_of_json)
    lines = [json.loads(line) for line in lines_of_json.getvalue().splitlines()]
    assert [(line["name"], line["phase"], line["events"]) for line in lines] == [
        ("users", "done", 1),
        ("forms", "done", 1),
    ]
    with pytest.raises(CommandError, match="No read table is called 'nothing'"):
        call_command("rebuild_projection", "nothing")


def test_command_shows_a_progress_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    history(random.Random(9), 10)
    outer, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with os.fdopen(inner, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        call_command("rebuild_projection", "users", stdout=io.StringIO())
    shown = ""
    with contextlib.suppress(OSError):  # EIO: the other end is closed and everything was read
        while read := os.read(outer, 65536):
            shown += read.decode()
    os.close(outer)
    assert "users" in shown
    assert "100%" in shown
    assert "events" in shown
