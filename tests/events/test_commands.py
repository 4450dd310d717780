"""Dispatch: one entry point, all or nothing, the same answer for a repeated command."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime

import psycopg
import pytest
from django.db import connection, transaction

from backoffice.models import Form, Setting, Submission, User
from backoffice.sections.forms import domain as forms
from backoffice.sections.site_settings import domain as settings
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, context, errors, extension, notifications, snapshot_upkeep, snapshots, store, tasks
from events.types import Command, new_id
from tests import factories
from tests.events.isolated_log import own_log

pytestmark = pytest.mark.django_db(transaction=True)


def create(**fields: object) -> Command:
    return factories.command(users.CreateUser(email=f"{new_id()}@example.org", **fields))


def events_of(key: object, category: str = "user") -> list[str]:
    return [event.type for event in store.read_stream(f"{category}-{key}")]


def test_command_stores_event_and_row_in_one_transaction() -> None:
    command = create(first_name="Ada", plan="premium")
    result = commands.dispatch(command)
    assert (result.status, result.version, [e.type for e in result.events]) == ("applied", 1, ["user.created"])
    row = User.objects.get(pk=command.key)
    assert (row.first_name, row.plan, row.version) == ("Ada", "premium", 1)
    event = store.read_stream(result.stream)[0]
    assert event.position == result.position
    assert event.causation_id == command.id
    assert row.updated_at == event.recorded_at


def test_repeated_command_returns_the_first_answer_without_effect() -> None:
    command = create()
    first = commands.dispatch(command)
    factories.update(uuid.UUID(command.key), first_name="Somebody else")
    again = commands.dispatch(command)
    assert again.status == "duplicate"
    assert (again.version, again.position, again.events) == (first.version, first.position, first.events)
    assert events_of(command.key) == ["user.created", "user.updated"]


def test_command_id_used_for_another_command_is_rejected() -> None:
    command = create()
    commands.dispatch(command)
    with pytest.raises(errors.IdempotencyKeyReused):
        commands.dispatch(factories.command(users.DeleteUser(), command.key, id=command.id))
    assert events_of(command.key) == ["user.created"]


def test_concurrent_identical_commands_have_one_effect_and_one_answer() -> None:
    command = create()
    start = threading.Barrier(4)

    def race() -> commands.Result:
        start.wait()
        return commands.dispatch(command)

    results = [thread.result() for thread in [factories.Thread(race) for _ in range(4)]]
    assert sorted(result.status for result in results) == ["applied", "duplicate", "duplicate", "duplicate"]
    assert len({(result.version, result.position) for result in results}) == 1
    assert events_of(command.key) == ["user.created"]


def test_concurrent_commands_with_one_id_for_two_records_have_one_effect() -> None:
    shared, start = new_id(), threading.Barrier(2)
    wanted = [factories.command(users.CreateUser(email=f"{new_id()}@example.org"), id=shared) for _ in range(2)]

    def race(command: Command) -> str:
        start.wait()
        try:
            return commands.dispatch(command).status
        except errors.IdempotencyKeyReused:
            return "refused"

    statuses = [thread.result() for thread in [factories.Thread(lambda c=c: race(c)) for c in wanted]]
    assert sorted(statuses) == ["applied", "refused"]
    assert User.objects.filter(pk__in=[command.key for command in wanted]).count() == 1


def test_concurrent_commands_on_one_record_are_all_applied_in_sequence() -> None:
    key = factories.user()
    threads = [factories.Thread(lambda n=n: factories.update(key, last_name=f"name {n}")) for n in range(8)]
    versions = sorted(thread.result().version for thread in threads)
    assert versions == list(range(2, 10))
    assert User.objects.get(pk=key).version == 9


def test_rejected_command_stores_nothing_and_can_be_sent_again() -> None:
    taken = create()
    commands.dispatch(taken)
    twin = factories.command(users.CreateUser(email=taken.data.email.upper()))
    with pytest.raises(errors.Rejected) as caught:
        commands.dispatch(twin)
    assert caught.value.fields == {"email": "Another user has this email address."}
    assert events_of(twin.key) == []
    commands.dispatch(factories.command(users.DeleteUser(), taken.key))
    assert commands.dispatch(twin).status == "applied"


def test_every_invalid_field_is_named() -> None:
    with pytest.raises(errors.InvalidCommand) as caught:
        commands.dispatch(factories.command(users.CreateUser(email="nobody")))
    assert caught.value.fields.keys() == {"email"}


def test_unknown_owner_is_named_and_nothing_is_written() -> None:
    command = factories.command(forms.CreateForm(user_id=new_id(), title="Orphan"))
    with pytest.raises(errors.Rejected) as caught:
        commands.dispatch(command)
    assert caught.value.fields == {"user_id": "There is no such user."}
    assert store.version_of(f"form-{command.key}") == 0


def test_change_to_the_current_value_stores_no_event() -> None:
    key = factories.user(first_name="Ada")
    result = factories.update(key, first_name=" Ada ")
    assert (result.status, result.version, result.position, result.events) == ("unchanged", 1, None, ())
    assert events_of(key) == ["user.created"]


def test_missing_record_cannot_be_changed() -> None:
    with pytest.raises(errors.StreamNotFound):
        factories.update(new_id(), first_name="Nobody")


def test_base_version_above_the_current_one_is_rejected() -> None:
    key = factories.user()
    with pytest.raises(errors.InvalidCommand, match="cannot be accepted"):
        factories.update(key, base_version=9, first_name="Ada")


def test_outdated_email_that_the_edit_did_not_change_is_no_conflict() -> None:
    key = factories.user(first_name="Ada", email="ada@old.example")
    factories.update(key, email="ada@new.example")
    result = factories.update(key, base_version=1, email="ada@old.example", first_name="Augusta")
    assert result.status == "merged"
    row = User.objects.get(pk=key)
    assert (row.email, row.first_name) == ("ada@new.example", "Augusta")


def test_field_changed_differently_on_both_sides_is_a_conflict_and_nothing_is_applied() -> None:
    key = factories.user(first_name="Ada", plan="free")
    factories.update(key, plan="premium")
    with pytest.raises(errors.Conflict) as caught:
        factories.update(key, base_version=1, plan="enterprise", first_name="Augusta")
    conflict = caught.value
    assert conflict.fields == ["plan"]
    assert (conflict.base["plan"], conflict.theirs["plan"], conflict.mine["plan"]) == ("free", "premium", "enterprise")
    assert (conflict.base_version, conflict.version) == (1, 2)
    row = User.objects.get(pk=key)
    assert (row.plan, row.first_name, row.version) == ("premium", "Ada", 2)


def test_deletion_of_a_record_changed_meanwhile_is_a_conflict() -> None:
    key = factories.user()
    factories.update(key, first_name="Ada")
    with pytest.raises(errors.Conflict) as caught:
        commands.dispatch(factories.command(users.DeleteUser(), key, base_version=1))
    assert caught.value.fields == ["first_name"]
    assert commands.dispatch(factories.command(users.DeleteUser(), key, base_version=2)).status == "applied"


def test_setting_changed_meanwhile_is_a_conflict() -> None:
    key = f"limits.{new_id().hex}"
    commands.dispatch(factories.command(settings.SetSetting(value=10), key))
    commands.dispatch(factories.command(settings.SetSetting(value=20), key))
    with pytest.raises(errors.Conflict):
        commands.dispatch(factories.command(settings.SetSetting(value=30), key, base_version=1))
    assert Setting.objects.get(pk=key).value == 20


def test_setting_changed_meanwhile_to_the_same_value_is_unchanged() -> None:
    key = f"test.{new_id().hex}"
    for value in (10, 20):
        commands.dispatch(factories.command(settings.SetSetting(value=value), key))
    assert (
        commands.dispatch(factories.command(settings.SetSetting(value=20), key, base_version=1)).status == "unchanged"
    )
    assert (
        commands.dispatch(factories.command(settings.SetSetting(value=10), key, base_version=1)).status == "unchanged"
    )


def test_setting_deleted_meanwhile_is_a_conflict() -> None:
    key = f"test.{new_id().hex}"
    commands.dispatch(factories.command(settings.SetSetting(value=10), key))
    commands.dispatch(factories.command(settings.RemoveSetting(), key))
    for value in (10, 20):
        with pytest.raises(errors.Conflict) as caught:
            commands.dispatch(factories.command(settings.SetSetting(value=value), key, base_version=1))
        assert caught.value.fields == ["value"]


def test_reason_and_actor_are_recorded() -> None:
    command = create()
    with context.acting(actor="staff:1"):
        commands.dispatch(Command(id=command.id, key=command.key, data=command.data, reason="asked by phone"))
    event = store.read_stream(f"user-{command.key}")[0]
    assert (event.actor, event.reason) == ("staff:1", "asked by phone")


def test_readers_are_notified_only_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    notified: list[int] = []
    monkeypatch.setattr(notifications, "notify", notified.append)
    with transaction.atomic():
        result = commands.dispatch(create())
        assert notified == []
    assert notified == [result.position]
    with pytest.raises(errors.StreamNotFound):
        factories.update(new_id(), first_name="x")
    assert notified == [result.position]


def test_command_is_retried_after_a_deadlock() -> None:
    """The command that PostgreSQL aborts in a real deadlock is retried and gets its answer."""
    key, other = factories.user(), factories.user()
    held, met = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            store.query("select 1 from events_stream where stream = %s for update", (f"user-{other}",))
            held.set()
            met.wait(10)
            store.query("select 1 from events_stream where stream = %s for update", (f"user-{key}",))

    tries: list[int] = []

    def project(_: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            held.wait(10)
            met.set()
            store.query("select 1 from events_stream where stream = %s for update", (f"user-{other}",))

    extension.project_inline("user", project)
    try:
        blocker = factories.Thread(first)
        with connection.cursor() as cursor:
            cursor.execute("set deadlock_timeout = '50ms'")
        assert factories.update(key, first_name="Ada").status == "applied"
        blocker.result()
    finally:
        extension.inline_projections["user"].remove(project)
        with connection.cursor() as cursor:
            cursor.execute("reset deadlock_timeout")
    assert len(tries) == 2


# -- many at once ---------------------------------------------------------------------------------------------------


def received(form: uuid.UUID, number: int = 0) -> Command:
    return factories.command(submissions.ReceiveSubmission(form_id=form, answers={"q1": number}))


def test_batch_stores_the_same_events_and_rows_as_single_commands() -> None:
    form = factories.form()
    wanted = [received(form, number) for number in range(20)]
    results = commands.dispatch_many(wanted)
    assert [result.status for result in results] == ["applied"] * 20
    assert [result.id for result in results] == [command.id for command in wanted]
    assert Submission.objects.filter(form_id=form).count() == 20
    single = commands.dispatch(received(form, 99))
    ours, alone = store.read_stream(results[0].stream)[0], store.read_stream(single.stream)[0]
    assert (ours.type, ours.schema_version, ours.data.keys()) == (alone.type, alone.schema_version, alone.data.keys())
    positions = [result.position for result in results]
    assert positions == sorted(positions)


def test_repeated_batch_applies_only_its_new_commands() -> None:
    form = factories.form()
    wanted = [received(form, number) for number in range(5)]
    commands.dispatch_many(wanted[:3])
    assert [r.status for r in commands.dispatch_many(wanted)] == ["duplicate"] * 3 + ["applied"] * 2
    assert Submission.objects.filter(form_id=form).count() == 5


def test_invalid_command_in_a_batch_is_named_and_the_batch_writes_nothing() -> None:
    form = factories.form()
    bad = factories.command(users.CreateUser(email="nobody"))
    wanted = [received(form), bad, received(form)]
    with pytest.raises(errors.InvalidCommand) as caught:
        commands.dispatch_many(wanted)
    assert caught.value.command is bad
    assert Submission.objects.filter(form_id=form).count() == 0


def test_batch_can_change_one_record_several_times_in_order() -> None:
    key = new_id()
    wanted = [
        factories.command(users.CreateUser(email=f"{key}@example.org"), key),
        factories.command(users.UpdateUser(first_name="Ada"), key),
        factories.command(users.UpdateUser(last_name="Lovelace"), key),
    ]
    assert [result.version for result in commands.dispatch_many(wanted)] == [1, 2, 3]
    row = User.objects.get(pk=key)
    assert (row.first_name, row.last_name, row.version) == ("Ada", "Lovelace", 3)


def test_batch_can_create_a_user_and_then_their_form() -> None:
    owner, form = new_id(), new_id()
    wanted = [
        factories.command(users.CreateUser(email=f"{owner}@example.org"), owner),
        factories.command(forms.CreateForm(user_id=owner, title="A form"), form),
        factories.command(submissions.ReceiveSubmission(form_id=form, answers={})),
    ]
    assert [result.status for result in commands.dispatch_many(wanted)] == ["applied"] * 3
    assert Submission.objects.get(form_id=form).form.user_id == owner


def test_batches_with_records_in_opposite_order_do_not_deadlock() -> None:
    keys = [factories.user() for _ in range(6)]

    def rename(order: list[uuid.UUID], name: str) -> None:
        for _ in range(5):
            commands.dispatch_many(
                [factories.command(users.UpdateUser(first_name=f"{name} {new_id()}"), key) for key in order]
            )

    threads = [factories.Thread(lambda: rename(keys, "A")), factories.Thread(lambda: rename(keys[::-1], "B"))]
    for thread in threads:
        thread.result()
    assert {User.objects.get(pk=key).version for key in keys} == {11}


# -- snapshots ------------------------------------------------------------------------------------------------------


def edited(times: int) -> uuid.UUID:
    key = factories.form(title="Form 0")
    for number in range(1, times):
        commands.dispatch(factories.command(forms.UpdateForm(title=f"Form {number}"), key))
    return key


def test_snapshot_is_stored_and_never_used_for_an_older_version() -> None:
    key = edited(25)
    saved = store.query("select version from events_snapshot where stream = %s", (f"form-{key}",))
    assert saved == [(20,)]
    for version in (1, 7, 19, 20, 21, 25):
        state, reached = snapshots.state(f"form-{key}", version)
        assert (state.title, reached) == (f"Form {version - 1}", version)
    assert snapshots.state(f"form-{key}")[0].title == "Form 24"


def test_snapshot_of_another_state_version_is_ignored() -> None:
    key = edited(21)
    store.query("update events_snapshot set state_version = 99 where stream = %s returning 1", (f"form-{key}",))
    assert snapshots.state(f"form-{key}")[0].title == "Form 20"
    store.query(
        """update events_snapshot set state_version = 1, state = '{"title": 7}' where stream = %s returning 1""",
        (f"form-{key}",),
    )
    assert snapshots.state(f"form-{key}")[0].title == "Form 20"
    assert commands.dispatch(factories.command(forms.UpdateForm(title="On we go"), key)).status == "applied"


def test_state_at_an_instant_contains_only_earlier_events() -> None:
    key = edited(3)
    second = store.read_stream(f"form-{key}")[1]
    state, version = snapshots.state(f"form-{key}", at=second.recorded_at)
    assert (state.title, version) == ("Form 1", 2)


def test_rarely_changed_record_gets_a_snapshot_by_age() -> None:
    """A record that rarely changes never reaches `snapshot_every`, so it gets a snapshot by age or state version."""
    with own_log(size=100, upto=100):
        key, short = factories.user(), factories.user()

        def grow() -> None:
            for number in range(snapshots.TAIL):
                factories.update(key, first_name=f"N{number}")
            store.execute("update events_snapshot set created_at = now() - interval '31 days'")

        grow()
        assert (snapshot_upkeep.refresh(), snapshot_upkeep.refresh()) == (1, 0)
        store.execute("update events_snapshot set created_at = now() - interval '31 days'")
        assert snapshot_upkeep.refresh() == 0, "nothing came after it"
        grow()
        assert tasks.snapshot() == (1, 0)
        store.execute("update events_snapshot set state_version = 0")
        assert tasks.snapshot()[0] == 1
        assert snapshots.state(f"user-{key}")[0].first_name == f"N{snapshots.TAIL - 1}"
        assert store.query("select count(*) from events_snapshot where stream = %s", (f"user-{short}",)) == [(0,)]


def test_pruning_keeps_the_newest_snapshots() -> None:
    key = edited(81)
    snapshot_upkeep.prune(keep=2)
    kept = store.query("select version from events_snapshot where stream = %s order by 1", (f"form-{key}",))
    assert kept == [(60,), (80,)]


def test_read_table_equals_the_fold_of_the_events() -> None:
    key = factories.form(title="A", fields=[{"id": "q1", "type": "text", "label": "Name"}])
    commands.dispatch(factories.command(forms.UpdateForm(title="B", archived=True), key))
    commands.dispatch(factories.command(forms.DeleteForm(), key))
    commands.dispatch(factories.command(forms.RestoreForm(), key))
    state, version = snapshots.state(f"form-{key}")
    row = Form.objects.get(pk=key)
    shared = {"title", "description", "fields", "archived", "created_at", "deleted_at", "user_id"}
    assert {name: getattr(row, name) for name in shared} == {name: getattr(state, name) for name in shared}
    assert row.version == version == 4


def test_broken_connection_raises_store_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks during a command; the next command works again."""
    key = factories.user()
    pid = store.query("select pg_backend_pid()")[0][0]
    killer = psycopg.connect(
        **{
            k: v
            for k, v in connection.get_connection_params().items()
            if k in {"host", "port", "user", "password", "dbname"}
        },
        autocommit=True,
    )
    killer.execute("select pg_terminate_backend(%s)", (pid,))
    killer.close()
    with pytest.raises(errors.StoreUnavailable):
        factories.update(key, first_name="Ada")
    assert factories.update(key, first_name="Ada").status == "applied"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_instant_that_utc_cannot_represent_is_rejected_before_any_write(moment: str) -> None:
    for name in ("created_at", "last_login"):
        command = create(**{name: datetime.fromisoformat(moment)})
        with pytest.raises(errors.InvalidCommand) as caught:
            commands.dispatch(command)
        assert caught.value.fields.keys() == {name}
        assert events_of(command.key) == []
