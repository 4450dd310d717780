"""A wrong or missing master key: noticed before anything is written, at every start, by checks and by the doctor."""

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
from events import checks, commands, errors, store
from events.privacy import encryption, erasure, key_witness, master_keys
from events.types import Command, new_id
from tests import factories, live
from tests.backoffice import api_client
from tests.own_database import own_database

pytestmark = pytest.mark.django_db(transaction=True)

RIGHT, OTHER = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture(autouse=True)
def database(transactional_db: None, template: str, settings: Any) -> Iterator[str]:
    """A database and a master key of this test's own."""
    settings.PRIVACY_KEYS = {"test": RIGHT}
    with own_database(template) as name:
        yield name


def use(settings: Any, **keys: bytes) -> None:
    """As after a restart with these keys."""
    settings.PRIVACY_KEYS = keys
    encryption.CACHE.clear()


def created(email: str | None = None) -> Command:
    key = new_id()
    return factories.command(users.CreateUser(email=email or f"{key}@example.org", first_name="Ada"), key)


def head() -> int:
    found: int = store.query("select count(*) from events_event")[0][0]
    return found


# -- writing ----------------------------------------------------------------------------------------------------------


def test_nothing_is_written_under_a_wrong_key_and_all_is_well_with_the_right_one_back(settings: Any) -> None:
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


def test_the_api_answers_503_and_says_what_to_do(settings: Any) -> None:
    factories.user()
    use(settings, test=OTHER)
    caller = api_client.signed_in("admin")
    answer = caller.command("user.create", new_id(), {"email": "ada@example.org"})
    problem = api_client.problem(answer, 503, "master_key_wrong")
    assert "a new key needs an id of its own" in problem["detail"]


def test_a_key_used_before_there_were_witnesses_is_held_against_keys_of_subjects(settings: Any) -> None:
    factories.user()
    store.execute("delete from events_master_key")
    use(settings, test=OTHER)
    with pytest.raises(errors.MasterKeyWrong):
        commands.dispatch(created())
    assert store.query("select 1 from events_master_key") == []
    use(settings, test=RIGHT)
    commands.dispatch(created())
    assert store.query("select key_id from events_master_key") == [("test",)]


def test_two_processes_with_different_keys_under_one_new_id_do_not_both_write(settings: Any) -> None:
    """The first use of an id, at once: the second waits for the first one's witness, and does not open it."""
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


def test_a_witness_costs_a_command_nothing_once_it_was_seen() -> None:
    factories.user()
    assert encryption.CACHE.is_proven("test", RIGHT)
    asked = []
    real = key_witness.pipeline.query
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_witness.pipeline, "query", lambda *given: asked.append(given) or real(*given))
        commands.dispatch(created())
    assert asked == []


def test_a_leaf_is_not_forgotten_under_a_wrong_key(settings: Any) -> None:
    form = factories.form()
    answer = factories.submission(form, q="x")
    use(settings, test=OTHER)
    with pytest.raises(errors.MasterKeyWrong), transaction.atomic():
        erasure.shred_leaf(f"form-{form}", f"submission-{answer}")
    use(settings, test=RIGHT)
    assert store.read_stream(f"submission-{answer}")[0].data["answers"] == {"q": "x"}


# -- reading ----------------------------------------------------------------------------------------------------------


def opened(keys: list[Any]) -> list[Any]:
    """The first names in these streams' first events, or why each cannot be read; as one batch."""
    rows = [
        row
        for key in keys
        for row in store.query(f"select {store.COLUMNS} from events_event where stream = %s", (f"user-{key}",))
    ]
    reading = store.Rows(rows)
    if missing := reading.opener.missing:
        reading.opener.learn(store.query(encryption.KEYS, (missing,)), store.once_committed)
    found: list[Any] = []
    for row, data in reading._rows:
        try:
            reading.opener.open(row[1], row[6], row[3], data)
            found.append(data["first_name"])
        except errors.Undecryptable as error:
            found.append(error.code)
    return found


SPOILED = ({"text": "AAAA"}, {"text": "no base64"}, {"text": 7}, {"fields": "x"}, {"fields": [7]}, {"of": 7})


def test_an_event_that_cannot_be_decrypted_fails_alone_and_not_the_batch(settings: Any) -> None:
    first = factories.user(first_name="Ada")
    use(settings, second=OTHER, test=RIGHT)
    second = factories.user(first_name="Grace")
    assert opened([first, second]) == ["Ada", "Grace"]
    use(settings, second=OTHER)
    assert opened([first, second]) == ["master_key_missing", "Grace"]
    use(settings, second=OTHER, test=OTHER)
    assert opened([first, second]) == ["master_key_wrong", "Grace"]


@pytest.mark.parametrize("spoiled", SPOILED, ids=str)
def test_a_mark_that_nobody_here_made_is_an_error_of_its_event(spoiled: dict[str, Any]) -> None:
    stream, opener = f"user-{factories.user(first_name='Ada')}", encryption.Opener()
    raw, event_id = store.query("select data::text, event_id from events_event where stream = %s", (stream,))[0]
    data = json.loads(raw)
    data[encryption.MARK] |= spoiled
    opener.want(stream, data)
    if missing := opener.missing:
        opener.learn(store.query(encryption.KEYS, (missing,)), store.once_committed)
    with pytest.raises(errors.UnreadableEvent):
        opener.open(stream, event_id, "user.created", data)


# -- checks, doctor, start --------------------------------------------------------------------------------------------


def told() -> dict[str | None, str]:
    with connection.cursor() as cursor:
        return {message.id: message.msg for message in checks._master_keys(cursor)}


def doctor() -> dict[str, str]:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=out)
    found: dict[str, str] = next(one for one in json.loads(out.getvalue()) if one["subject"] == "keys")
    return found


def test_checks_and_the_doctor_open_a_text_of_each_key(settings: Any) -> None:
    assert told() == {}
    assert doctor()["text"] == "none used yet"
    factories.user()
    assert told() == {}
    assert doctor()["state"] == "ok"
    use(settings, test=OTHER)
    assert told().keys() == {"events.E007"}
    assert doctor()["state"] == "wrong"
    assert "writing is refused" in doctor()["text"]
    use(settings, other=OTHER)
    assert told().keys() == {"events.E004"}
    assert doctor()["state"] == "wrong"
    use(settings, other=OTHER, test=RIGHT)
    assert told().keys() == {"events.W004"}
    assert doctor()["state"] == "note"
    call_command("rotate_keys")
    assert told() == {}
    assert doctor()["state"] == "ok"


def test_keys_that_were_written_under_another_key_of_the_same_id_are_found(settings: Any) -> None:
    """As an earlier release let happen: some open with one key, some with the other."""
    factories.user()
    use(settings, test=OTHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_witness, "prove", lambda: None)
        factories.user()
    for master_key in (RIGHT, OTHER):
        use(settings, test=master_key)
        assert told().keys() == {"events.E007"}


def test_processes_do_not_start_with_a_wrong_key(settings: Any) -> None:
    factories.user()
    assert key_witness.complaint() is None
    use(settings, test=OTHER)
    for start in (lambda: call_command("run_subscriptions"), check_keys):
        encryption.CACHE.clear()
        with pytest.raises(SystemExit, match="'test' of PRIVACY_KEYS is not the one"):
            start()


def test_the_server_does_not_start_with_a_wrong_key(database: str) -> None:
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


def test_rotating_to_a_wrong_key_changes_nothing(settings: Any) -> None:
    factories.user()
    use(settings, new=b"n" * 32, test=RIGHT)
    factories.user()
    use(settings, new=OTHER, test=RIGHT)
    with pytest.raises(CommandError, match="'new' of PRIVACY_KEYS is not the one"):
        call_command("rotate_keys")
    assert wrapped_by() == {"test": 1, "new": 1}


def test_rotating_passes_over_what_does_not_open_and_goes_on_when_the_key_is_added(settings: Any) -> None:
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


def test_keys_under_an_id_that_is_looked_for_by_the_index() -> None:
    """One sample of each id, however many keys there are."""
    for _ in range(30):
        factories.user()
    (found,) = key_witness.statuses(store.query)
    assert (found.state, found.tried, found.opened) == ("ok", key_witness.SAMPLE + 1, key_witness.SAMPLE + 1)


def test_pages_refuse_to_write_and_never_answer_500(settings: Any) -> None:
    key = factories.user(first_name="Ada")
    client = Client(raise_request_exception=False)
    client.force_login(api_client.staff("admin"))
    page = reverse("admin:backoffice_user_change", args=[key])
    form = client.get(page).context["form"]
    asked = {field.name: field.value() for field in form if field.value() not in (None, False)} | {"first_name": "Eve"}
    before = head()
    use(settings, test=OTHER)
    answers = {
        "save": client.post(page, asked),
        "record": client.get(page),
        "history": client.get(reverse("admin:backoffice_user_history", args=[key])),
        "add": client.post(reverse("admin:backoffice_user_add"), asked | {"email": "eve@example.org"}),
        "list": client.get(reverse("admin:backoffice_user_changelist")),
    }
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert statuses["add"] == 503
    assert "the master key “test” is not the one" in answers["add"].content.decode()
    assert statuses["save"] in (422, 503), "what is there cannot be read, so nothing is decided about it"
    assert head() == before, "nothing is written"
    assert statuses["list"] == 200, "read tables need no key"
    assert {statuses["record"], statuses["history"]} <= {200, 503}
