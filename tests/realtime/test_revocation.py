"""A socket ends with its session, login or key, even when these end without an event.

No relay runs here and the recheck interval is an hour, so only the check of the rows can notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import login
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest

from backoffice import models
from backoffice.sections.staff import keys
from realtime import auth, client, conf, frames, log_reader, versions
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario
from tests.realtime.test_safety import close_code


@pytest.fixture(scope="module")
def _server(django_db_setup: None) -> Iterator[Server]:
    with Server(look_every=0.05, recheck_every=3600.0, handshakes_per_minute=6000.0) as running:
        yield running


def execute(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def sign_in_over(key: str) -> None:
    """Sign in another person in the same browser."""
    other, _ = harness.sign_in("manager")
    request = HttpRequest()
    request.session = SessionStore(key)
    login(request, other, "django.contrib.auth.backends.ModelBackend")
    request.session.save()


def change_password(name: str) -> None:
    user = models.Staff.objects.get(username=name)
    user.set_password("another long pass phrase")
    user.save()


ENDS: dict[str, Callable[[str], object]] = {
    "somebody else signs in over it": sign_in_over,
    "the password is changed": lambda _key: change_password("agent"),
    "the row is deleted": lambda key: execute("delete from django_session where session_key = %s", key),
    "it is set to expire": lambda key: execute("update django_session set expire_date = now()"),
    "its data is overwritten": lambda key: execute("update django_session set session_data = ''"),
    "clearsessions finds it expired": lambda key: (
        execute("update django_session set expire_date = now() - interval '1 s'"),
        call_command("clearsessions"),
    ),
    "the login is deactivated by SQL": lambda _key: execute("update staff set is_active = false"),
    "the login is deleted by SQL": lambda _key: execute("delete from staff where username = 'agent'"),
}


@pytest.mark.parametrize("how", ENDS)
def test_socket_ends_with_its_session(server: Server, writer: Writer, how: str) -> None:
    _, session = harness.sign_in("agent")

    async def scenario() -> None:
        async with server.raw(session) as connected:
            await harness.receive(connected, frames.Welcome)
            await writer.do(ENDS[how], session)
            assert await close_code(connected) == frames.REVOKED

    run_scenario(scenario())


KEY_ENDS: dict[str, str] = {
    "revoked by SQL": "update backoffice_apikey set revoked_at = now()",
    "deleted by SQL": "delete from backoffice_apikey",
    "expired by SQL": "update backoffice_apikey set expires_at = now()",
    "without its owner": "update staff set is_active = false",
}


@pytest.mark.parametrize("how", KEY_ENDS)
def test_socket_ends_with_its_key(server: Server, writer: Writer, how: str) -> None:
    staff, _ = harness.sign_in("manager")
    _, token = keys.create(name="a program", owner=staff, scopes=["users:read"])

    async def scenario() -> None:
        async with client.Client(server.url, token=token) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(execute, KEY_ENDS[how])
            with pytest.raises(client.Stopped) as stopped:
                await harness.next_of(items, frames.EventFrame)
            assert stopped.value.code == frames.REVOKED

    run_scenario(scenario())


def test_role_changed_by_sql_removes_topics(server: Server, writer: Writer) -> None:
    _, session = harness.sign_in("manager")

    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users", "settings")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(execute, "update staff set role = 'viewer' where username = 'manager'")
            reset = await harness.next_of(items, frames.Reset)
            assert (reset.topics, reset.reason) == (["settings"], "forbidden")

    run_scenario(scenario())


def test_sockets_of_other_people_stay_open(server: Server, writer: Writer) -> None:
    (_, gone), (_, stays) = harness.sign_in("agent"), harness.sign_in("manager")

    async def scenario() -> None:
        async with server.raw(gone) as first, server.client(stays) as second:
            await harness.receive(first, frames.Welcome)
            await second.follow("users")
            items = aiter(second)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(execute, "delete from django_session where session_key = %s", gone)
            assert await close_code(first) == frames.REVOKED
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items, frames.EventFrame)).position == position
            assert second.connected == 1

    run_scenario(scenario())


def test_check_of_all_sockets_of_a_process_costs_one_statement(transactional_db: None) -> None:
    """The number of sockets does not matter; without sockets there is no query."""
    asked: list[int] = []

    class Counting(log_reader.LogReader):
        async def query(self, work: Any) -> Any:
            asked.append(1)
            return await super().query(work)

    found = [harness.sign_in("agent")[1] for _ in range(50)]

    async def scenario() -> set[versions.Row]:
        reader = Counting()
        await reader.open()
        try:
            identities = [await auth.identify_session(key, reader) for key in found]
            rows = [row for one in identities if one is not None for row in one.rows]
            assert len(rows) == 100
            asked.clear()
            assert await versions.changed([], reader) == set()
            assert asked == []
            assert await versions.changed(rows, reader) == set()
            assert len(asked) == 1
            await asyncio.to_thread(_delete, found[0])
            return await versions.changed(rows, reader)
        finally:
            await reader.close()

    changed = run_scenario(scenario())
    assert [row.key for row in changed] == [found[0]]
    assert len(asked) == 2


def _delete(key: str) -> None:
    try:
        execute("delete from django_session where session_key = %s", key)
    finally:
        connection.close()


def test_socket_without_rows_to_watch_is_checked_at_the_same_interval(
    server: Server, writer: Writer, settings: Any
) -> None:
    """Sessions are stored outside the database."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    _, session = harness.sign_in("agent")

    async def scenario() -> None:
        async with server.raw(session) as connected:
            await harness.receive(connected, frames.Welcome)
            await writer.do(execute, "update staff set is_active = false")
            assert await close_code(connected) == frames.REVOKED

    run_scenario(scenario())


def test_default_intervals_end_a_socket_within_a_second(transactional_db: None) -> None:
    assert conf.Limits().look_every + conf.Limits().tick < 1.0
