"""Erasing a person leaves nothing readable about them in the database, and changes nothing else."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from backoffice import access, models
from backoffice import commands as entry_point
from backoffice.sections.conflicts import domain as conflict_domain
from backoffice.sections.conflicts import inbox
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import commands, context, errors, extension, snapshots, store
from events.db import grants
from events.integrity import seals
from events.privacy import encryption, erasure, subject_keys
from events.rebuild import builder as rebuild
from events.rebuild.read_tables import RebuildProgress
from events.types import ERASED, new_id
from tests import factories, services_plugin
from tests.backoffice import api_client

committed = pytest.mark.django_db(transaction=True)


# -- a log of its own -------------------------------------------------------------------------------------------------
# Other tests share one log. This one searches a whole database, and compares read tables with the log.


def administer(statement: str) -> None:
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path="/postgres").geturl()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(statement)


def use(name: str) -> None:
    connection.close()
    connection.close_pool()
    connection.settings_dict["NAME"] = name


@pytest.fixture(scope="module")
def template(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    with django_db_blocker.unblock():
        usual = connection.settings_dict["NAME"]
        name = f"{usual}_erasure"
        administer(f'drop database if exists "{name}" with (force)')
        administer(f'create database "{name}"')
        use(name)
        call_command("migrate", verbosity=0)
        use(usual)
        yield name
        administer(f'drop database "{name}" with (force)')


@pytest.fixture
def own_log(transactional_db: None, template: str) -> Iterator[None]:
    usual, name = connection.settings_dict["NAME"], f"{template}_one"
    administer(f'create database "{name}" template "{template}"')
    use(name)
    subject_keys.CACHE.clear()
    yield
    use(usual)
    administer(f'drop database "{name}" with (force)')


# -- a person ---------------------------------------------------------------------------------------------------------

# Texts that may be nowhere afterwards: about the person, their forms, respondents, and people who quoted them.
# Long enough not to occur in a ciphertext by chance.
NEEDLES = ("Zoelinde", "Quimper", "zq@example", "Cherry jam", "Sourdough", "Barnabas", "rang twice")
QUESTION = {"id": "q", "type": "text", "label": "Sourdough?"}


def zoe() -> uuid.UUID:
    key = factories.user(email="zoe.quimper@example.org", first_name="Zoelinde", last_name="Quimper")
    factories.update(key, email="zq@example.org")
    return key


def update(category: Any, key: Any, reason: str | None = None, base: int | None = None, **fields: Any) -> Any:
    data = {"user": users.UpdateUser, "form": forms.UpdateForm}[category](**fields)
    return commands.dispatch(factories.command(data, key, base_version=base, reason=reason))


def die(progress: RebuildProgress) -> None:
    """Simulates a rebuild that is killed after copying some rows."""
    if progress.position:
        raise KeyboardInterrupt


class PersonData:
    """A user with every kind of data that can exist about one, and another user for comparison."""

    def __init__(self, folder: Path) -> None:
        self.user, self.folder = zoe(), folder
        self.other = factories.user(first_name="Bystander")
        update("user", self.user, "Zoelinde rang twice", base=1, plan="premium")  # merged
        self.form = factories.form(self.user, title="Cherry jam", fields=[QUESTION])
        for number in range(21):  # a snapshot
            update("form", self.form, description=f"Cherry jam {number}")
        self.answers = [factories.submission(self.form, q=f"Barnabas {number}") for number in range(3)]
        self.kept = factories.submission(factories.form(self.other), q="kept")
        self.conflict = self.create_conflicts()
        with pytest.raises(errors.Rejected):
            commands.dispatch(factories.command(users.CreateUser(email="zq@example.org")))
        self.notes()

    def create_conflicts(self) -> uuid.UUID:
        """Creates an open conflict with a comment and one resolved with a typed value.

        Also deletes an answer with a reason that names its author. Returns the id of the open conflict.
        """
        boss = api_client.staff("admin")
        version = store.version_of(f"user-{self.user}")
        update("user", self.user, last_name="Quimper-Zoe")
        clash = factories.command(
            users.UpdateUser(last_name="Zoe Q."), self.user, base_version=version, reason="rang twice"
        )
        with pytest.raises(errors.Conflict):
            entry_point.dispatch(clash, boss)
        key = conflict_domain.id_for(clash.id)
        inbox.act(key, boss, conflict_domain.CommentConflict(text="I know Zoelinde Quimper"))
        settled = factories.command(users.UpdateUser(last_name="Zoe R."), self.user, base_version=version)
        with pytest.raises(errors.Conflict):
            entry_point.dispatch(settled, boss)
        inbox.resolve(conflict_domain.id_for(settled.id), boss, {}, {"last_name": "Quimper typed"})
        commands.dispatch(factories.command(submissions.DeleteSubmission(), self.answers[2], reason="Barnabas asked"))
        return key

    def notes(self) -> None:
        """Stores errors of subscriptions that quote the person, and starts rebuilds that end halfway."""
        store.query(
            """insert into events_parked (subscription, stream, position, error, traceback) values
               ('mail', %s, 1, 'Zoelinde', 'zq@example'), ('mail', %s, 2, 'ValueError: Barnabas', null) returning 1""",
            (f"user-{self.user}", f"submission-{self.answers[0]}"),
        )
        store.query(
            """insert into events_checkpoint (name, epoch, error)
               values ('t', gen_random_uuid(), 'Key (email)=(zq@example.org) already exists') returning 1"""
        )

        for table in ("users", "submissions"):
            with pytest.raises(KeyboardInterrupt):
                rebuild.rebuild(table, report=die)

    def pages(self) -> list[str]:
        """Returns every URL that shows data of the person."""
        found = [reverse("admin:index"), "/admin/search/?q=zoe", reverse("admin:events_storedevent_changelist")]
        for category, key in (("user", self.user), ("form", self.form), ("submission", self.answers[0])):
            of = f"admin:backoffice_{category}"
            found += [reverse(f"{of}_{name}", args=[key]) for name in ("change", "history", "live", "compare")]
            found += [reverse(f"{of}_version", args=[key, 1]), reverse(f"{of}_changelist") + "?deleted=any"]
            stream = f"{category}-{key}"
            found += [f"/api/v1/streams/{stream}/", f"/api/v1/streams/{stream}/state/?version=1"]
            found += [f"/api/v1/streams/{stream}/state/", f"/api/v1/{category}s/{key}/"]
        found += ["/api/v1/users/?deleted=any", "/api/v1/submissions/?deleted=any", "/api/v1/events/?limit=1000"]
        found += ["/api/v1/conflicts/?status=any", f"/api/v1/conflicts/{self.conflict}/"]
        found += [reverse("admin:backoffice_conflict_change", args=[self.conflict])]
        found += [reverse("admin:backoffice_conflict_changelist") + "?status=any"]
        return found


def tables_with(needles: tuple[str, ...]) -> dict[str, int]:
    """Returns table -> number of rows that contain one of these texts, plain, inside JSON or inside bytes."""
    like = [f"%{form}%" for text in needles for form in (text, text.encode().hex(), text.encode().hex().upper())]
    tables = store.query(
        """select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'm') and c.relispopulated
              and left(n.nspname, 3) <> 'pg_' and n.nspname <> 'information_schema'"""
    )
    found = {}
    with connection.cursor() as cursor:
        for (table,) in tables:
            cursor.execute(f"select count(*) from {table} t where t::text ilike any(%s)", [like])
            if count := cursor.fetchone()[0]:
                found[table] = count
    return found


def rows_of(table: str) -> list[Any]:
    return store.query(f"select to_jsonb(t)::text from {table} t order by 1")


def logged_in(role: str) -> Client:
    client = Client()
    client.force_login(api_client.staff(role))
    return client


def erase_page(client: Client, category: str, key: Any, **fields: Any) -> Any:
    sent = {"reason": "asked by letter", "meant": "on", "command_id": str(new_id())} | fields
    return client.post(reverse(f"admin:backoffice_{category}_erase", args=[key]), {k: v for k, v in sent.items() if v})


# -- the main test ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_log")
@committed
def test_erasure_removes_all_data_of_a_person_and_nothing_else(tmp_path: Path) -> None:
    life = PersonData(tmp_path)
    client, seal_file, event_file = logged_in("admin"), tmp_path / "seals", tmp_path / "events.gz"
    before = tables_with(NEEDLES)
    assert {"public.users", "public.forms", "public.submissions"} <= before.keys()
    assert store.query("select 1 from events_snapshot where stream = %s", (f"form-{life.form}",))
    assert "public.events_snapshot" not in before, "snapshots hold nothing in the clear"
    assert {"rebuild_users.users", "rebuild_submissions.submissions", "public.events_parked"} <= before.keys()
    assert not [table for table in before if "events_event" in table], "the log itself holds nothing in the clear"
    told = "".join(client.get(page).content.decode() for page in life.pages())
    assert all(needle in told for needle in ("Zoelinde", "Cherry jam", "Sourdough", "Barnabas", "rang twice"))
    seals.seal()
    untouched = store.query("select stream, version, hash from events_stream order by 1")
    totals = models.Submission.objects.count(), models.User.objects.count(), models.Form.objects.count()

    asked = logged_in("dpo").get(reverse("admin:backoffice_user_erase", args=[life.user]))
    assert asked.context["goes"].forms == 1
    assert (asked.context["goes"].submissions, asked.context["goes"].conflicts) == (3, 2)
    assert erase_page(logged_in("dpo"), "user", life.user).status_code == 302

    assert tables_with(NEEDLES) == {}
    assert erasure.status().unpurged == 0
    for page in life.pages():
        shown = client.get(page, follow=True)
        assert shown.status_code == 200, page
        assert not [needle for needle in NEEDLES if needle in shown.content.decode()], page
    history = client.get(reverse("admin:backoffice_user_history", args=[life.user])).content.decode()
    assert "The changed data was erased." in history
    assert "your role does not see" not in history
    # actor, reason and counts remain
    last = store.read_stream(f"user-{life.user}")[-1]
    assert (last.type, last.reason) == ("user.erased", "asked by letter")
    assert last.actor.startswith("staff:")
    assert totals == (models.Submission.objects.count(), models.User.objects.count(), models.Form.objects.count())
    assert {row[0] for row in untouched} <= {row[0] for row in store.query("select stream from events_stream")}
    # hash chains, seals, and files made after them are unchanged
    call_command("seal_events", export=seal_file, events=event_file)
    call_command("verify_events", seals=seal_file)
    call_command("verify_events", seals=seal_file, events=event_file)
    # a rebuild gives the same tables; the other user is unchanged
    for table in ("users", "forms", "submissions", "conflicts"):
        live = rows_of(table)
        rebuild.rebuild(table, fresh=True)
        assert rows_of(table) == live, table
    assert models.User.objects.get(pk=life.other).first_name == "Bystander"
    assert models.Submission.objects.get(pk=life.kept).answers == {"q": "kept"}
    assert models.Conflict.objects.get(pk=life.conflict).status == "dismissed"
    # and it stays like that: no further command about them is accepted
    refused: list[tuple[Any, Any]] = [
        (users.UpdateUser(plan="free"), life.user),
        (users.RestoreUser(), life.user),
        (forms.UpdateForm(title="Again"), life.form),
        (forms.CreateForm(user_id=life.user, title="New"), new_id()),
        (submissions.ReceiveSubmission(form_id=life.form, answers={"q": "x"}), new_id()),
    ]
    for data, key in refused:
        with pytest.raises(errors.Erased):
            commands.dispatch(factories.command(data, key))
    again = commands.dispatch(factories.command(users.EraseUser(), life.user, reason="once more"))
    assert again.status == "unchanged"


# -- interruptions ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """An error that no code handles."""


def killer(name: str) -> extension.Purger:
    real = extension.purgers[name]

    def kill(subjects: Any, limit: int) -> int:
        real(subjects, limit)
        raise Killed  # the effect is rolled back with its transaction

    return kill


@pytest.mark.usefixtures("own_log")
@committed
def test_interrupted_purge_is_completed_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = PersonData(tmp_path)
    monkeypatch.setattr(
        "backoffice.sections.privacy.erasure.erasure.finish", lambda most: None
    )  # killed right after the commit
    make_erased(life.user)
    assert not [table for table in tables_with(NEEDLES) if table in {"public.users", "public.forms"}]
    assert "public.submissions" in tables_with(NEEDLES)
    monkeypatch.undo()
    officer, page = logged_in("dpo"), reverse("admin:backoffice_user_change", args=[life.user])
    assert "still being deleted" in officer.get(page).content.decode()
    for name in extension.purgers:
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setitem(extension.purgers, name, killer(name))
            erasure.finish()
        assert erasure.status().unpurged > 0
    assert erasure.finish() >= 2
    assert erasure.finish() == 0
    assert tables_with(NEEDLES) == {}
    told = officer.get(page, headers={"accept-language": "fr"}).content.decode()
    assert "encore en cours" not in told
    assert told.count("<dd>effacé</dd>") == 3, "address and names, not as if they had never been filled in"
    assert '<p class="entry-reason">effacé</p>' in told
    assert "“erased”" not in told


# The table owner of the documented setup, who is no superuser and owns everything here.
OWN = """
do $$ declare thing text; begin
    for thing in
        select format('table %%s', c.oid::regclass) from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S') and not exists (
               select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i') and c.relkind = 'S')
        union all select format('function %%s', oid::regprocedure) from pg_proc
         where pronamespace = 'public'::regnamespace
           and split_part(proname, '_', 1) in ('events', 'metrics') and prokind = 'f'
    loop execute format('alter %%s owner to {owner}', thing); end loop;
end $$
"""


def become(role: str) -> None:
    store.execute(f"set role {role}")


@pytest.fixture
def roles(own_log: None) -> Iterator[tuple[str, str]]:
    """Returns the owner of this log and the role of the application (`docs/operations.md`, Rights)."""
    owner, application = (f"{name}_{services_plugin.worker()}" for name in ("owner", "application"))
    for role in (owner, application):
        store.execute(f"create role {role}")
    store.execute(f'grant create on database "{connection.settings_dict["NAME"]}" to {owner}')
    store.execute(f"grant create on schema public to {owner}")
    store.execute(OWN.format(owner=owner))
    become(owner)
    grants.grant(application)
    yield owner, application
    become("none")
    for role in (application, owner):
        store.execute(f"drop owned by {role} cascade")
        store.execute(f"drop role {role}")


@committed
def test_application_without_ownership_purges_everything(tmp_path: Path, roles: tuple[str, str]) -> None:
    owner, application = roles
    life = PersonData(tmp_path)  # with copies of rebuilds, which the owner made
    become("none")
    with pytest.raises(KeyboardInterrupt):
        rebuild.rebuild("forms", report=die)  # by an administrator who is not the owner
    become(application)
    make_erased(life.user)
    assert erasure.status().unpurged == 0
    become(owner)
    assert tables_with(NEEDLES) == {}
    for table in ("users", "forms", "submissions"):
        rebuild.rebuild(table)
    assert tables_with(NEEDLES) == {}


@committed
def test_forbidden_purge_is_reported_and_undoes_no_erasure(
    tmp_path: Path, roles: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The rights were not granted again after the last `migrate`."""
    owner, application = roles
    life = PersonData(tmp_path)
    store.execute("alter function events_discard_copies security invoker")
    become(application)
    make_erased(life.user)
    assert "Error calling finish" in caplog.text
    assert "must be owner of schema" in caplog.text
    become(owner)
    assert tables_with(NEEDLES).keys() == {"rebuild_users.users", "rebuild_submissions.submissions"}
    assert erasure.status().unpurged > 0
    grants.grant(application)
    become(application)
    assert erasure.finish() > 0
    become(owner)
    assert tables_with(NEEDLES) == {}


TABLES = "select oid::bigint from pg_class where relkind in ('r', 'p') and relpersistence <> 't' order by 1"


@committed
def test_right_to_drop_copies_allows_nothing_else(roles: tuple[str, str]) -> None:
    owner, application = roles
    store.query("insert into events_rebuild (name, phase) values ('x', 'new') returning 1")
    store.execute("create schema rebuild_books")
    store.execute("create table rebuild_books.books as select 1")
    store.execute(f"grant create on schema rebuild_books to {application}")
    before = store.query(TABLES)
    become(application)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        store.query("insert into events_rebuild (name, phase) values ('books', 'new') returning 1")
    # a schema that no rebuild made, whatever the row says
    store.execute("update events_rebuild set name = 'books' where name = 'x'")
    with pytest.raises(psycopg.errors.RaiseException, match="rebuild_books was not made by a rebuild"):
        store.query("select events_discard_copies('infinity')")
    for forged in (
        "comment on schema rebuild_books is 'copy of a rebuild'",
        "alter schema public rename to rebuild_books_old",
        "alter table users set schema rebuild_books",
        "create schema rebuild_mine",
        "alter function events_discard_copies reset search_path",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            store.execute(forged)
    # neither under other names nor with a table in its place
    for name in ("users", "public", "x; drop table users", '"', "../public", "_old"):
        store.query("update events_rebuild set name = %s, phase = 'new' where phase = 'new' returning 1", (name,))
        assert store.query("select events_discard_copies('infinity')") == [(0,)], name
    store.execute("create temp table events_rebuild as select 'books' as name, 'new' as phase, now() as started_at")
    assert store.query("select events_discard_copies('infinity')") == [(0,)], "it reads the table it means"
    become(owner)
    assert store.query(TABLES) == before


def make_erased(key: Any) -> None:
    with context.acting(actor="staff:1"):
        commands.dispatch(factories.command(users.EraseUser(), key, reason="asked by letter"))


@committed
def test_rolled_back_erasure_erases_nothing() -> None:
    key = zoe()
    form = factories.form(key, title="Cherry jam")
    with transaction.atomic():
        make_erased(key)
        assert snapshots.state(f"form-{form}")[0].title == ERASED
        transaction.set_rollback(True)
    assert snapshots.state(f"form-{form}")[0].title == "Cherry jam"
    assert store.read_stream(f"user-{key}")[-1].data == {"email": "zq@example.org"}
    update("user", key, first_name="Zoe 2")


# -- other processes --------------------------------------------------------------------------------------------------


def another_process() -> psycopg.Connection[Any]:
    known = {"host", "port", "user", "password", "dbname"}
    return psycopg.connect(**{k: v for k, v in connection.get_connection_params().items() if k in known})


@committed
def test_process_with_a_cached_key_forgets_it_after_an_erasure_elsewhere() -> None:
    key, form = zoe(), factories.form()
    factories.submission(form, q="warm")
    assert store.read_stream(f"user-{key}")[0].data["first_name"] == "Zoelinde"  # the key is cached now
    assert store.read_stream(f"form-{form}")[0].data["title"]
    with another_process() as other:
        for subject in (f"user-{key}", f"form-{form}"):
            other.execute(erasure.WAIT, ([subject],))
            other.execute(erasure.SHRED, ([subject],))
        other.execute(erasure.INCREMENT_GENERATION)
        assert store.read_stream(f"user-{key}")[0].data["first_name"] == "Zoelinde", "not before it is committed"
        other.commit()
        # a writer does not read first: it locks the subject and is refused
        with pytest.raises(errors.Erased):
            factories.submission(form, q="too late")
        assert not models.Submission.objects.filter(answers={"q": "too late"}).exists()
        assert store.read_stream(f"user-{key}")[0].data["first_name"] == ERASED
        with pytest.raises(errors.Erased):
            factories.submission(form, q="later still")


@pytest.mark.usefixtures("own_log")
@committed
def test_erasure_waits_for_running_writers_and_erases_their_data(wait_until: Callable[..., None]) -> None:
    key, form = zoe(), factories.form()
    models.Form.objects.filter(pk=form).update(user_id=key)
    with transaction.atomic():
        late = factories.submission(form, q="Barnabas")
        eraser = factories.Thread(lambda: make_erased(key))
        wait_until("select 1 from pg_locks where not granted")  # the submission locks the user's row until its commit
    eraser.result()
    erasure.finish()
    assert models.Submission.objects.get(pk=late).answers == submissions.NO_ANSWERS
    assert tables_with(("Barnabas",)) == {}


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Returns a function that waits until a statement returns a row, on a connection of its own."""

    def wait(statement: str) -> None:
        with another_process() as other:
            other.autocommit = True
            while not other.execute(statement).fetchall():
                pass

    return wait


@committed
def test_concurrent_creation_of_a_subject_key_makes_one() -> None:
    """Concurrent commands are the first about a subject; both succeed, and both events can be read."""
    stream = f"submission-{new_id()}"
    event = submissions.SubmissionDeleted(deleted_at=store.query("select now()")[0][0])

    def write() -> Any:
        with context.acting(reason="because"):
            return store.append(stream, [event])

    writers = [factories.Thread(write) for _ in range(4)]
    assert sorted(writer.result().version for writer in writers) == [1, 2, 3, 4]
    assert [found.reason for found in store.read_stream(stream)] == ["because"] * 4


# -- one submission ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_log")
@committed
def test_submission_is_erased_without_its_neighbours() -> None:
    form = factories.form()
    gone, kept = factories.submission(form, q="Barnabas"), factories.submission(form, q="kept")
    client = logged_in("dpo")
    assert erase_page(client, "submission", gone).status_code == 302
    later = factories.submission(form, q="later")
    assert tables_with(("Barnabas",)) == {}
    read = {key: store.read_stream(f"submission-{key}")[0].data["answers"] for key in (gone, kept, later)}
    assert read == {gone: submissions.NO_ANSWERS, kept: {"q": "kept"}, later: {"q": "later"}}
    page = client.get(reverse("admin:backoffice_submission_change", args=[gone])).content.decode()
    assert "answers were erased" in page
    erase_page(client, "submission", kept)  # a second leaf of the same tree
    assert store.read_stream(f"submission-{later}")[0].data["answers"] == {"q": "later"}
    assert store.read_stream(f"submission-{kept}")[0].data["answers"] == submissions.NO_ANSWERS
    live = rows_of("submissions")
    rebuild.rebuild("submissions", fresh=True)
    assert rows_of("submissions") == live


# -- permissions ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("role", api_client.ROLES)
def test_only_administrators_and_data_protection_officers_erase_and_export(role: str) -> None:
    key, form = factories.user(first_name="Zoelinde"), factories.form()
    answer = factories.submission(form, q="x")
    caller, client = api_client.signed_in(role), logged_in(role)
    may = role in ("admin", "dpo")
    assert access.may(caller.person, "erase", "user") is may
    pages = [("user", key, "erase"), ("submission", answer, "erase")]
    for category, pk, name in pages:
        address = reverse(f"admin:backoffice_{category}_{name}", args=[pk])
        assert client.get(address).status_code == (200 if may else 403)
    record = client.get(reverse("admin:backoffice_user_change", args=[key])).content.decode()
    assert ("/erase/" in record, "/export/" in record) == (may, may)
    exported = client.post(reverse("admin:backoffice_user_export", args=[key]))
    assert exported.status_code == (200 if may else 403)
    assert client.get(reverse("admin:backoffice_user_export", args=[key])).status_code == (405 if may else 403)
    assert caller.post(f"users/{key}/export/", {}).status_code == (200 if may else 403)
    # no page erases a form or a setting; all other ways send the same command
    assert client.post(reverse("admin:backoffice_form_erase", args=[form])).status_code in (403, 405)
    queued = {
        "seq": 1,
        "id": str(new_id()),
        "type": "user.erase",
        "key": str(key),
        "data": {},
        "queued_at": "2026-01-01T00:00:00Z",
    }
    if not may:
        api_client.problem(caller.command("user.erase", key, reason="x"), 403, "forbidden")
        api_client.problem(caller.command("submission.erase", answer, reason="x"), 403, "forbidden")
        verdict = caller.post("sync/", {"client_id": "c", "mutations": [queued]}).json()["results"][0]
        assert verdict["status"] == "rejected", verdict
        assert erase_page(client, "user", key).status_code == 403
        assert models.User.objects.get(pk=key).first_name == "Zoelinde"
    else:
        api_client.problem(caller.command("user.erase", key), 422, "reason_required")
        assert erase_page(client, "user", key, reason="").status_code == 422
        assert erase_page(client, "user", key, meant="").status_code == 422
        assert caller.command("user.erase", key, reason="asked").json()["status"] == "applied"
        assert caller.command("submission.erase", answer, reason="asked").json()["status"] == "applied"
        assert erase_page(client, "user", key).status_code == 302  # a repeated erasure has no effect
        assert models.User.objects.get(pk=key).email == ERASED


@pytest.mark.django_db
def test_key_needs_the_scope_and_the_role_of_its_owner() -> None:
    key = factories.user()
    api_client.problem(
        api_client.program("users:read", role="dpo").post(f"users/{key}/export/", {}), 403, "missing_scope"
    )
    api_client.problem(api_client.program("users:export").post(f"users/{key}/export/", {}), 403, "forbidden")
    program = api_client.program("users:export", role="dpo")
    assert program.post(f"users/{key}/export/?reason=asked", {}).status_code == 200
    api_client.problem(program.post(f"users/{key}/export/?reason={'x' * 201}", {}), 400, "invalid_parameter")
    api_client.problem(program.post(f"users/{new_id()}/export/", {}), 404, "not_found")
    api_client.problem(program.post("users/none/export/", {}), 404, "not_found")
    told = store.read_stream(f"privacy-{key}")
    assert [(event.type, event.reason, event.data) for event in told] == [("privacy.exported", "asked", {"way": "api"})]


# -- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_log")
@committed
def test_export_contains_everything_and_shows_erased_data_as_erased(tmp_path: Path) -> None:
    life, file = PersonData(tmp_path), tmp_path / "person.json"
    call_command("export_person", str(life.user), str(file), reason="by letter")
    held = json.loads(file.read_bytes())
    assert oct(file.stat().st_mode)[-3:] == "600"
    assert held["user"]["email"] == "zq@example.org"
    assert [event["data"].get("email") for event in held["events"][:2]] == ["zoe.quimper@example.org", "zq@example.org"]
    assert "Zoelinde rang twice" in [event.get("reason") for event in held["events"]]
    assert [form["title"] for form in held["forms"]] == ["Cherry jam"]
    assert len(held["forms"][0]["events"]) == 22
    assert {row["answers"]["q"] for row in held["submissions"]} == {"Barnabas 0", "Barnabas 1", "Barnabas 2"}
    assert len(held["conflicts"]) == 2
    assert "I know Zoelinde Quimper" in json.dumps(held["conflicts"])
    assert [event["reason"] for event in held["audit"]] == ["by letter"]
    assert "Bystander" not in file.read_text()

    call_command("erase_user", str(life.user), reason="by letter", dry_run=True)
    assert models.User.objects.get(pk=life.user).erased_at is None
    call_command("erase_user", str(life.user), reason="by letter")
    call_command("erase_user", str(life.user), reason="by letter")
    assert tables_with(NEEDLES) == {}
    call_command("export_person", str(life.user), str(file))
    text = file.read_text()
    assert not [needle for needle in NEEDLES if needle in text]
    assert json.loads(text)["user"]["email"] == ERASED
    for command, arguments in (("export_person", [str(new_id()), str(file)]), ("erase_user", [str(new_id())])):
        with pytest.raises(CommandError, match="no user"):
            call_command(command, *arguments, **({"reason": "x"} if command == "erase_user" else {}))
    with pytest.raises(CommandError, match="Enter a reason"):
        call_command("erase_user", str(life.other), reason=" ")


@committed
def test_exported_events_are_readable_and_encrypted_anew_by_an_import(tmp_path: Path) -> None:
    """`export_events` decrypts; erased values stay erased and belong to no subject in the other log."""
    keys, file = [zoe(), factories.user(first_name="Kept")], tmp_path / "events.jsonl"
    make_erased(keys[0])
    lines = [
        json.dumps({**event.to_wire(), "metadata": event.metadata, "event_id": str(new_id())})
        for key in keys
        for event in store.read_stream(f"user-{key}")
    ]
    moved = {str(key): str(new_id()) for key in keys}
    text = "\n".join(lines)
    for old, new in moved.items():
        text = text.replace(old, new)
    models.User.objects.filter(pk=keys[1]).update(email="elsewhere@example.org")
    file.write_text(text)
    call_command("import_events", str(file))
    erased, kept = (store.read_stream(f"user-{moved[str(key)]}") for key in keys)
    assert (erased[0].data["first_name"], erased[-1].type, erased[-1].reason) == (
        ERASED,
        "user.erased",
        "asked by letter",
    )
    assert kept[0].data["first_name"] == "Kept"
    raw = store.query("select data::text from events_event where position = %s", (kept[0].position,))[0][0]
    assert "Kept" not in raw
    assert encryption.MARK in raw
    with pytest.raises(errors.Erased):
        update("user", moved[str(keys[0])], first_name="Again")
