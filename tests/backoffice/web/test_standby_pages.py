"""Pages, API and exports are read from a standby only where it has what the reader has seen."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections, router
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice import commands as entry_point
from backoffice import standby
from backoffice.models import Conflict, PersonExport, Staff, User
from backoffice.sections.privacy import export_jobs
from backoffice.sections.users import domain as users
from events import errors, export_reads, freshness, head, store
from events.db import pipeline, replica
from events.types import new_id
from tests import factories
from tests.events import effects
from tests.metrics.counters import counting

pytestmark = pytest.mark.django_db(transaction=True)


# As of a standby that has replayed everything.
REPLAYED = "select epoch::text = %s, pg_current_wal_flush_lsn() >= %s::pg_lsn from events_epoch"


@pytest.fixture
def read_from(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A second connection in the place of a standby; the databases of the statements of the store, in order."""
    options = {name: option for name, option in connection.settings_dict["OPTIONS"].items() if name != "pool"}
    options["options"] = f"{options.get('options', '')} -c default_transaction_read_only=on"
    connections.settings[replica.ALIAS] = connection.settings_dict | {"OPTIONS": options}
    connections[replica.ALIAS].connect()  # Django's test case would refuse it later: it does not know this database
    known = freshness.Freshness()
    used: list[str] = []
    monkeypatch.setattr(replica, "STANDBY", replica.Standby(known))
    monkeypatch.setattr(replica, "configured", lambda: True)
    monkeypatch.setattr(replica, "REPLAYED", REPLAYED)
    monkeypatch.setattr(router, "routers", [replica.Router()])
    for name in ("query", "together"):
        monkeypatch.setattr(pipeline.Pipeline, name, noting(getattr(pipeline.Pipeline, name), used))
    effects.catch_up(effects.subscription(name="follower", handle=lambda _events: None))
    known.start(head.epoch(), head.safe())
    known.trusted_until = float("inf")
    yield used
    connections[replica.ALIAS].close()
    del connections[replica.ALIAS]
    del connections.settings[replica.ALIAS]


def noting(query: Any, used: list[str]) -> Any:
    def noted(self: pipeline.Pipeline, *arguments: Any) -> Any:
        used.append(self.db.alias)
        return query(self, *arguments)

    return noted


@pytest.fixture
def user(transactional_db: None) -> User:
    return User.objects.get(pk=factories.user())


@pytest.fixture
def browser(user: User) -> Client:
    staff = Staff.objects.create(username="admin", role="admin", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(staff)
    return client


def from_standby(used: list[str], client: Client, url: str, **given: Any) -> int:
    """How many statements of the store a request sends to the standby. Those of the ORM are no session and no login."""
    used.clear()
    with CaptureQueriesContext(connections[replica.ALIAS]) as caught:
        assert client.get(url, **given).status_code == 200
    through_orm = [query["sql"] for query in caught.captured_queries]
    assert [sql for sql in through_orm if '"staff"' in sql or "django_session" in sql] == []
    return used.count(replica.ALIAS)


def test_list_is_read_from_the_standby_as_far_as_the_browser_has_seen(
    browser: Client, user: User, read_from: list[str]
) -> None:
    url = "/admin/backoffice/user/"
    assert from_standby(read_from, browser, url) == 0, "its position is not known yet"
    assert int(browser.cookies[standby.COOKIE].value) == head.newest()
    assert from_standby(read_from, browser, url) > 0
    browser.cookies[standby.COOKIE] = str(head.newest() + 1)
    assert from_standby(read_from, browser, url) == 0, "the standby does not have what it has seen"


def test_keys_and_rows_of_a_list_are_read_from_one_server(browser: Client, user: User, read_from: list[str]) -> None:
    browser.cookies[standby.COOKIE] = str(head.newest())
    for query in ("q=ada", "deleted=any", "q=ada&deleted=any"):
        with CaptureQueriesContext(connection) as primary:
            assert from_standby(read_from, browser, f"/admin/backoffice/user/?{query}") > 0
        sent = [one["sql"] for one in primary.captured_queries]
        assert not [sql for sql in sent if '"users"' in sql or "search_text" in sql], query


def test_history_is_read_from_the_standby_and_writes_go_to_the_primary(
    browser: Client, user: User, read_from: list[str]
) -> None:
    browser.cookies[standby.COOKIE] = str(head.newest())
    read_from.clear()
    assert browser.get(f"/admin/backoffice/user/{user.pk}/history/").status_code == 200
    assert replica.ALIAS in read_from
    read_from.clear()
    store.append(f"user-{user.pk}", [effects.UserUpdated(first_name="Grace")])
    assert set(read_from) <= {"default"}


def test_position_of_a_browser_rises_with_what_it_writes(browser: Client, user: User, read_from: list[str]) -> None:
    browser.get("/admin/backoffice/user/")
    before = int(browser.cookies[standby.COOKIE].value)
    body = {"id": str(new_id()), "type": "user.update", "key": str(user.pk), "data": {"first_name": "Grace"}}
    answer = browser.post("/api/v1/commands/", body, content_type="application/json")
    assert answer.status_code == 200, answer.content
    assert int(browser.cookies[standby.WRITTEN].value) == head.newest() > before
    assert int(browser.cookies[standby.COOKIE].value) == before, "the answer to an earlier request may still set it"
    assert from_standby(read_from, browser, "/admin/backoffice/user/") == 0, "the standby does not have what it wrote"


def test_lists_of_conflicts_and_events_are_read_from_the_standby(
    browser: Client, user: User, read_from: list[str]
) -> None:
    factories.update(user.pk, first_name="Grace")
    edit = factories.command(users.UpdateUser(first_name="Joan"), user.pk, base_version=1)
    with pytest.raises(errors.Conflict):
        entry_point.dispatch(edit, Staff.objects.get())
    follow()
    conflict = Conflict.objects.get()
    conflicts = "/admin/backoffice/conflict/"
    for url in ("/admin/events/storedevent/", conflicts, f"{conflicts}rows/?ids={conflict.pk}", "/api/v1/conflicts/"):
        browser.cookies[standby.COOKIE] = ""
        assert from_standby(read_from, browser, url) == 0, url
        browser.cookies[standby.COOKIE] = str(head.newest())
        with CaptureQueriesContext(connections[replica.ALIAS]) as caught:
            used = from_standby(read_from, browser, url)
        assert used or [query for query in caught.captured_queries if '"conflicts"' in query["sql"]], url


def test_program_names_its_position_in_a_header(browser: Client, user: User, read_from: list[str]) -> None:
    position = {standby.HEADER: str(head.newest())}
    assert from_standby(read_from, browser, "/api/v1/users/") == 0
    assert from_standby(read_from, browser, "/api/v1/users/", headers=position) > 0
    assert from_standby(read_from, browser, "/api/v1/users/", headers={standby.HEADER: "-1"}) == 0
    assert from_standby(read_from, browser, "/api/v1/events/?consistent=1", headers=position) == 0


def test_answer_that_the_standby_fails_comes_from_the_primary(
    browser: Client, user: User, read_from: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.cookies[standby.COOKIE] = str(head.newest())
    for url in ("/admin/backoffice/user/", "/api/v1/users/", "/api/v1/events/"):
        monkeypatch.setattr(replica.STANDBY, "_silent_until", 0.0)
        monkeypatch.setattr(replica.STANDBY, "usable", lambda _position: True)
        connections[replica.ALIAS].close()
        connections[replica.ALIAS].connect()
        with connections[replica.ALIAS].cursor() as cursor:
            cursor.execute("select pg_backend_pid()")
            pid = cursor.fetchone()[0]
        store.query("select pg_terminate_backend(%s)", (pid,))
        assert browser.get(url).status_code == 200
        assert replica.STANDBY._silent_until > 0.0


def test_figures_are_read_from_the_standby_as_far_as_the_page_was_notified(
    browser: Client, user: User, read_from: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    form = factories.form(user.pk)
    counting.follow()
    follow()
    history = "/api/v1/metrics/history/?metric=cpu.percent&range=15m"
    urls = ["/admin/figures/", "/admin/figures/submissions.csv", f"/admin/figures/form/{form}/", history]
    for url in urls:
        browser.cookies[standby.COOKIE] = ""
        assert from_standby(read_from, browser, url) == 0, url
        browser.cookies[standby.COOKIE] = str(head.newest())
        assert from_standby(read_from, browser, url) > 0, url
    assert from_standby(read_from, browser, f"{history}&after=1") == 0, "a chart asks for its newest samples"
    browser.cookies[standby.COOKIE] = "1"
    assert from_standby(read_from, browser, "/admin/figures/") > 0
    assert int(browser.cookies[standby.COOKIE].value) == head.newest(), "later pages include what it has shown"
    asked: list[int] = []
    monkeypatch.setattr(replica.STANDBY, "usable", lambda position: bool(asked.append(position)))
    browser.cookies[standby.COOKIE] = "1"
    assert from_standby(read_from, browser, f"/admin/figures/?position={head.newest()}") == 0
    assert asked == [head.newest()]


# -- exports ----------------------------------------------------------------------------------------------------------


def follow() -> None:
    """Bring what the standby knows up to the end of the log."""
    effects.catch_up(effects.subscription(name="follower", handle=lambda _events: None))


@pytest.fixture(params=[True, False], ids=["complete", "behind"])
def complete(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the standby has replayed everything once an export begins; if not, the export does not wait."""
    monkeypatch.setattr(export_reads, "PATIENCE", 0.0)
    if not request.param:
        monkeypatch.setattr(replica, "REPLAYED", REPLAYED.replace(">=", "is null and null is distinct from"))
    return bool(request.param)


def test_export_of_a_person_is_read_from_a_standby_that_has_everything(
    browser: Client, user: User, read_from: list[str], complete: bool
) -> None:
    factories.submission(factories.form(user.pk), q="Zoelinde")
    read_from.clear()
    with CaptureQueriesContext(connections[replica.ALIAS]) as caught:
        answer = browser.post(f"/api/v1/users/{user.pk}/export/")
        found = json.loads(b"".join(answer.streaming_content))  # type: ignore[attr-defined]
    assert [row["answers"] for row in found["submissions"]] == [{"q": "Zoelinde"}]
    assert found["audit"][0]["data"]["way"] == "api", "the record of this very export"
    assert any('"submissions"' in query["sql"] for query in caught.captured_queries) is complete
    assert (replica.ALIAS in read_from) is complete


def test_export_by_a_worker_is_read_from_the_standby_inside_of_its_transactions(
    user: User, read_from: list[str], complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.submission(factories.form(user.pk), q="Zoelinde")
    monkeypatch.setattr(export_jobs.jobs, "send", lambda *_arguments: None)  # the queue of the tests has no worker
    wanted = export_jobs.request(user)
    read_from.clear()
    with CaptureQueriesContext(connections[replica.ALIAS]) as caught:
        export_jobs.make(wanted.pk)
    assert any('"submissions"' in query["sql"] for query in caught.captured_queries) is complete
    made = PersonExport.objects.get(pk=wanted.pk)
    assert made.finished_at
    assert b"Zoelinde" in b"".join(export_jobs.download(made))


def test_events_are_exported_from_the_standby(user: User, read_from: list[str], complete: bool, tmp_path: Path) -> None:
    before = head.newest()  # the log has the events of earlier tests
    factories.user()
    read_from.clear()
    call_command("export_events", tmp_path / "log.jsonl", after=before, stderr=io.StringIO())
    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    wanted = [event.position for event in store.read_all(before, 10, upto=head.safe())]
    assert [json.loads(line)["position"] for line in lines] == wanted != []
    assert (read_from.count(replica.ALIAS) > 0) is complete


def test_export_that_the_standby_interrupts_is_continued_on_the_primary(user: User, read_from: list[str]) -> None:
    reads = export_reads.ExportReads()
    assert reads.run(replica.alias) == replica.ALIAS

    def interrupted() -> str:
        if replica.alias() == replica.ALIAS:
            with connections[replica.ALIAS].cursor() as cursor:
                cursor.execute("do $$ begin raise exception 'conflict with recovery' using errcode = '40001'; end $$")
        return replica.alias()

    assert reads.run(interrupted) == "default"
    assert reads.run(replica.alias) == "default", "for a while"
