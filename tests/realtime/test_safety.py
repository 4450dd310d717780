"""Who may connect, what they may see, and how it ends when that changes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.test import override_settings
from django.utils import timezone
from websockets.exceptions import InvalidStatus

from backoffice import topics as product
from backoffice.models import Staff
from backoffice.sections.staff import keys
from backoffice.sections.staff.domain import (
    StaffDeactivated,
    StaffLoggedOut,
    StaffPasswordChanged,
    StaffRoleChanged,
    StaffSessionRevoked,
)
from backoffice.sections.users.domain import UserUpdated
from events import types
from realtime import auth, client, conf, frames, log_reader, session_reader, sockets, topics
from tests import costs
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, play


async def goodbye(server: Server, session: str | None, **options: Any) -> tuple[frames.Goodbye, int]:
    """The farewell of a handshake that is refused inside the socket."""
    async with server.raw(session, **options) as connection:
        said = await harness.receive(connection, frames.Goodbye)
        with pytest.raises(harness.Closed) as closed:
            await connection.recv()
        return said, closed.value.rcvd.code


# -- the handshake --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "http://127.0.0.1.evil"]
)
def test_a_cookie_from_anywhere_but_the_exact_origin_is_refused(
    server: Server, session: str, origin: str | None
) -> None:
    async def scene() -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with server.raw(session, origin=origin):
                pass
        assert refused.value.response.status_code == 403

    play(scene())


@pytest.mark.parametrize(
    ("origin", "host", "allowed_origins", "allowed_hosts", "allowed"),
    [
        ("https://a.example", "a.example", ["https://a.example"], [], True),
        ("https://a.example", "a.example", ["https://A.example:443/"], [], True),
        ("https://xn--bcher-kva.example", "x", ["https://bücher.example"], [], True),
        ("http://[::1]:8000", "[::1]:8000", ["http://[::1]:8000"], [], True),
        ("https://A.example", "a.example", ["https://a.example"], [], False),
        ("https://a.example:443", "a.example", ["https://a.example"], [], False),
        ("https://a.example/", "a.example", ["https://a.example"], [], False),
        ("https://a.example/path", "a.example", ["https://a.example"], [], False),
        ("https://a.example?", "a.example", ["https://a.example"], [], False),
        ("https://me@a.example", "a.example", ["https://a.example"], [], False),
        ("https://a.example.", "a.example", ["https://a.example"], [], False),
        (" https://a.example", "a.example", ["https://a.example"], [], False),
        ("https://a.example https://evil.example", "a.example", ["https://a.example"], [], False),
        ("https://a.example\x0bX-Forwarded-For: 1.2.3.4", "a.example", ["https://a.example"], [], False),
        ("https://bücher.example", "x", ["https://bücher.example"], [], False),
        ("http://A.example:8000", "A.example:8000", [], ["a.example"], False),
        ("http://a.example", "a.example", ["https://a.example"], [], False),
        ("https://a.example:8443", "a.example", ["https://a.example"], [], False),
        ("https://b.a.example", "b.a.example", ["https://a.example"], [".a.example"], False),
        ("http://a.example:8000", "a.example:8000", [], ["a.example"], True),
        ("http://a.example:8001", "a.example:8000", [], ["a.example"], False),
        ("http://evil.example", "evil.example", [], ["a.example"], False),
        ("http://[bad", "a.example", [], ["a.example"], False),
    ],
)
def test_origins_are_compared_by_scheme_host_and_port(
    settings: Any, origin: str, host: str, allowed_origins: list[str], allowed_hosts: list[str], allowed: bool
) -> None:
    settings.ALLOWED_ORIGINS, settings.ALLOWED_HOSTS, settings.DEBUG = allowed_origins, allowed_hosts, False
    headers = {b"origin": origin.encode("latin-1"), b"host": host.encode()}
    assert auth.origin_allowed(headers, "http") is allowed


def test_nobody_signed_in_is_told_so_inside_the_socket_and_not_to_come_back(server: Server) -> None:
    async def scene() -> None:
        said, code = await goodbye(server, None)
        assert (said.code, said.retry_ms, code) == (frames.REVOKED, None, frames.REVOKED)
        assert (await goodbye(server, "no-such-session"))[1] == frames.REVOKED

    play(scene())


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!another"}])
def test_a_session_that_django_would_not_accept_opens_no_socket(server: Server, change: dict[str, Any]) -> None:
    staff, session = harness.sign_in()
    Staff.objects.filter(pk=staff.pk).update(**change)

    async def scene() -> None:
        assert (await goodbye(server, session))[1] == frames.REVOKED

    play(scene())


def change_row(stored: SessionStore, **values: Any) -> None:
    Session.objects.filter(pk=stored.session_key).update(**values)


def sign_anew(stored: SessionStore, staff: Staff, secret: str) -> None:
    with override_settings(SECRET_KEY=secret):
        stored[HASH_SESSION_KEY] = staff.get_session_auth_hash()
        stored.save()


def put(stored: SessionStore, **values: Any) -> None:
    stored.update(values)
    stored.save()


# What may be the matter with a session; it is changed in place.
MATTERS: dict[str, Callable[[SessionStore, Staff], object]] = {
    "nothing": lambda _stored, _staff: None,
    "expired": lambda stored, _: change_row(stored, expire_date=timezone.now() - timedelta(seconds=1)),
    "tampered with": lambda stored, _: change_row(stored, session_data=stored.encode({"x": 1})[:-1] + "!"),
    "signed by another key": lambda stored, staff: sign_anew(stored, staff, "somebody else's"),
    "under a key being rotated out": lambda stored, staff: sign_anew(stored, staff, "the old key"),
    "of somebody deactivated": lambda _, staff: Staff.objects.filter(pk=staff.pk).update(is_active=False),
    "of somebody deleted": lambda _, staff: staff.delete(),
    "of an older password": lambda _, staff: Staff.objects.filter(pk=staff.pk).update(password="!another"),
    "with another hash": lambda stored, _: put(stored, **{HASH_SESSION_KEY: "0" * 64}),
    "without a hash": lambda stored, _: put(stored, **{HASH_SESSION_KEY: ""}),
    "by a backend not installed": lambda stored, _: put(stored, **{BACKEND_SESSION_KEY: "a.b.Backend"}),
    "of nobody": lambda stored, _: stored.flush(),
}
SOUND = {"nothing", "under a key being rotated out"}


def read_quickly(key: str) -> auth.Identity | None:
    async def scene() -> auth.Identity | None:
        reader = log_reader.Log()
        await reader.open()
        try:
            return await auth.identify_session(key, reader)
        finally:
            await reader.close()

    return play(scene())


@pytest.mark.parametrize("matter", MATTERS)
def test_the_quick_look_at_a_session_finds_what_django_finds(
    transactional_db: None, settings: Any, matter: str
) -> None:
    settings.SECRET_KEY_FALLBACKS = ["the old key"]
    staff, key = harness.sign_in()
    stored = SessionStore(key)
    assert stored[SESSION_KEY]  # read now, under the key in force
    assert read_quickly(key) is not None  # whose it was is remembered from here on
    MATTERS[matter](stored, staff)
    assert session_reader.usable()
    quick = read_quickly(key)
    request = HttpRequest()
    request.session = SessionStore(key)
    assert (quick is not None) is get_user(request).is_authenticated is (matter in SOUND)
    if quick is not None:
        assert quick.principal == staff
        assert quick.session == auth.session_digest(key)


def test_a_session_that_changed_hands_is_its_new_owners(transactional_db: None) -> None:
    _, key = harness.sign_in("agent")
    other, theirs = harness.sign_in("manager")
    assert read_quickly(key) is not None
    put(SessionStore(key), **{name: SessionStore(theirs)[name] for name in (SESSION_KEY, HASH_SESSION_KEY)})
    quick = read_quickly(key)
    assert quick is not None
    assert quick.principal == other


def test_a_session_of_no_number_is_nobody(transactional_db: None) -> None:
    """Django's own `get_user` fails on it."""
    _, key = harness.sign_in()
    put(SessionStore(key), **{SESSION_KEY: "1' or true --"})
    assert read_quickly(key) is None


@pytest.mark.parametrize("key", ["short", "no-such-session-at-all", "a zero in the key \0 is no text"])
def test_what_is_no_session_key_is_nobody(transactional_db: None, key: str) -> None:
    assert read_quickly(key) is None


def test_sessions_kept_elsewhere_are_left_to_django(
    server: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    _, session = harness.sign_in()
    monkeypatch.setattr(session_reader, "of_session", None)

    async def scene() -> None:
        async with server.raw(session) as connection:
            assert (await harness.receive(connection, frames.Welcome)).user.name == "admin"

    play(scene())


def test_an_unknown_version_is_told_to_stop(server: Server, session: str) -> None:
    async def scene() -> None:
        said, code = await goodbye(server, session, subprotocols=["formease.admin.v9"])
        assert (said.code, code, said.retry_ms) == (frames.VERSION, frames.VERSION, None)

    play(scene())


def test_another_path_is_not_a_socket(server: Server, session: str) -> None:
    async def scene() -> None:
        async with harness.ws.connect(server.url.replace("admin", "other"), origin=server.origin):
            pass

    with pytest.raises(InvalidStatus):
        play(scene())


def test_a_bearer_token_needs_no_origin(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    staff, _ = harness.sign_in("viewer")

    def known(token: str) -> auth.Identity | None:
        if token != "fe_key.secret":
            return None
        return auth.Identity(principal=staff, person="key:1", name="a program", again=lambda: known(token))

    monkeypatch.setattr(auth, "TOKEN_AUTHENTICATORS", [lambda _token: None, known])

    async def scene() -> None:
        async with client.Client(server.url, token="fe_key.secret") as live:
            await live.follow("users", "settings")
            answer = await harness.next_of(aiter(live), frames.Subscribed)
            assert answer.topics == ["users"]
            assert live.welcome.user.name == "a program"
        async with client.Client(server.url, token="fe_key.wrong") as live:
            with pytest.raises(client.Stopped) as stopped:
                await anext(aiter(live))
            assert stopped.value.code == frames.REVOKED

    play(scene())


def test_a_person_has_a_limited_number_of_connections(session: str) -> None:
    async def scene(server: Server) -> None:
        async with server.raw(session) as first, server.raw(session) as second:
            await harness.receive(first, frames.Welcome)
            await harness.receive(second, frames.Welcome)
            assert (await goodbye(server, session))[1] == frames.TOO_MANY
        await server.until(lambda: not server.hub.sockets)
        async with server.raw(session) as third:
            await harness.receive(third, frames.Welcome)

    with Server(connections_per_person=2) as server:
        play(scene(server))


def test_handshakes_of_one_address_are_limited(session: str) -> None:
    async def scene(server: Server) -> None:
        for _ in range(3):
            async with server.raw(session) as connection:
                await harness.receive(connection, frames.Welcome)
        said, code = await goodbye(server, session)
        assert (code, said.reason) == (frames.TOO_MANY, "too many handshakes")
        assert said.retry_ms

    with Server(handshakes_per_minute=3.0) as server:
        play(scene(server))


# -- frames in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "request_id"),
    [
        ('{"type":"dance","id":7}', "unknown_type", 7),
        ('{"type":"subscribe","id":"a","topics":"users"}', "invalid_frame", "a"),
        ('{"type":"subscribe","id":"a","topics":[]}', "invalid_frame", "a"),
        ('{"type":"ack","position":-1}', "invalid_frame", None),
        ('{"type":"presence","topic":"users","state":"dancing"}', "invalid_frame", None),
        ('{"type":"presence","topic":"users","state":"viewing"}', "not_subscribed", None),
        ("{]", "not_json", None),
        ("[]", "invalid_frame", None),
    ],
)
def test_a_frame_that_is_wrong_gets_an_error_and_the_connection_stays(
    server: Server, session: str, text: str, code: str, request_id: Any
) -> None:
    async def scene() -> None:
        async with server.raw(session) as connection:
            await connection.send(text)
            error = await harness.receive(connection, frames.Error)
            assert (error.code, error.id) == (code, request_id)
            await connection.send('{"type":"subscribe","id":1,"topics":["users"],"new_field":true}')
            await harness.receive(connection, frames.Subscribed)

    play(scene())


def test_a_frame_that_is_too_big_ends_the_connection(server: Server, session: str) -> None:
    async def scene() -> None:
        async with server.raw(session) as connection:
            await connection.send('{"type":"pong","n":1,"x":"' + "é" * 40_000 + '"}')
            assert (await harness.receive(connection, frames.Goodbye)).code == frames.TOO_BIG

    play(scene())


def test_a_client_that_talks_too_much_is_sent_away_for_a_while(server: Server, session: str) -> None:
    async def scene() -> None:
        async with server.raw(session) as connection:
            for _ in range(200):
                await connection.send('{"type":"visibility","hidden":true}')
            said = await harness.receive(connection, frames.Goodbye)
            assert said.code == frames.TOO_MANY
            assert said.retry_ms

    play(scene())


def test_topics_that_are_unknown_forbidden_or_too_many_are_denied_one_by_one(server: Server) -> None:
    _, session = harness.sign_in("agent")

    async def scene() -> None:
        async with server.raw(session) as connection:
            records = [f"user:{number}" for number in range(205)]
            wanted = ["users", "settings", "nonsense", "user:", *records]
            await connection.send(frames.encode(frames.Subscribe(id=1, topics=wanted)))
            answer = await harness.receive(connection, frames.Subscribed)
            denied = {denied.topic: denied.code for denied in answer.denied}
            assert (denied["settings"], denied["nonsense"], denied["user:"]) == ("forbidden", "unknown", "unknown")
            assert [denied[f"user:{number}"] for number in range(199, 205)] == ["limit"] * 6
            assert len(answer.topics) == 200

    play(scene())


# -- what is shown --------------------------------------------------------------------------------------------------


def test_each_role_sees_only_its_fields_and_each_view_is_encoded_once(
    server: Server, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected: list[tuple[int, str]] = []
    users = topics.find("users")[0]

    def counting(event: types.RecordedEvent, role: str) -> types.JsonDict:
        projected.append((event.position, role))
        return product.show(event, role)

    monkeypatch.setitem(users.__dict__, "project", counting)
    sessions = {role: harness.sign_in(role)[1] for role in ("admin", "viewer")}

    async def scene() -> None:
        async with (
            server.client(sessions["admin"]) as first,
            server.client(sessions["admin"]) as second,
            server.client(sessions["viewer"]) as viewer,
        ):
            readers = [first, second, viewer]
            items = [aiter(live) for live in readers]
            for live, one in zip(readers, items, strict=True):
                await live.follow("users")
                await harness.next_of(one, frames.Subscribed)
            position = await writer.append(harness.new_user(), UserUpdated(first_name="Ada", email="ada@example.org"))
            seen = [(await harness.next_of(one, frames.EventFrame)).data for one in items]
            full = {"first_name": "Ada", "email": "ada@example.org"}
            assert seen == [full, full, {"first_name": "Ada"}]
            assert sorted(role for at, role in projected if at == position) == ["admin", "viewer"]

    play(scene())


def test_an_event_whose_projection_fails_is_hidden_and_the_next_one_shown(
    server: Server, writer: Writer, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = topics.find("users")[0]
    whole = users.project

    def fragile(event: types.RecordedEvent, key: str) -> types.JsonDict | None:
        if event.data.get("first_name") == "Bobby Tables":
            raise ValueError("a bug")
        return whole(event, key)

    monkeypatch.setitem(users.__dict__, "project", fragile)

    async def scene() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.rename(harness.new_user(), "Bobby Tables")
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items, frames.EventFrame)).position == position

    play(scene())


# -- taking it away -------------------------------------------------------------------------------------------------


async def staff_event(writer: Writer, staff: Staff, event: types.Event) -> int:
    return await writer.append(f"staff-{staff.pk}", event)


@pytest.mark.parametrize("kind", ["revoked", "logged out", "deactivated"])
def test_a_revocation_closes_the_live_socket_and_nothing_comes_after_it(
    server: Server, writer: Writer, kind: str
) -> None:
    staff, session = harness.sign_in("agent")
    event = {
        "revoked": StaffSessionRevoked(),
        "logged out": StaffLoggedOut(session=auth.session_digest(session)),
        "deactivated": StaffDeactivated(),
    }[kind]
    _, other = harness.sign_in("manager")

    async def scene() -> None:
        async with server.client(session) as live, server.client(other) as bystander:
            items, others = aiter(live), aiter(bystander)
            for one, reader in ((live, items), (bystander, others)):
                await one.follow("users")
                await harness.next_of(reader, frames.Subscribed)
            last = await writer.rename(harness.new_user())
            await staff_event(writer, staff, event)
            after = await writer.rename(harness.new_user())
            assert (await harness.next_of(items, frames.EventFrame)).position == last
            with pytest.raises(client.Stopped) as stopped:
                await harness.next_of(items, frames.EventFrame)
            assert stopped.value.code == frames.REVOKED
            assert (await harness.events_until(others, after))[-1].position == after

    play(scene())


def test_a_revoked_session_leaves_the_persons_other_sessions_open(server: Server, writer: Writer) -> None:
    staff, first = harness.sign_in("agent")
    _, second = harness.sign_in("agent")

    async def scene() -> None:
        async with server.client(first) as gone, server.client(second) as stays:
            items = aiter(stays)
            for live in (gone, stays):
                await live.follow("users")
            await harness.next_of(items, frames.Subscribed)
            await harness.next_of(aiter(gone), frames.Subscribed)
            await staff_event(writer, staff, StaffLoggedOut(session=auth.session_digest(first)))
            with pytest.raises(client.Stopped):
                await harness.next_of(aiter(gone), frames.EventFrame)
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items, frames.EventFrame)).position == position

    play(scene())


def test_a_revoked_key_loses_its_sockets_and_nobody_elses_are_touched(server: Server, writer: Writer) -> None:
    staff, session = harness.sign_in("manager")
    (key, token), (_, other) = (keys.create(name=name, owner=staff, scopes=["users:read"]) for name in "ab")

    async def scene() -> None:
        async with (
            client.Client(server.url, token=token) as revoked,
            client.Client(server.url, token=other) as program,
            server.client(session) as person,
        ):
            clients = [revoked, program, person]
            items = [aiter(one) for one in clients]
            for one, reader in zip(clients, items, strict=True):
                await one.follow("users")
                await harness.next_of(reader, frames.Subscribed)
            await writer.do(keys.revoke, key)
            position = await writer.rename(harness.new_user())
            with pytest.raises(client.Stopped) as stopped:
                await harness.next_of(items[0], frames.EventFrame)
            assert stopped.value.code == frames.REVOKED
            for reader in items[1:]:
                assert (await harness.next_of(reader, frames.EventFrame)).position == position
            await staff_event(writer, staff, StaffSessionRevoked())  # a key is no session
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items[1], frames.EventFrame)).position == position
            with pytest.raises(client.Stopped):
                await harness.next_of(items[2], frames.EventFrame)
            assert program.connected == 1
            await staff_event(writer, staff, StaffDeactivated())
            with pytest.raises(client.Stopped):
                await harness.next_of(items[1], frames.EventFrame)

    play(scene())


def test_a_lost_role_takes_its_topics_away_and_narrows_the_view_of_the_rest(server: Server, writer: Writer) -> None:
    staff, session = harness.sign_in("manager")

    async def scene() -> None:
        async with server.client(session) as live:
            await live.follow("users", "settings")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(lambda: Staff.objects.filter(pk=staff.pk).update(role="viewer"))
            await staff_event(writer, staff, StaffRoleChanged(before="manager", after="viewer"))
            position = await writer.append(harness.new_user(), UserUpdated(first_name="Ada", email="ada@example.org"))
            reset = await harness.next_of(items, frames.Reset)
            assert (reset.topics, reset.reason) == (["settings"], "forbidden")
            event = await harness.next_of(items, frames.EventFrame)
            assert (event.position, event.data) == (position, {"first_name": "Ada"})
            assert live.connected == 1

    play(scene())


def test_a_password_changed_elsewhere_closes_the_sockets_of_the_old_one(server: Server, writer: Writer) -> None:
    staff, session = harness.sign_in("agent")

    async def scene() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(lambda: Staff.objects.filter(pk=staff.pk).update(password="!changed"))
            await staff_event(writer, staff, StaffPasswordChanged())
            with pytest.raises(client.Stopped) as stopped:
                await harness.next_of(items, frames.EventFrame)
            assert stopped.value.code == frames.REVOKED

    play(scene())


def test_a_revocation_during_the_handshake_is_not_missed(
    server: Server, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person is read, then deactivated and heard of by the hub, and only then does the socket join."""
    staff, session = harness.sign_in("agent")
    identify = auth.identify

    async def scene() -> None:
        async def slow(headers: auth.Headers, reader: log_reader.Log) -> auth.Identity | None:
            identity = await identify(headers, reader)
            position = await staff_event(writer, staff, StaffDeactivated())
            while server.hub.position < position:
                await asyncio.sleep(0.01)
            return identity

        monkeypatch.setattr(auth, "identify", slow)
        async with server.raw(session) as connection:
            assert (await harness.receive(connection, frames.Goodbye)).code == frames.REVOKED

    play(scene())


async def farewell(connection: Any) -> int:
    """Stay until the server ends it; the code it gave."""
    while True:
        frame = frames.decode_server(await connection.recv())
        if isinstance(frame, frames.Ping):
            with contextlib.suppress(harness.Closed):  # the goodbye may be here, unread
                await connection.send(frames.encode(frames.Pong(n=frame.n)))
        elif isinstance(frame, frames.Goodbye):
            return frame.code


def test_a_session_that_ended_quietly_is_noticed_by_the_regular_recheck(writer: Writer) -> None:
    staff, session = harness.sign_in("agent")

    async def scene(server: Server) -> None:
        async with server.raw(session) as connection:
            await harness.receive(connection, frames.Welcome)
            await writer.do(lambda: Staff.objects.filter(pk=staff.pk).update(is_active=False))
            assert await farewell(connection) == frames.REVOKED

    with Server(heartbeat_ms=100, tick=0.02, recheck_every=0.1) as server:
        play(scene(server))


def test_a_role_that_changed_quietly_narrows_what_is_followed_live(writer: Writer) -> None:
    """Also behind somebody who may see all of it: neighbours share what is encoded."""
    (_, other), (staff, session) = harness.sign_in("manager"), harness.sign_in("manager", "bea")

    async def scene(server: Server) -> None:
        async with server.client(other) as first, server.client(session) as second:
            items = []
            for live in (first, second):
                items.append(aiter(live))
                await live.follow("users")
                await harness.next_of(items[-1], frames.Subscribed)
            (socket,) = await server.on_loop(lambda: list(server.hub.people[str(staff.pk)]))  # whoever came first
            await writer.do(lambda: Staff.objects.filter(pk=staff.pk).update(role="viewer"))
            await server.until(lambda: socket.grants["users"].projection_key == "viewer")
            assert socket.live == {"users"}, "it never had to catch up"
            await writer.append(harness.new_user(), UserUpdated(first_name="Ada", email="ada@example.org"))
            seen = [(await harness.next_of(one, frames.EventFrame)).data for one in items]
            assert seen == [{"first_name": "Ada", "email": "ada@example.org"}, {"first_name": "Ada"}]

    with Server(tick=0.02, recheck_every=0.1, look_every=3600.0) as server:
        play(scene(server))


def test_a_socket_ends_when_its_session_does(writer: Writer) -> None:
    staff, session = harness.sign_in("agent")
    kept = Session.objects.filter(pk=session)

    async def scene(server: Server) -> None:
        async with server.raw(session) as connection:
            await harness.receive(connection, frames.Welcome)
            await writer.do(lambda: kept.update(expire_date=timezone.now() + timedelta(seconds=0.5)))
            await writer.append(f"staff-{staff.pk}", StaffPasswordChanged())  # so that it is read again
            assert await farewell(connection) == frames.REVOKED

    with Server(tick=0.02, recheck_every=3600.0) as server:
        play(scene(server))


def test_a_session_that_ended_is_noticed_also_by_a_slow_database(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look takes longer than the pause between two: they must not make each other begin anew."""
    _, session = harness.sign_in("agent")
    asked = auth.identify_again

    async def slowly(identity: auth.Identity) -> auth.Identity | None:
        await asyncio.sleep(0.2)
        return await asked(identity)

    monkeypatch.setattr(auth, "identify_again", slowly)

    async def scene(server: Server) -> None:
        async with server.raw(session) as connection:
            await harness.receive(connection, frames.Welcome)
            await writer.do(lambda: Session.objects.filter(pk=session).update(expire_date=timezone.now()))
            (socket,) = await server.on_loop(lambda: list(server.hub.sockets.values()))
            ended = dataclasses.replace(socket.identity, ends_at=timezone.now())
            await server.on_loop(setattr, socket, "identity", ended)
            await server.on_loop(socket.check_later)
            assert await farewell(connection) == frames.REVOKED

    with Server(tick=0.02, recheck_every=3600.0, slow_after=3600.0) as server:
        play(scene(server))


def test_who_this_is_is_looked_at_again_when_the_session_or_key_ends(transactional_db: None) -> None:
    staff, session = harness.sign_in("agent")
    soon = timezone.now() + timedelta(seconds=60)
    Session.objects.filter(pk=session).update(expire_date=soon)
    _, token = keys.create(name="a program", owner=staff, scopes=["users:read"], expires_at=soon)

    read = read_quickly(session)

    async def unused(_message: Any) -> None:
        raise AssertionError("nothing is sent")

    async def scene() -> None:
        by_key = await auth.identify({b"authorization": f"Bearer {token}".encode()}, log_reader.Log())
        await auth.disconnect()
        for identity in (read, by_key):
            assert identity is not None
            assert identity.ends_at == soon
            socket = sockets.Socket("a", identity, "127.0.0.1", unused, conf.Limits())
            assert socket.now() < socket.check_at <= socket.now() + 60

    play(scene())


def test_sorting_out_topics_costs_in_proportion_to_their_number(server: Server, session: str) -> None:
    async def scene() -> None:
        async with server.raw(session) as socket:
            await harness.receive(socket, frames.Welcome)
            (mine,) = server.hub.sockets.values()

            def cost(size: int) -> int:
                names = [f"user:{number}" for number in range(size)]
                return costs.operations(lambda: server.hub._grants(mine, names))

            await server.on_loop(costs.assert_about_linear, cost, 200)

    play(scene())


def test_a_frame_with_too_many_topics_is_refused(server: Server, session: str) -> None:
    async def scene() -> None:
        async with server.raw(session) as socket:
            await harness.receive(socket, frames.Welcome)
            names = [f"user:{number}" for number in range(frames.MAX_NAMES + 1)]
            await socket.send(json.dumps({"type": "subscribe", "id": 1, "topics": names}))
            error = await harness.receive(socket, frames.Error)
            assert (error.code, error.id) == ("invalid_frame", 1)

    play(scene())
