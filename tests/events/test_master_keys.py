"""A wrong or missing master key is detected before any write, at every start, by checks and by the doctor."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from backoffice.celery import check_keys
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import checks, commands, decoding, errors, store
from events.privacy import encryption, erasure, key_witness, master_keys, subject_keys
from events.types import Command, new_id
from tests import factories, live
from tests.backoffice import api_client
from tests.own_database import own_database

pytestmark = pytest.mark.django_db(transaction=True)

RIGHT, OTHER = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture(autouse=True)
def database(transactional_db: None, template: str, settings: Any) -> Iterator[str]:
    """A database and a master key for this test only."""
    settings.PRIVACY_KEYS = {"test": RIGHT}
    with own_database(template) as name:
        yield name


def use(settings: Any, **keys: bytes) -> None:
    """Simulate a restart with these keys."""
    settings.PRIVACY_KEYS = keys
    subject_keys.CACHE.clear()


def created(email: str | None = None) -> Command:
    key = new_id()
    return factories.command(users.CreateUser(email=email or f"{key}@example.org", first_name="Ada"), key)


def head() -> int:
    found: int = store.query("select count(*) from events_event")[0][0]
    return found


# -- writing ----------------------------------------------------------------------------------------------------------


def test_wrong_key_prevents_writes_until_the_right_one_is_back(settings: Any) -> None:
    key, form = factories.user(first_name="Ada"), factories.form()
    before = head()
    use(settings, test=OTHER)
    refused = [
        created(),
        factories.command(users.UpdateUser(first_name="Grace"), key),
        factories.command(users.UpdateUser(plan="premium"), key),
        factories.command(submissions.ReceiveSubmission(form_id=form, answers={"q": "x"})),
    ]
    for command in refused:
        for carry_out in (commands.dispatch, lambda one: commands.dispatch_many([one])):
            with pytest.raises(errors.MasterKeyWrong, match="Put the right key back"):
                carry_out(command)
    with pytest.raises(errors.MasterKeyWrong):
        store.append(f"user-{new_id()}", [users.UserUpdated(first_name="Ada")], store.NO_STREAM)
    assert head() == before
    use(settings, test=RIGHT)
    assert store.read_stream(f"user-{key}")[0].data["first_name"] == "Ada"
    for command in refused:
        assert commands.dispatch(command).status == "applied"


def test_api_returns_503_with_advice(settings: Any) -> None:
    factories.user()
    use(settings, test=OTHER)
    caller = api_client.signed_in("admin")
    answer = caller.command("user.create", new_id(), {"email": "ada@example.org"})
    problem = api_client.problem(answer, 503, "master_key_wrong")
    assert "a new key needs an id of its own" in problem["detail"]


def test_key_without_witness_is_checked_against_keys_of_subjects(settings: Any) -> None:
    factories.user()
    store.execute("delete from events_master_key")
    use(settings, test=OTHER)
    with pytest.raises(errors.MasterKeyWrong):
        commands.dispatch(created())
    assert store.query("select 1 from events_master_key") == []
    use(settings, test=RIGHT)
    commands.dispatch(created())
    assert store.query("select key_id from events_master_key") == [("test",)]


def test_two_processes_with_different_keys_under_one_new_id_cannot_both_write(settings: Any) -> None:
    """Concurrent first use of an id: the second process waits for the witness of the first and cannot open it."""
    known = {"host", "port", "user", "password", "dbname"}
    parameters = {k: v for k, v in connection.get_connection_params().items() if k in known}
    with psycopg.connect(**parameters) as other:
        use(settings, test=OTHER)
        witness = master_keys.wrap(key_witness._name("test"), b"w" * 32)
        other.execute(key_witness.VOUCH, witness)
        use(settings, test=RIGHT)

        def write() -> Any:
            return commands.dispatch(created())

        writer = factories.Thread(write)
        with psycopg.connect(**parameters, autocommit=True) as watcher:
            while writer.is_alive() and not watcher.execute("select 1 from pg_locks where not granted").fetchall():
                pass
        other.commit()
        with pytest.raises(errors.MasterKeyWrong):
            writer.result()
    assert head() == 0


def test_proven_witness_costs_a_command_no_query() -> None:
    factories.user()
    assert subject_keys.CACHE.is_proven("test", RIGHT)
    queries = []
    real = key_witness.pipeline.query
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_witness.pipeline, "query", lambda *given: queries.append(given) or real(*given))
        commands.dispatch(created())
    assert queries == []


def test_wrong_key_prevents_forgetting_a_leaf(settings: Any) -> None:
    form = factories.form()
    answer = factories.submission(form, q="x")
    use(settings, test=OTHER)
    with pytest.raises(errors.MasterKeyWrong), transaction.atomic():
        erasure.shred_leaf(f"form-{form}", f"submission-{answer}")
    use(settings, test=RIGHT)
    assert store.read_stream(f"submission-{answer}")[0].data["answers"] == {"q": "x"}


# -- reading ----------------------------------------------------------------------------------------------------------


def opened(keys: list[Any]) -> list[Any]:
    """Decrypt the first names in these streams' first events as one batch; returns each name or error."""
    rows = [
        row
        for key in keys
        for row in store.query(f"select {decoding.COLUMNS} from events_event where stream = %s", (f"user-{key}",))
    ]
    reading = decoding.EventRows(rows)
    if missing := reading.decryptor.missing:
        reading.decryptor.learn(store.query(subject_keys.KEYS, (missing,)), store.once_committed)
    found: list[Any] = []
    for row, data in reading._rows:
        try:
            reading.decryptor.decrypt(row[1], row[6], row[3], data)
            found.append(data["first_name"])
        except errors.Undecryptable as error:
            found.append(error.code)
    return found


INVALID_MARKS = ({"text": "AAAA"}, {"text": "no base64"}, {"text": 7}, {"fields": "x"}, {"fields": [7]}, {"of": 7})


def test_undecryptable_event_fails_alone_within_its_batch(settings: Any) -> None:
    first = factories.user(first_name="Ada")
    use(settings, second=OTHER, test=RIGHT)
    second = factories.user(first_name="Grace")
    assert opened([first, second]) == ["Ada", "Grace"]
    use(settings, second=OTHER)
    assert opened([first, second]) == ["master_key_missing", "Grace"]
    use(settings, second=OTHER, test=OTHER)
    assert opened([first, second]) == ["master_key_wrong", "Grace"]


@pytest.mark.parametrize("invalid", INVALID_MARKS, ids=str)
def test_invalid_mark_is_an_error_of_its_event(invalid: dict[str, Any]) -> None:
    stream, decryptor = f"user-{factories.user(first_name='Ada')}", encryption.Decryptor()
    raw, event_id = store.query("select data::text, event_id from events_event where stream = %s", (stream,))[0]
    data = json.loads(raw)
    data[encryption.MARK] |= invalid
    decryptor.add(stream, data)
    if missing := decryptor.missing:
        decryptor.learn(store.query(subject_keys.KEYS, (missing,)), store.once_committed)
    with pytest.raises(errors.UnreadableEvent):
        decryptor.decrypt(stream, event_id, "user.created", data)


# -- checks, doctor, start --------------------------------------------------------------------------------------------


def check_messages() -> dict[str | None, str]:
    with connection.cursor() as cursor:
        return {message.id: message.msg for message in checks._master_keys(cursor)}


def doctor() -> dict[str, str]:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=out)
    found: dict[str, str] = next(one for one in json.loads(out.getvalue()) if one["subject"] == "keys")
    return found


def test_checks_and_doctor_test_each_master_key(settings: Any) -> None:
    assert check_messages() == {}
    assert doctor()["text"] == "none used yet"
    factories.user()
    assert check_messages() == {}
    assert doctor()["state"] == "ok"
    use(settings, test=OTHER)
    assert check_messages().keys() == {"events.E007"}
    assert doctor()["state"] == "wrong"
    assert "writes are refused" in doctor()["text"]
    use(settings, other=OTHER)
    assert check_messages().keys() == {"events.E004"}
    assert doctor()["state"] == "wrong"
    use(settings, other=OTHER, test=RIGHT)
    assert check_messages().keys() == {"events.W004"}
    assert doctor()["state"] == "note"
    call_command("rotate_keys")
    assert check_messages() == {}
    assert doctor()["state"] == "ok"


def test_keys_wrapped_by_another_key_of_the_same_id_are_reported(settings: Any) -> None:
    """An earlier release allowed this: some keys unwrap with one master key, some with the other."""
    factories.user()
    use(settings, test=OTHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_witness, "prove", lambda: None)
        factories.user()
    for master_key in (RIGHT, OTHER):
        use(settings, test=master_key)
        assert check_messages().keys() == {"events.E007"}


def test_processes_do_not_start_with_a_wrong_key(settings: Any) -> None:
    factories.user()
    assert key_witness.startup_error() is None
    use(settings, test=OTHER)
    for start in (lambda: call_command("run_subscriptions"), check_keys):
        subject_keys.CACHE.clear()
        with pytest.raises(SystemExit, match="'test' of PRIVACY_KEYS is not the one"):
            start()


def test_server_does_not_start_with_a_wrong_key(database: str) -> None:
    factories.user()
    key = f"test:{base64.b64encode(OTHER).decode()}"
    environ = os.environ | {"DATABASE_URL": live.database_url(database), "PRIVACY_KEYS": key}
    ran = subprocess.run(
        [sys.executable, "-m", "realtime.server", "--port", "0", "--log-level", "warning"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    assert "configuration: The key 'test' of PRIVACY_KEYS is not the one" in ran.stderr


# -- rotating ---------------------------------------------------------------------------------------------------------


def wrapped_by() -> dict[str, int]:
    return dict(store.query("select key_id, count(*) from events_subject_key group by key_id"))


def test_rotation_to_a_wrong_key_changes_nothing(settings: Any) -> None:
    factories.user()
    use(settings, new=b"n" * 32, test=RIGHT)
    factories.user()
    use(settings, new=OTHER, test=RIGHT)
    with pytest.raises(CommandError, match="'new' of PRIVACY_KEYS is not the one"):
        call_command("rotate_keys")
    assert wrapped_by() == {"test": 1, "new": 1}


def test_rotation_skips_keys_it_cannot_unwrap_and_continues_later(settings: Any) -> None:
    users_of = {}
    for name, master_key in (("first", b"1" * 32), ("second", b"2" * 32), ("third", b"3" * 32)):
        use(settings, **{name: master_key})
        users_of[name] = [factories.user(first_name=name) for _ in range(3)]
    new = {"new": b"n" * 32}
    use(settings, **new, first=b"1" * 32, second=OTHER)
    with pytest.raises(CommandError, match=r"6 keys of subjects stay as they are; 3 were wrapped"):
        call_command("rotate_keys")
    assert wrapped_by() == {"new": 3, "second": 3, "third": 3}
    assert erasure.outdated() == 6
    use(settings, **new, second=b"2" * 32, third=b"3" * 32)
    assert erasure.rotate(batch=2) == 6
    use(settings, **new)
    assert opened([key for keys in users_of.values() for key in keys]) == ["first"] * 3 + ["second"] * 3 + ["third"] * 3
    assert erasure.rotate() == 0


def test_status_tests_a_sample_of_keys_per_master_key() -> None:
    """A bounded sample per id, found by the index, for any number of keys."""
    for _ in range(30):
        factories.user()
    (found,) = key_witness.statuses(store.query)
    assert (found.state, found.tried, found.opened) == ("ok", key_witness.SAMPLE + 1, key_witness.SAMPLE + 1)


def test_pages_reject_writes_and_never_return_500(settings: Any) -> None:
    key = factories.user(first_name="Ada")
    client = Client(raise_request_exception=False)
    client.force_login(api_client.staff("admin"))
    page = reverse("admin:backoffice_user_change", args=[key])
    form = client.get(page).context["form"]
    submitted = {field.name: field.value() for field in form if field.value() not in (None, False)} | {
        "first_name": "Eve"
    }
    before = head()
    use(settings, test=OTHER)
    answers = {
        "save": client.post(page, submitted),
        "record": client.get(page),
        "history": client.get(reverse("admin:backoffice_user_history", args=[key])),
        "add": client.post(reverse("admin:backoffice_user_add"), submitted | {"email": "eve@example.org"}),
        "list": client.get(reverse("admin:backoffice_user_changelist")),
    }
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert statuses["add"] == 503
    assert "the master key “test” is not the one" in answers["add"].content.decode()
    assert statuses["save"] in (422, 503), "the current state cannot be read, so nothing can be decided"
    assert head() == before, "nothing is written"
    assert statuses["list"] == 200, "read tables need no key"
    assert {statuses["record"], statuses["history"]} <= {200, 503}
