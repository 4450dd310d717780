"""Pages and API are read from a standby only where it has what the reader has seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections, router
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice import standby
from backoffice.models import Staff, User
from events import freshness, head, store
from events.db import pipeline, replica
from events.types import new_id
from tests import factories
from tests.events import effects

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def read_from() -> Iterator[list[str]]:
    """A second connection in the place of a standby; the databases of the statements of the store, in order."""
    options = {name: option for name, option in connection.settings_dict["OPTIONS"].items() if name != "pool"}
    connections.settings[replica.ALIAS] = connection.settings_dict | {"OPTIONS": options}
    connections[replica.ALIAS].connect()  # Django's test case would refuse it later: it does not know this database
    known = freshness.Freshness()
    used: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replica, "STANDBY", replica.Standby(known))
        patch.setattr(replica, "configured", lambda: True)
        patch.setattr(router, "routers", [replica.Router()])
        for name in ("query", "together"):
            patch.setattr(pipeline.Pipeline, name, noting(getattr(pipeline.Pipeline, name), used))
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
