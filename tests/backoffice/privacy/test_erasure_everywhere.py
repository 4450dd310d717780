"""Writes a canary through every entry point and searches every store for it after its owner is erased.

The places are found, not listed: every table of the catalogue, every key in Valkey, every file that was written. So a
new table, cache or file is covered without a change here. docs/privacy.md lists the exceptions: dead rows and the WAL
of PostgreSQL, and files that were exported before.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backoffice import models
from backoffice.sections.forms import domain as forms
from backoffice.sections.submissions import domain as submissions
from backoffice.sections.users import domain as users
from events import answers, commands, context, errors, store
from events.archive import reader as archives
from events.archive import writer as archiving
from events.integrity import seals
from events.privacy import erasure
from events.rebuild import builder as rebuild
from events.rebuild.read_tables import RebuildProgress
from events.subscriptions import runner as subscriptions
from events.types import Command, new_id
from tests import factories, services_plugin
from tests.backoffice import api_client
from tests.own_database import own_database

pytestmark = pytest.mark.django_db(transaction=True)

# A word that occurs nowhere else; each entry point adds its own suffix, so that a finding names it.
CANARY = "zwjqcanary"


def at(way: str) -> str:
    return f"{CANARY}-{way}"


def mail(way: str) -> str:
    return f"{CANARY}-{way}@example.org"


# -- searching --------------------------------------------------------------------------------------------------------


def encodings(text: bytes) -> set[bytes]:
    """Returns these bytes plain, in hexadecimal, and as they appear inside base64 at any offset."""
    inside = {base64.b64encode(b"\0" * shift + text)[(shift * 8 + 5) // 6 :][:-4].rstrip(b"=") for shift in range(3)}
    return {text, text.hex().encode(), *inside}


def needles(prints: Iterable[bytes] = (), word: str = CANARY) -> list[bytes]:
    """Returns the canary in every encoding, and hashes of personal commands that would confirm a guess."""
    return sorted(encodings(word.encode()) | {found for one in prints for found in encodings(one)})


def holds(content: bytes, wanted: Iterable[bytes]) -> bool:
    lower = content.lower()
    return any(needle in content or needle.lower() in lower for needle in wanted)


TABLES = """
select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'm') and c.relispopulated
   and left(n.nspname, 3) <> 'pg_' and n.nspname <> 'information_schema' order by 1
"""


def in_tables(wanted: list[bytes]) -> dict[str, list[str]]:
    """Searches every table and materialized view of every schema, row by row as text."""
    found = {}
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        for (table,) in cursor.fetchall():
            cursor.execute(f"select t::text from {table} t")
            rows = [row for (row,) in cursor.fetchall() if holds(row.encode(), wanted)]
            if rows:
                found[table] = [row[:300] for row in rows]
    return found


def in_sessions(wanted: list[bytes]) -> list[str]:
    """Decodes sessions before searching them, because they are stored compressed."""
    said = [json.dumps(session.get_decoded()) for session in Session.objects.all()]
    return [text for text in said if holds(text.encode(), wanted)]


def in_valkey(wanted: list[bytes]) -> list[str]:
    """Searches every key of Valkey and its value, whatever its type."""
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        return [
            key.decode(errors="replace")
            for key in client.scan_iter(count=1_000)
            if holds(key, wanted) or holds(b" ".join(_values(client, key)), wanted)
        ]


def _values(client: Any, key: bytes) -> list[bytes]:
    read = {
        b"string": lambda: [client.get(key) or b""],
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"hash": lambda: [part for pair in client.hgetall(key).items() for part in pair],
        b"stream": lambda: [repr(entry).encode() for entry in client.xrange(key)],
        b"none": list,
    }
    return list(read[client.type(key)]())


def in_files(folder: Path, wanted: list[bytes]) -> list[str]:
    """Searches every file under a folder, compressed ones by their content."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            if holds(content, wanted):
                found.append(path.name)
    return found


class ServerLog:
    """The lines that PostgreSQL has logged since the object was created; empty if the server is not the suite's own."""

    def __init__(self) -> None:
        self.path = Path(os.environ[services_plugin.FOLDER]) / "main" / "postgres.log"
        self.begin = self.path.stat().st_size if self.path.exists() else 0

    def since(self) -> bytes:
        return self.path.read_bytes()[self.begin :] if self.path.exists() else b""


# -- entry points -----------------------------------------------------------------------------------------------------


class PersonData:
    """A person and everything ever written or requested about them. `gone` are all people who are erased afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api, self.client = api_client.signed_in("admin"), Client()
        self.client.force_login(api_client.staff("admin"))
        self.program = api_client.program("ingest:write")
        self.gone: list[Any] = []
        self.prints: set[bytes] = set()

    def write(self) -> None:
        self.by_page()
        self.by_api()
        self.by_sync()
        self.by_ingest()
        self.by_import()
        self.by_events()
        self.by_conflicts()
        self.by_search()
        self.by_refused_input()

    def by_page(self) -> None:
        page = reverse("admin:backoffice_user_add")
        asked = self.page_inputs(self.client.get(page))
        asked |= {"email": mail("page"), "first_name": at("page"), "last_name": at("page"), "reason": at("page-reason")}
        assert self.client.post(page, asked, follow=True).status_code == 200
        self.user = models.User.objects.get(email=mail("page")).pk
        self.gone.append(self.user)
        change = reverse("admin:backoffice_user_change", args=[self.user])
        edited = self.page_inputs(self.client.get(change)) | {"last_name": at("page-edit"), "reason": at("page-edit")}
        assert self.client.post(change, edited).status_code == 302
        self.form = factories.form(self.user, title=at("title"), description=at("description"))
        for number in range(21):  # beyond the form's snapshot interval
            commands.dispatch(factories.command(forms.UpdateForm(description=at(f"description {number}")), self.form))

    @staticmethod
    def page_inputs(response: Any) -> dict[str, str]:
        values = {field.name: field.value() for field in response.context["form"]}
        return {name: value for name, value in values.items() if value not in (None, False)}

    def by_api(self) -> None:
        update = {"first_name": at("api")}
        assert self.api.command("user.update", self.user, update, reason=at("api-reason")).json()["status"] == "applied"
        merged = self.api.command("user.update", self.user, {"last_name": at("merged")}, base_version=3)
        assert merged.status_code in (200, 409)
        same = self.api.command("user.update", self.user, update)
        assert same.json()["status"] == "unchanged", "remembered too, and caused no event"
        answers = {"q": at("answer"), at("question"): 1}
        sent = {"form_id": str(self.form), "answers": answers}
        self.answer = new_id()
        assert self.api.command("submission.receive", self.answer, sent).status_code == 200
        commands.dispatch_many(
            [
                factories.command(submissions.ReceiveSubmission(form_id=self.form, answers={"q": at("batch")}))
                for _ in range(3)
            ]
        )
        assert self.api.command("submission.delete", self.answer, reason=at("deleted")).status_code == 200

    def by_sync(self) -> None:
        """Syncs an edit, a conflict, one too old to apply and one refused; the client name contains the canary."""
        old = (timezone.now() - timedelta(days=30)).isoformat()
        edits: list[dict[str, Any]] = [
            {"base_version": 4, "data": {"first_name": at("sync")}},
            {"base_version": 1, "data": {"last_name": at("sync-conflict")}, "reason": at("sync-reason")},
            {"base_version": 1, "data": {"last_name": at("sync-old")}, "queued_at": old},
            {"base_version": 1, "data": {"email": f"{CANARY} no address"}},
        ]
        queue = [
            {"seq": number, "id": str(new_id()), "type": "user.update", "key": str(self.user), **edit}
            for number, edit in enumerate(edits)
        ]
        assert self.api.post("sync/", {"client_id": mail("client"), "mutations": queue}).status_code == 200
        assert models.Conflict.objects.filter(key=str(self.user)).exists()

    def by_ingest(self) -> None:
        def cloud_event(kind: str, key: Any, data: Any) -> dict[str, Any]:
            named = {"specversion": "1.0", "id": mail("event"), "source": f"/{mail('source')}/{kind}"}
            return {**named, "type": f"formease.{kind}", "subject": str(key), "data": data, "reason": at("ingest")}

        received = {"form_id": str(self.form), "answers": {"q": at("ingest")}}
        events = [
            cloud_event("user.updated", self.user, {"first_name": at("ingest")}),
            cloud_event("submission.received", new_id(), received),
            cloud_event("user.updated", self.user, {"email": f"{CANARY} wrong"}),
        ]
        kind = "application/cloudevents-batch+json"
        assert self.program.post("ingest/", events, content_type=kind).status_code == 200

    def by_import(self) -> None:
        path = self.folder / "given" / "export.csv"
        path.parent.mkdir()
        lines = [f"{number},2026-01-{number + 10} 10:00,{at('import')} {number},x{number}" for number in range(8)]
        path.write_text("\n".join(["id,submitted at,Who,What", *lines]) + "\n")
        owner = models.User.objects.get(pk=self.user).email
        for _ in range(2):  # the second run finds all of it stored
            told = {"stdout": io.StringIO(), "stderr": io.StringIO()}
            call_command("import_submissions", str(path), form=at("imported"), owner=owner, **told)
        assert models.Submission.objects.filter(form__title=at("imported")).count() == 8
        path.unlink()

    def by_events(self) -> None:
        """Imports another installation's log, with a person who is erased there and here."""
        there, here = factories.user(email=mail("there"), first_name=at("there")), new_id()
        lines = []
        for event in store.read_stream(f"user-{there}"):
            wire = {**event.to_wire(), "metadata": event.metadata, "event_id": str(new_id()), "reason": at("imported")}
            lines.append(json.dumps(wire).replace(str(there), str(here)).replace(mail("there"), mail("here")))
        path = self.folder / "given" / "events.jsonl"
        path.write_text("\n".join(lines))
        call_command("import_events", str(path), stdout=io.StringIO(), stderr=io.StringIO())
        path.unlink()
        self.gone += [there, here]

    def by_conflicts(self) -> None:
        """Creates two conflicts: an open one with a comment and one resolved with a typed value."""
        keys = []
        for way in ("open", "settled"):
            version = store.version_of(f"user-{self.user}")
            self.api.command("user.update", self.user, {"last_name": at(f"theirs-{way}")})
            clash = self.api.command(
                "user.update", self.user, {"last_name": at(f"mine-{way}")}, base_version=version, reason=at(way)
            )
            assert clash.status_code == 409
            keys.append(clash.json()["conflict_id"])
        assert self.api.post(f"conflicts/{keys[0]}/comment/", {"text": at("comment")}).status_code == 200
        settled = {"choices": {"last_name": "value"}, "values": {"last_name": at("typed")}, "reason": at("settled")}
        assert self.api.post(f"conflicts/{keys[1]}/resolve/", settled).status_code == 200
        self.conflict = keys[0]

    def by_search(self) -> None:
        word = mail("search")
        for page in (
            f"/admin/search/?q={word}",
            *(f"{reverse(f'admin:backoffice_{name}_changelist')}?search={word}&q={word}" for name in ("user", "form")),
            f"{reverse('admin:events_storedevent_changelist')}?q={word}&stream=user-{word}&actor={word}&type={word}",
        ):
            assert self.client.get(page, follow=True).status_code in (200, 400, 404), page
        for path in ("users/?search=", "users/?cursor=", "forms/?search=", "events/?type=", "streams/user-", "users/"):
            assert self.api.get(f"{path}{word}").status_code in (200, 400, 404, 422), path

    def by_refused_input(self) -> None:
        """Sends values that the domain, a unique index and PostgreSQL's types refuse."""
        taken = models.User.objects.get(pk=self.user).email
        assert self.api.command("user.create", new_id(), {"email": taken}).status_code == 422
        assert self.api.command("user.create", new_id(), {"email": at("no-address")}).status_code == 422
        assert self.api.command("user.update", self.user, {"first_name": at("long") * 100}).status_code == 422
        assert self.api.command("user.create", mail("key"), {"email": mail("key")}).status_code in (400, 404, 422)
        assert self.api.command("user.update", self.user, {"first_name": at("nul\0")}).status_code in (400, 422)
        with pytest.raises(errors.EventsError):
            commands.dispatch(Command(id=new_id(), key=str(new_id()), data=users.CreateUser(email=taken)))
        row = models.User.objects.get(pk=self.user)
        twin = models.User(id=uuid.uuid4(), email=row.email, version=1, updated_at=row.updated_at, plan="free")
        twin.role, twin.created_at = "member", row.created_at
        with pytest.raises(DatabaseError):
            twin.save(force_insert=True)
        for statement in ("select %s::uuid", "select %s::jsonb", "select %s::timestamptz", "select 1/0 where %s <> ''"):
            for ask in (lambda s, v: connection.cursor().execute(s, v), store.query):
                with contextlib.suppress(DatabaseError, psycopg.Error, errors.EventsError):
                    ask(statement, [mail("bad-value")])

    # -- derived data

    def follow(self) -> None:
        """Runs every subscription to the end, so that its tables and Valkey keys exist."""
        for subscription in subscriptions.registered():
            subscriptions.align_partitions(subscription)

    def archive(self) -> None:
        assert seals.seal()
        gone = archiving.archive_next(keep_days=0)
        assert gone is not None
        assert gone.events > 20

    def cause_failures(self) -> None:
        """Creates the rows that the store writes after failures, and rebuilds that ended halfway."""
        submission = f"submission-{self.answer}"
        store.query(
            """insert into events_parked (subscription, stream, position, error, traceback) values
               ('mail', %s, 1000001, %s, %s), ('mail', %s, 1000002, %s, null) returning 1""",
            (f"user-{self.user}", at("parked"), at("parked"), submission, at("parked")),
        )
        store.query(
            """insert into events_checkpoint (name, position, epoch, error)
               values ('t', 2, gen_random_uuid(), %s) returning 1""",
            (f"Key (email)=({models.User.objects.get(pk=self.user).email}) already exists",),
        )
        for table in ("users", "forms", "submissions", "conflicts"):
            with pytest.raises(KeyboardInterrupt):
                rebuild.rebuild(table, report=_die)

    def pages(self) -> Iterator[str]:
        """Returns every URL that shows data of the person."""
        streams = [f"user-{self.user}", f"form-{self.form}", f"submission-{self.answer}", f"conflict-{self.conflict}"]
        for stream in streams:
            yield f"/api/v1/streams/{stream}/"
            yield f"/api/v1/streams/{stream}/state/"
            yield f"/api/v1/streams/{stream}/state/?version=1"
        for category, key in (("user", self.user), ("form", self.form), ("submission", self.answer)):
            for name in ("change", "history", "live", "compare"):
                yield reverse(f"admin:backoffice_{category}_{name}", args=[key])
            yield reverse(f"admin:backoffice_{category}_changelist") + "?deleted=any"
        yield from ("/api/v1/users/?deleted=any", "/api/v1/submissions/?deleted=any", "/api/v1/conflicts/?status=any")
        yield reverse("admin:backoffice_conflict_change", args=[self.conflict])
        yield reverse("admin:events_storedevent_changelist")

    def exported(self) -> Path:
        """Writes every kind of export; returns their folder."""
        folder = self.folder / "exports"
        folder.mkdir()
        quiet = {"stdout": io.StringIO(), "stderr": io.StringIO()}
        for key in self.gone:
            call_command("export_person", str(key), str(folder / f"{key}.json"), **quiet)
        call_command("export_events", str(folder / "events.jsonl"), **quiet)
        call_command("seal_events", export=folder / "seals.jsonl", events=folder / "sealed.jsonl.gz", **quiet)
        return folder


def _die(progress: RebuildProgress) -> None:
    """Simulates a rebuild that is killed after copying some rows."""
    if progress.position:
        raise KeyboardInterrupt


# -- the test ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def life(
    transactional_db: None, template: str, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PersonData]:
    """A person in a database and folder of their own, with partitions small enough to archive one."""
    settings.ARCHIVE_DIR = tmp_path / "archive"
    archives.reader.cache_clear()
    with own_database(template):
        for part in archiving.parts():
            store.execute(f"drop table {part.table}")
        store.query("select events_partition(4000, 40)")
        found = PersonData(tmp_path)
        real = answers.fingerprint

        def noted(command: Command) -> bytes:
            """Returns the fingerprint, and records it when the command contains the canary."""
            made = real(command)
            if CANARY in repr(command.data):
                found.prints.add(made)
            return made

        monkeypatch.setattr(answers, "fingerprint", noted)
        yield found
    archives.reader.cache_clear()


PERSONAL = {"public.users", "public.forms", "public.submissions", "public.conflicts", "public.events_parked"}
REMEMBERED = """
select stream from events_command c where c.stream like any(%s)
   and (subject is null or exists (
       select 1 from events_subject_key k where k.subject = c.subject and k.erased_at is not null))
"""
COPIES = {f"rebuild_{name}.{name}" for name in ("users", "forms", "submissions", "conflicts")}


def test_no_store_contains_data_of_an_erased_person(life: PersonData, caplog: pytest.LogCaptureFixture) -> None:
    server_log = ServerLog()
    caplog.set_level(logging.INFO)
    life.write()
    life.follow()
    life.archive()
    life.cause_failures()

    # before the erasure the canary is in the expected places, and in none that an erasure does not reach
    found = in_tables(needles(life.prints))
    assert found.keys() >= PERSONAL | COPIES
    assert not [table for table in found if "events_event" in table or "snapshot" in table], found.keys()
    assert not in_tables([one for print_ in life.prints for one in encodings(print_)])
    assert len(life.prints) > 20
    assert store.query("select count(*) from events_snapshot")[0][0] > 5
    shown = [page for page in life.pages() if CANARY in life.client.get(page).content.decode()]
    assert len(shown) > 15

    for key in life.gone:
        with context.acting(actor="staff:1"):
            commands.dispatch(factories.command(users.EraseUser(), key, reason="asked by letter"))
    while erasure.status().unpurged:
        erasure.finish()

    wanted = needles(life.prints)
    assert in_tables(wanted) == {}
    assert store.query(REMEMBERED, ([f"{name}%" for name in ("user-", "form-", "submission-", "conflict-")],)) == []
    assert in_sessions(wanted) == []
    assert in_valkey(wanted) == []
    assert in_files(django_settings.ARCHIVE_DIR, wanted) == []
    assert in_files(life.exported(), wanted) == []
    assert in_files(life.folder, wanted) == []
    for page in life.pages():
        answer = life.client.get(page, follow=True)
        assert answer.status_code == 200, page
        assert CANARY not in answer.content.decode(), page
    for table in ("users", "forms", "submissions", "conflicts"):
        rebuild.rebuild(table, fresh=True)
    assert in_tables(wanted) == {}, "after a rebuild"
    assert not holds(server_log.since(), wanted), server_log.since().decode(errors="replace")
    assert not holds(caplog.text.encode(), wanted), [line for line in caplog.text.splitlines() if CANARY in line]


def test_search_finds_a_canary_in_any_kind_of_column(life: PersonData) -> None:
    """Checks the search that the test above relies on: a table added later is searched too."""
    word = "kqxprobe"
    store.execute("create schema later")
    columns = {
        "text": f"'a {word.upper()}'",
        "jsonb": f"""'{{"a": ["{word}"]}}'""",
        "bytea": f"convert_to('xx{word}', 'utf8')",
        "text[]": f"array['{word}']",
    }
    for number, (kind, value) in enumerate(columns.items()):
        store.execute(f"create table later.t{number} as select ({value})::{kind} as c")
    for shift in range(3):
        text = base64.b64encode(b"x" * shift + word.encode() + b"more").decode()
        store.execute(f"create table later.b{shift} as select '{text}'::text as c")
    wanted = needles(word=word)
    assert len(in_tables(wanted)) == len(columns) + 3
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        client.hset("test-probe", mapping={"a": word})
        client.xadd("test-probe-stream", {"a": word})
        assert sorted(in_valkey(wanted)) == ["test-probe", "test-probe-stream"]
        client.delete("test-probe", "test-probe-stream")
