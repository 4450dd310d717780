"""A socket ends with its session, its login and its key, however these end: nobody has to announce it.

No relay runs here and the recheck by the clock is an hour away, so nothing but the look at the rows can notice.
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
from tests.realtime.harness import Server, Writer, play
from tests.realtime.test_safety import farewell


@pytest.fixture(scope="module")
def _server(django_db_setup: None) -> Iterator[Server]:
    with Server(look_every=0.05, recheck_every=3600.0, handshakes_per_minute=6000.0) as running:
        yield running


def execute(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def sign_in_over(key: str) -> None:
    """Somebody else signs in in the same browser."""
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
def test_a_socket_ends_with_its_session(server: Server, writer: Writer, how: str) -> None:
    _, session = harness.sign_in("agent")

    async def scene() -> None:
        async with server.raw(session) as connected:
            await harness.receive(connected, frames.Welcome)
            await writer.do(ENDS[how], session)
            assert await farewell(connected) == frames.REVOKED

    play(scene())


KEY_ENDS: dict[str, str] = {
    "revoked by SQL": "update backoffice_apikey set revoked_at = now()",
    "deleted by SQL": "delete from backoffice_apikey",
    "expired by SQL": "update backoffice_apikey set expires_at = now()",
    "without its owner": "update staff set is_active = false",
}


@pytest.mark.parametrize("how", KEY_ENDS)
def test_a_socket_ends_with_its_key(server: Server, writer: Writer, how: str) -> None:
    staff, _ = harness.sign_in("manager")
    _, token = keys.create(name="a program", owner=staff, scopes=["users:read"])

    async def scene() -> None:
        async with client.Client(server.url, token=token) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(execute, KEY_ENDS[how])
            with pytest.raises(client.Stopped) as stopped:
                await harness.next_of(items, frames.EventFrame)
            assert stopped.value.code == frames.REVOKED

    play(scene())


def test_a_role_changed_by_sql_takes_its_topics_away(server: Server, writer: Writer) -> None:
    _, session = harness.sign_in("manager")

    async def scene() -> None:
        async with server.client(session) as live:
            await live.follow("users", "settings")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(execute, "update staff set role = 'viewer' where username = 'manager'")
            reset = await harness.next_of(items, frames.Reset)
            assert (reset.topics, reset.reason) == (["settings"], "forbidden")

    play(scene())


def test_other_peoples_sockets_stay(server: Server, writer: Writer) -> None:
    (_, gone), (_, stays) = harness.sign_in("agent"), harness.sign_in("manager")

    async def scene() -> None:
        async with server.raw(gone) as first, server.client(stays) as second:
            await harness.receive(first, frames.Welcome)
            await second.follow("users")
            items = aiter(second)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(execute, "delete from django_session where session_key = %s", gone)
            assert await farewell(first) == frames.REVOKED
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items, frames.EventFrame)).position == position
            assert second.connected == 1

    play(scene())


def test_all_sockets_of_a_process_cost_one_statement_a_look(transactional_db: None) -> None:
    """However many they are; and where there are none, the database is not asked."""
    asked: list[int] = []

    class Counting(log_reader.Log):
        async def ask(self, question: Any) -> Any:
            asked.append(1)
            return await super().ask(question)

    found = [harness.sign_in("agent")[1] for _ in range(50)]

    async def scene() -> set[versions.Row]:
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

    changed = play(scene())
    assert [row.key for row in changed] == [found[0]]
    assert len(asked) == 2


def _delete(key: str) -> None:
    try:
        execute("delete from django_session where session_key = %s", key)
    finally:
        connection.close()


def test_where_there_are_no_rows_to_watch_each_socket_is_checked_as_often(
    server: Server, writer: Writer, settings: Any
) -> None:
    """Sessions kept elsewhere than in the database."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    _, session = harness.sign_in("agent")

    async def scene() -> None:
        async with server.raw(session) as connected:
            await harness.receive(connected, frames.Welcome)
            await writer.do(execute, "update staff set is_active = false")
            assert await farewell(connected) == frames.REVOKED

    play(scene())


def test_the_limit_keeps_the_promise_of_a_second(transactional_db: None) -> None:
    assert conf.Limits().look_every + conf.Limits().tick < 1.0
