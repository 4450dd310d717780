"""Rules that apply at every entry point: ids, reasons, mailboxes, owners, repeated parameters, caching."""

from __future__ import annotations

import threading
import unicodedata
import uuid
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from backoffice import models, preconditions
from backoffice.api import ingest
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, context, errors, projections, store, types
from events.rebuild import builder as rebuild
from tests import factories
from tests.backoffice import api_client
from tests.backoffice.api_client import problem
from tests.backoffice.privacy.test_erasure import own_log  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db
BY_PHONE = "asked by phone"


@pytest.fixture
def admin(db: None) -> api_client.Caller:
    return api_client.signed_in("admin")


@pytest.fixture
def manager(db: None) -> api_client.Caller:
    return api_client.signed_in("manager")


def event(kind: str, key: object, data: Any = None, **more: Any) -> dict[str, Any]:
    attributes = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/formease/signup",
        "type": f"formease.{kind}",
    }
    return {**attributes, "subject": str(key), "data": data or {}, **more}


def deliver(caller: api_client.Caller, *events: Any, **headers: str) -> Any:
    kind = "application/cloudevents-batch+json" if len(events) != 1 else "application/cloudevents+json"
    return caller.post("ingest/", list(events) if len(events) != 1 else events[0], content_type=kind, **headers)


def sync(caller: api_client.Caller, *mutations: Any, **more: Any) -> list[dict[str, Any]]:
    numbered = [{"seq": seq, "id": str(uuid.uuid4()), **one} for seq, one in enumerate(mutations, start=1)]
    response = caller.post("sync/", {"client_id": "laptop", "mutations": numbered, **more})
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["results"]
    return found


# -- ids --------------------------------------------------------------------------------------------------------------


def test_no_entry_point_lets_clients_use_the_id_of_a_future_event(manager: api_client.Caller) -> None:
    coming = event("user.created", uuid.uuid4(), {"email": api_client.email()})
    taken, key = str(ingest.command_id(coming["source"], coming["id"])), factories.user()
    change = {"type": "user.update", "key": str(key), "data": {"first_name": "x"}}
    problem(manager.post("commands/", {**change, "id": taken}), 422, "reserved_id")
    problem(
        manager.patch(f"users/{key}/", {"first_name": "x"}, If_Match="*", Idempotency_Key=taken), 422, "reserved_id"
    )
    problem(manager.delete(f"users/{key}/", If_Match="*", Idempotency_Key=taken), 422, "reserved_id")
    assert [(one["status"], one["code"]) for one in sync(manager, {**change, "id": taken})] == [
        ("rejected", "reserved_id")
    ]
    browser = Client()
    browser.force_login(manager.person)
    form = {"first_name": "x", "last_name": "", "email": f"{key}@example.org", "plan": "free", "role": "member"}
    page = reverse("admin:backoffice_user_change", args=[key])
    assert browser.post(page, {**form, "base_version": 1, "command_id": taken}).status_code == 422
    deletion = reverse("admin:backoffice_user_delete", args=[key])
    assert browser.post(deletion, {"base_version": 1, "command_id": taken}).status_code == 422
    assert len(store.read_stream(f"user-{key}")) == 1
    assert deliver(api_client.program("ingest:write"), coming).json()["status"] == "applied"


def test_event_ingested_by_an_older_release_is_a_duplicate() -> None:
    """Derived ids are stable across releases, so rows of an older release are recognised."""
    sent = event("user.created", "2f6a3b9e-6c0c-4a57-9a20-6a1bb6f6f6c1", {"email": "ada@example.org"}, id="82f1")
    assert str(ingest.command_id(sent["source"], sent["id"])) == "fa56665a-16a2-55c1-872c-994675df5222"
    formease = api_client.program("ingest:write")
    assert [deliver(formease, sent).json()["status"] for _ in range(2)] == ["applied", "duplicate"]


# -- scopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        ("user.erased", "users:write"),
        ("user.erase", "users:write"),
        ("form.erased", "forms:write"),
        ("submission.erased", "submissions:write"),
        ("setting.changed", "settings:write"),
        ("setting.set", "settings:write"),
        ("setting.removed", "settings:write"),
    ],
)
def test_ingest_write_alone_neither_erases_people_nor_changes_settings(kind: str, scope: str) -> None:
    key = "signup.open" if kind.startswith("setting") else factories.user()
    data = {"value": True} if kind in ("setting.changed", "setting.set") else {}
    sent = event(kind, key, data, reason="asked")
    formease = api_client.program("ingest:write", role="admin")
    assert problem(deliver(formease, sent), 403, "missing_scope")["missing"] == scope
    verdicts = deliver(formease, sent, event("user.created", uuid.uuid4(), {"email": api_client.email()})).json()[
        "results"
    ]
    assert [one["status"] for one in verdicts] == ["rejected", "applied"]
    assert models.User.objects.filter(erased_at=None).count() == models.User.objects.count()
    both = deliver(api_client.program("ingest:write", scope, role="admin"), sent)
    assert both.status_code in (200, 404)  # allowed, although the record may not exist


# -- reasons ----------------------------------------------------------------------------------------------------------

CRITICAL = [{"plan": "premium"}, {"role": "owner"}, {"email": "new@example.org"}]


@pytest.mark.parametrize("data", CRITICAL, ids=lambda data: next(iter(data)))
def test_plan_role_and_email_require_a_reason_at_every_entry_point(manager: api_client.Caller, data: Any) -> None:
    key = factories.user()
    change = {"type": "user.update", "key": str(key), "data": data}
    for caller in (manager, api_client.program("users:write")):
        found = problem(caller.post("commands/", {**change, "id": str(uuid.uuid4())}), 422, "reason_required")
        assert found["errors"] == {"reason": "Enter a reason: required for plan, role and email."}
        problem(caller.post("commands/", {**change, "id": str(uuid.uuid4()), "reason": "  "}), 422, "reason_required")
        problem(caller.patch(f"users/{key}/", data, If_Match='"v1"'), 422, "reason_required")
    assert [one["code"] for one in sync(manager, {**change, "base_version": 1})] == ["reason_required"]
    with context.acting(actor="command:something"), pytest.raises(errors.ReasonRequired):
        commands.dispatch(factories.command(users.UpdateUser(**data), key))
    assert len(store.read_stream(f"user-{key}")) == 1
    assert sync(manager, {**change, "base_version": 1, "reason": BY_PHONE})[0]["status"] == "applied"
    assert store.read_stream(f"user-{key}")[1].reason == BY_PHONE


def test_unchanged_plan_and_new_record_require_no_reason(manager: api_client.Caller) -> None:
    key = factories.user(plan="premium")
    assert manager.command("user.update", key, {"plan": "premium", "first_name": "Ada"}).status_code == 200
    new = {"email": api_client.email(), "plan": "premium"}
    assert manager.command("user.create", uuid.uuid4(), new).status_code == 200


def test_patch_accepts_a_reason(manager: api_client.Caller) -> None:
    key = factories.user()
    answer = manager.patch(f"users/{key}/?reason=asked+by+phone", {"plan": "premium"}, If_Match='"v1"')
    assert answer.status_code == 200, answer.content
    assert store.read_stream(f"user-{key}")[1].reason == BY_PHONE
    problem(manager.patch(f"users/{key}/?reason={'x' * 201}", {"plan": "free"}, If_Match="*"), 400, "invalid_parameter")
    assert manager.delete(f"users/{key}/?reason=closed", If_Match="*").status_code == 200
    assert store.read_stream(f"user-{key}")[2].reason == "closed"


def test_critical_edit_without_a_reason_is_rejected_and_not_filed(manager: api_client.Caller) -> None:
    """The edit is filed neither as a conflict nor as too old: nobody could add the reason in the inbox."""
    key = factories.user(plan="free")
    factories.update(key, plan="enterprise")
    edit = {"type": "user.update", "key": str(key), "data": {"plan": "premium"}, "base_version": 1}
    old = {**edit, "queued_at": (datetime.now(UTC) - timedelta(days=9)).isoformat()}
    for one in (edit, old):
        assert [(v["status"], v["code"]) for v in sync(manager, one)] == [("rejected", "reason_required")]
    problem(manager.post("commands/", {**edit, "id": str(uuid.uuid4())}), 422, "reason_required")
    assert not models.Conflict.objects.exists()
    assert sync(manager, {**edit, "reason": BY_PHONE})[0]["status"] == "conflict"


def test_conflict_about_a_plan_is_resolved_only_with_a_reason(manager: api_client.Caller) -> None:
    key = factories.user(plan="free")
    factories.update(key, plan="enterprise")
    mine = manager.command("user.update", key, {"plan": "premium"}, base_version=1, reason=BY_PHONE)
    found = problem(mine, 409, "conflict")["conflict_id"]
    body: dict[str, Any] = {"choices": {"plan": "mine"}}
    problem(manager.post(f"conflicts/{found}/resolve/", body), 422, "reason_required")
    assert manager.post(f"conflicts/{found}/resolve/", body | {"reason": "agreed"}).status_code == 200


@pytest.mark.parametrize("key", ["quotas", "quotas.free.forms", "free.quota"])
def test_quotas_require_a_reason_and_other_settings_none(key: str) -> None:
    admin = api_client.signed_in("admin")
    problem(admin.command("setting.set", key, {"value": 5}), 422, "reason_required")
    assert admin.command("setting.set", key, {"value": 5}, reason="agreed").status_code == 200
    problem(admin.patch(f"settings/{key}/", {"value": 6}, If_Match="*"), 422, "reason_required")
    problem(admin.delete(f"settings/{key}/", If_Match="*"), 422, "reason_required")
    assert admin.command("setting.set", "mail.sender", {"value": "x"}).status_code == 200
    browser = Client()
    browser.force_login(admin.person)
    page = browser.post(reverse("admin:backoffice_setting_change", args=[key]), {"value": "7", "base_version": 1})
    assert page.status_code == 422
    assert "Enter a reason: required for quotas." in page.content.decode()


def test_ingest_records_its_source_and_type_as_the_reason() -> None:
    key, other, formease = factories.user(), factories.user(), api_client.program("ingest:write")
    assert deliver(formease, event("user.updated", key, {"plan": "premium"})).json()["status"] == "applied"
    results = deliver(
        formease,
        event("user.updated", key, {"plan": "free"}, source="/billing"),
        event("user.updated", other, {"plan": "premium"}, reason="by contract"),
        event("user.updated", key, {"role": "owner"}, source="s" * 400),
    ).json()["results"]
    assert [one["status"] for one in results] == ["applied"] * 3
    reasons = [one.reason for one in store.read_stream(f"user-{key}")]
    assert reasons[1:3] == ["/formease/signup formease.user.updated", "/billing formease.user.updated"]
    assert reasons[3] == "s" * 200
    assert store.read_stream(f"user-{other}")[1].reason == "by contract"


# -- mailboxes --------------------------------------------------------------------------------------------------------

SPELLINGS = ["post@bücher.example", "post@xn--bcher-kva.example", unicodedata.normalize("NFD", "post@bücher.example")]


@pytest.mark.parametrize("first", SPELLINGS)
def test_three_spellings_of_a_mailbox_are_one_user(manager: api_client.Caller, first: str) -> None:
    assert manager.command("user.create", uuid.uuid4(), {"email": first}).status_code == 200
    for spelling in SPELLINGS:
        found = problem(manager.command("user.create", uuid.uuid4(), {"email": spelling}), 422, "rejected")
        assert found["errors"].keys() == {"email"}


@pytest.mark.parametrize("hidden", ["a\u200bda@example.org", "ada@example.org\u202e"])
def test_address_with_invisible_characters_is_refused(manager: api_client.Caller, hidden: str) -> None:
    found = problem(manager.command("user.create", uuid.uuid4(), {"email": hidden}), 422, "invalid")
    assert "U+20" in found["errors"]["email"]


def legacy(email: str) -> uuid.UUID:
    """Creates a user whose address an older release stored unchanged."""
    key, now = types.new_id(), store.query("select now()")[0][0]
    made = users.UserCreated(
        email=email, first_name="", last_name="", plan="free", role="member", created_at=datetime.now(UTC)
    )
    new = types.NewEvent(stream=f"user-{key}", version=1, data=made, event_id=types.new_id(), recorded_at=now)
    with preconditions.waived("all"):
        projections.project([new])
    store.append(new.stream, [made], store.NO_STREAM, event_ids=[new.event_id])
    return key


@pytest.mark.parametrize("old", SPELLINGS[1:])
def test_mailbox_stored_in_an_older_spelling_is_taken(manager: api_client.Caller, old: str) -> None:
    key = legacy(old)
    assert models.User.objects.get(pk=key).email == old
    problem(manager.command("user.create", uuid.uuid4(), {"email": SPELLINGS[0]}), 422, "rejected")
    other = factories.user()
    change = manager.command("user.update", other, {"email": SPELLINGS[0]}, reason=BY_PHONE)
    problem(change, 422, "rejected")
    assert models.User.not_deleted_with_address(SPELLINGS[0].upper()).get().pk == key
    assert manager.command("user.update", key, {"email": SPELLINGS[0]}, reason=BY_PHONE).status_code == 200
    assert models.User.objects.get(pk=key).mailbox is None


def test_restore_of_a_user_whose_mailbox_was_taken_is_refused(manager: api_client.Caller) -> None:
    key = legacy(SPELLINGS[1])
    manager.command("user.delete", key)
    assert manager.command("user.create", uuid.uuid4(), {"email": SPELLINGS[0]}).status_code == 200
    problem(manager.command("user.restore", key), 422, "rejected")


@pytest.mark.usefixtures("own_log")
@pytest.mark.django_db(transaction=True)
def test_rebuild_keeps_duplicate_mailboxes_of_older_releases() -> None:
    keys = [legacy(spelling) for spelling in SPELLINGS]
    rebuild.rebuild("users")
    found = {row.pk: (row.email, row.mailbox) for row in models.User.objects.filter(pk__in=keys)}
    assert found == {
        keys[0]: (SPELLINGS[0], None), keys[1]: (SPELLINGS[1], SPELLINGS[0]), keys[2]: (SPELLINGS[2], SPELLINGS[0])
    }  # fmt: skip


def test_migration_stores_mailboxes_of_older_spellings() -> None:
    keys = [legacy(spelling) for spelling in SPELLINGS]
    plain = factories.user()
    models.User.objects.update(mailbox=None)
    import_module("backoffice.migrations.0007_rules").fill_mailboxes(None, SimpleNamespace(connection=connection))
    found = dict(models.User.objects.filter(pk__in=[*keys, plain]).values_list("pk", "mailbox"))
    assert found == {keys[0]: None, keys[1]: SPELLINGS[0], keys[2]: SPELLINGS[0], plain: None}


# -- search -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_search_finds_composed_and_decomposed_text(manager: api_client.Caller, stored: Any, typed: Any) -> None:
    key = legacy(api_client.email())
    models.User.objects.filter(pk=key).update(last_name=unicodedata.normalize(stored, "Zoé Ångström"))
    for word in ("Zoé", "ångstr", "ZOÉ"):
        found = manager.send("GET", "users/?search=" + unicodedata.normalize(typed, word)).json()
        assert [item["id"] for item in found["items"]] == [str(key)], word


@pytest.mark.parametrize("word", ["%", "_", "\\", "50%", "a_b", "a\\b"])
def test_search_takes_wildcards_literally(manager: api_client.Caller, word: str) -> None:
    """Words with fewer than three letters in a row find the beginning of a field."""
    key = factories.user(last_name=f"{word}y")
    factories.user(last_name="xaxby50")
    found = Client()
    found.force_login(manager.person)
    answer = found.get("/api/v1/users/", {"search": word}).json()
    assert [item["id"] for item in answer["items"]] == [str(key)]


# -- owners -----------------------------------------------------------------------------------------------------------


def test_new_form_of_a_deleted_user_is_refused(manager: api_client.Caller) -> None:
    owner = factories.user()
    manager.command("user.delete", owner)
    data = {"user_id": str(owner), "title": "A form"}
    problem(manager.command("form.create", uuid.uuid4(), data), 422, "owner_deleted")
    sent = event("form.created", uuid.uuid4(), data)
    problem(deliver(api_client.program("ingest:write"), sent), 422, "owner_deleted")
    assert sync(manager, {"type": "form.create", "key": str(uuid.uuid4()), "data": data})[0]["code"] == "owner_deleted"
    manager.command("user.restore", owner)
    assert manager.command("form.create", uuid.uuid4(), data).status_code == 200


def test_submission_to_a_deleted_or_archived_form_is_refused(manager: api_client.Caller) -> None:
    form = factories.form()
    answer = {"form_id": str(form), "answers": {"q": 1}}
    manager.command("form.update", form, {"archived": True})
    problem(manager.command("submission.receive", uuid.uuid4(), answer), 422, "form_archived")
    manager.command("form.update", form, {"archived": False})
    manager.command("form.delete", form)
    problem(manager.command("submission.receive", uuid.uuid4(), answer), 422, "form_deleted")
    manager.command("form.restore", form)
    owner = models.Form.objects.get(pk=form).user_id
    manager.command("user.delete", owner)
    problem(manager.command("submission.receive", uuid.uuid4(), answer), 422, "owner_deleted")
    manager.command("user.restore", owner)
    assert manager.command("submission.receive", uuid.uuid4(), answer).status_code == 200
    assert (
        manager.command("submission.receive", uuid.uuid4(), {**answer, "form_id": str(uuid.uuid4())}).status_code == 422
    )


def test_batch_refuses_only_the_submissions_to_closed_forms(manager: api_client.Caller) -> None:
    closed, open_ = factories.form(), factories.form()
    manager.command("form.update", closed, {"archived": True})
    sent = [
        event("submission.received", uuid.uuid4(), {"form_id": str(f), "answers": {}}) for f in (open_, closed, open_)
    ]
    verdicts = deliver(api_client.program("ingest:write"), *sent).json()["results"]
    assert [one["status"] for one in verdicts] == ["applied", "rejected", "applied"]
    assert verdicts[1]["problem"]["code"] == "form_archived"


def _waiting() -> str:
    return "select 1 from pg_locks where not granted and pid <> pg_backend_pid()"


@pytest.mark.parametrize("first", ["deletion", "creation"])
@pytest.mark.django_db(transaction=True)
def test_new_form_and_deletion_of_its_owner_are_serialised(first: str) -> None:
    """The second transaction waits for the first: a form of a deleted user is refused, an earlier form is kept."""
    owner, form = factories.user(), types.new_id()
    steps = {
        "deletion": lambda: commands.dispatch(factories.command(users.DeleteUser(), owner)),
        "creation": lambda: commands.dispatch(factories.command(forms.CreateForm(user_id=owner, title="x"), form)),
    }
    second = "creation" if first == "deletion" else "deletion"
    begun = threading.Event()

    def later() -> Any:
        begun.set()
        return steps[second]()

    with transaction.atomic():
        steps[first]()
        other = factories.Thread(later)
        begun.wait()
        while not store.query(_waiting()):
            pass
    if first == "deletion":
        with pytest.raises(forms.OwnerDeleted):
            other.result()
    else:
        other.result()
    assert models.Form.objects.filter(pk=form).exists() is (first == "creation")


@pytest.mark.django_db(transaction=True)
def test_submission_and_archiving_of_its_form_are_serialised() -> None:
    form, key = factories.form(), types.new_id()
    with transaction.atomic():
        commands.dispatch(factories.command(forms.UpdateForm(archived=True), form))
        late = factories.Thread(
            lambda: commands.dispatch(factories.command(submissions.ReceiveSubmission(form_id=form, answers={}), key))
        )
        while not store.query(_waiting()):
            pass
    with pytest.raises(submissions.FormArchived):
        late.result()
    assert not models.Submission.objects.filter(pk=key).exists()


@pytest.mark.django_db(transaction=True)
def test_old_submissions_are_imported_into_an_archived_form_only_on_request(tmp_path: Any) -> None:
    owner = factories.user(email="owner@example.org")
    file = tmp_path / "old.csv"
    file.write_text("Name,Colour\nAda,red\nGrace,blue\n")
    options = {"form": "Old", "owner": "OWNER@example.org"}
    call_command("import_submissions", str(file), **options)
    form = models.Form.objects.get(user_id=owner)
    commands.dispatch(factories.command(forms.UpdateForm(archived=True), form.pk))
    file.write_text("Name,Colour\nAda,red\nGrace,blue\nEdith,green\n")
    for dry in (True, False):
        with pytest.raises(CommandError, match="--archived"):
            call_command("import_submissions", str(file), dry_run=dry, **options)
    call_command("import_submissions", str(file), archived=True, **options)
    assert models.Submission.objects.filter(form=form).count() == 3
    told = [one.reason for one in store.read_stream(f"form-{form.pk}")][:1]
    newest = models.Submission.objects.filter(form=form).latest("created_at")
    assert [*told, store.read_stream(f"submission-{newest.pk}")[0].reason] == [
        "old.csv form.create", "old.csv submission.receive"
    ]  # fmt: skip


# -- offline edits by wrong clocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [datetime.now(UTC) - timedelta(days=8), datetime(1970, 1, 1, 0, 5, tzinfo=UTC),
                                   datetime(2090, 1, 1, tzinfo=UTC)])  # fmt: skip
def test_recent_edit_is_saved_with_any_clock(manager: api_client.Caller, clock: datetime) -> None:
    key = factories.user()
    edit = {"type": "user.update", "key": str(key), "data": {"first_name": "A"}, "base_version": 1}
    queued = {**edit, "queued_at": clock.isoformat()}
    sent = (clock + timedelta(seconds=5)).isoformat()
    assert [one["status"] for one in sync(manager, queued, sent_at=sent)] == ["applied"]


def test_edit_older_than_a_week_is_filed_with_any_clock(manager: api_client.Caller) -> None:
    key, clock = factories.user(), datetime(1970, 1, 1, tzinfo=UTC)
    edit = {"type": "user.update", "key": str(key), "data": {"first_name": "A"}, "base_version": 1}
    sent = (clock + timedelta(days=8)).isoformat()
    verdict = sync(manager, {**edit, "queued_at": clock.isoformat()}, sent_at=sent)[0]
    assert (verdict["status"], verdict["problem"]["why"]) == ("conflict", "age")
    source = manager.get(f"conflicts/{verdict['conflict_id']}/").json()["source"]
    age = datetime.now(UTC) - datetime.fromisoformat(source["queued_at"])
    assert timedelta(days=8) <= age < timedelta(days=9)  # the age by the server's clock


def test_edit_queued_before_the_clock_was_set_back_counts_as_new(manager: api_client.Caller) -> None:
    key, now = factories.user(), datetime.now(UTC)
    edit = {"type": "user.update", "key": str(key), "data": {"first_name": "A"}, "base_version": 1}
    queued = {**edit, "queued_at": (now + timedelta(days=30)).isoformat()}
    assert sync(manager, queued, sent_at=now.isoformat())[0]["status"] == "applied"


# -- parameters and headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["users/?plan=free&plan=premium", "users/?limit=1&limit=1", "events/?type=a&type=b",
                                  "conflicts/?status=open&status=any", "streams/user-x/?after=1&after=2"])  # fmt: skip
def test_repeated_parameter_is_refused(manager: api_client.Caller, path: str) -> None:
    found = problem(manager.get(path), 400, "repeated_parameter")
    assert found["parameter"] == path.partition("?")[2].partition("=")[0]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("backoffice_user_changelist", "plan=free"),
        ("backoffice_conflict_changelist", "status=open"),
        ("events_storedevent_changelist", "type=user.created"),
        ("search", "q=ada"),
    ],
)
def test_page_refuses_a_repeated_parameter(admin: api_client.Caller, name: str, query: str) -> None:
    browser = Client()
    browser.force_login(admin.person)
    assert browser.get(f"{reverse(f'admin:{name}')}?{query}&{query}").status_code == 400
    assert browser.get(f"{reverse(f'admin:{name}')}?{query}").status_code == 200


def in_headers(caller: api_client.Caller, **changes: str) -> Any:
    one = event("user.created", uuid.uuid4(), {"email": api_client.email()})
    headers = {f"ce-{name}": str(value) for name, value in one.items() if name != "data"}
    changes = {f"ce-{name}": value for name, value in changes.items()}
    return caller.post("ingest/", one["data"], content_type="application/json", **(headers | changes))


@pytest.mark.parametrize("quoted", ['"q1"', '"q\\1"', "q%31", '"q%31"'])
def test_quoted_header_is_unquoted(quoted: str) -> None:
    formease, key = api_client.program("ingest:write"), str(uuid.uuid4())
    headers = {"ce-specversion": "1.0", "ce-source": "/x", "ce-type": "formease.user.created", "ce-subject": key}
    data = {"email": api_client.email()}
    send = lambda name: formease.post("ingest/", data, content_type="application/json", **headers, **{"ce-id": name})  # noqa: E731
    assert [send("q1").json()["status"], send(quoted).json()["status"]] == ["applied", "duplicate"]


@pytest.mark.parametrize("wrong", ["%ff", "caf%e9", "%C3", "%ED%A0%80", '"open', '"a"b"'])
def test_header_that_is_not_utf_8_or_not_closed_is_refused(wrong: str) -> None:
    formease = api_client.program("ingest:write")
    found = problem(in_headers(formease, reason=wrong), 400, "invalid_header")
    assert found["parameter"].lower() == "ce-reason"
    assert in_headers(formease, reason="100%25%20caf%c3%a9 50%").json()["status"] == "applied"


# -- caching ----------------------------------------------------------------------------------------------------------


def test_response_with_personal_data_is_not_stored(manager: api_client.Caller) -> None:
    key, form = factories.user(), factories.form()
    browser = Client()
    browser.force_login(api_client.staff("admin"))
    paths = [
        *("/admin/", "/admin/login/", "/admin/nothing/", "/admin/logout/", reverse("admin:offline")),
        *(
            reverse(f"admin:backoffice_user_{name}", args=[key])
            for name in ("change", "live", "history", "delete", "erase")
        ),
        *(
            reverse(f"admin:backoffice_{name}_changelist")
            for name in ("user", "form", "submission", "setting", "conflict")
        ),
        reverse("admin:backoffice_user_rows") + f"?ids={key}",
        *(
            f"/api/v1/{path}"
            for path in ("users/", f"users/{key}/", "events/", f"streams/user-{key}/", "conflicts/", "x/")
        ),
        f"/api/v1/forms/{form}/",
        f"/api/v1/streams/user-{key}/state/?version=1",
    ]
    for path in paths:
        for caller in (browser, Client()):
            answer = caller.get(path)
            assert "no-store" in answer.headers.get("Cache-Control", ""), (path, answer.status_code)
    for path in (reverse("admin:backoffice_user_export", args=[key]), f"/api/v1/users/{key}/export/"):
        assert "no-store" in browser.post(path).headers["Cache-Control"]


def test_response_without_personal_data_keeps_its_cache_control() -> None:
    assert "public" in Client().get("/asyncapi.json").headers["Cache-Control"]
    assert Client().get("/admin/worker.js").headers["Cache-Control"] == "no-cache"


# -- permissions ------------------------------------------------------------------------------------------------------


def test_search_does_not_match_a_hidden_address() -> None:
    factories.user(email="known.person@secret.example", last_name="Plain")
    viewer = api_client.signed_in("viewer")
    nothing = viewer.get("users/?search=matchesnothing").json()
    for word in ("known.person@secret.example", "known.pers", "secret.example", "KNOWN"):
        assert viewer.get(f"users/?search={word}").json() == nothing
    browser = Client()
    browser.force_login(viewer.person)
    for word in ("known.person", "secret.example"):
        page = browser.get(reverse("admin:backoffice_user_changelist"), {"q": word}).content.decode()
        assert "Plain" not in page
        assert "secret.example" not in page.replace(f'value="{word}"', "").replace(word, "")


@pytest.mark.parametrize("field", ["plan", "role"])
def test_agent_changes_no_read_only_field_at_any_entry_point(field: str) -> None:
    key, agent = factories.user(), api_client.signed_in("agent")
    data = {"first_name": "A", field: "premium" if field == "plan" else "owner"}
    for answer in (
        agent.command("user.update", key, data, reason="x"),
        agent.patch(f"users/{key}/", data, If_Match="*"),
    ):
        assert problem(answer, 403, "forbidden")["missing"] == f"user.{field}"
    assert sync(agent, {"type": "user.update", "key": str(key), "data": data, "reason": "x"})[0]["code"] == "forbidden"
    assert len(store.read_stream(f"user-{key}")) == 1


@pytest.mark.parametrize("lookup", [{"id__in": [1]}, {"user__email__startswith": "a"}, {"__class__": "x"}])
def test_object_in_place_of_an_id_is_refused(manager: api_client.Caller, lookup: Any) -> None:
    body = {"id": str(uuid.uuid4()), "type": "user.update", "key": str(factories.user()), "data": {"first_name": "x"}}
    for name in ("id", "type", "key", "data"):
        assert manager.post("commands/", {**body, name: lookup}).status_code in (400, 422)
    for name in ("first_name", "email", "plan"):
        assert manager.post("commands/", {**body, "data": {name: lookup}}).status_code == 422


def test_formset_fields_create_nothing(manager: api_client.Caller) -> None:
    browser = Client()
    browser.force_login(manager.person)
    before, key = models.User.objects.count(), factories.user()
    formset = {"form-TOTAL_FORMS": "99", "form-INITIAL_FORMS": "0", "form-0-id": "", "form-0-email": "x@example.org"}
    browser.post(reverse("admin:backoffice_user_changelist"), formset)
    browser.post(reverse("admin:backoffice_user_change", args=[key]), formset)
    assert models.User.objects.count() == before + 1
    assert models.User.objects.get(pk=key).is_erased is False
