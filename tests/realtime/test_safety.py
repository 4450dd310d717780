"""Authentication and permissions of sockets, and how a socket ends when they change."""

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
from realtime import auth, client, conf, frames, grants, log_reader, session_reader, sockets, topics
from tests import costs
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario


async def goodbye(server: Server, session: str | None, **options: Any) -> tuple[frames.Goodbye, int]:
    """The `goodbye` and the close code of a handshake that is refused inside the socket."""
    async with server.raw(session, **options) as connection:
        said = await harness.receive(connection, frames.Goodbye)
        with pytest.raises(harness.Closed) as closed:
            await connection.recv()
        return said, closed.value.rcvd.code


# -- the handshake --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "http://127.0.0.1.evil"]
)
def test_cookie_from_any_other_origin_is_refused(server: Server, session: str, origin: str | None) -> None:
    async def scenario() -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with server.raw(session, origin=origin):
                pass
        assert refused.value.response.status_code == 403

    run_scenario(scenario())


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


def test_anonymous_client_receives_goodbye_inside_the_socket_and_must_not_reconnect(server: Server) -> None:
    async def scenario() -> None:
        said, code = await goodbye(server, None)
        assert (said.code, said.retry_ms, code) == (frames.REVOKED, None, frames.REVOKED)
        assert (await goodbye(server, "no-such-session"))[1] == frames.REVOKED

    run_scenario(scenario())


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!another"}])
def test_session_that_django_would_not_accept_opens_no_socket(server: Server, change: dict[str, Any]) -> None:
    staff, session = harness.sign_in()
    Staff.objects.filter(pk=staff.pk).update(**change)

    async def scenario() -> None:
        assert (await goodbye(server, session))[1] == frames.REVOKED

    run_scenario(scenario())


def change_row(stored: SessionStore, **values: Any) -> None:
    Session.objects.filter(pk=stored.session_key).update(**values)


def sign_again(stored: SessionStore, staff: Staff, secret: str) -> None:
    with override_settings(SECRET_KEY=secret):
        stored[HASH_SESSION_KEY] = staff.get_session_auth_hash()
        stored.save()


def put(stored: SessionStore, **values: Any) -> None:
    stored.update(values)
    stored.save()


# Changes that make a session unacceptable; each function changes the session in place.
SESSION_CHANGES: dict[str, Callable[[SessionStore, Staff], object]] = {
    "nothing": lambda _stored, _staff: None,
    "expired": lambda stored, _: change_row(stored, expire_date=timezone.now() - timedelta(seconds=1)),
    "tampered with": lambda stored, _: change_row(stored, session_data=stored.encode({"x": 1})[:-1] + "!"),
    "signed by another key": lambda stored, staff: sign_again(stored, staff, "somebody else's"),
    "under a key being rotated out": lambda stored, staff: sign_again(stored, staff, "the old key"),
    "of somebody deactivated": lambda _, staff: Staff.objects.filter(pk=staff.pk).update(is_active=False),
    "of somebody deleted": lambda _, staff: staff.delete(),
    "of an older password": lambda _, staff: Staff.objects.filter(pk=staff.pk).update(password="!another"),
    "with another hash": lambda stored, _: put(stored, **{HASH_SESSION_KEY: "0" * 64}),
    "without a hash": lambda stored, _: put(stored, **{HASH_SESSION_KEY: ""}),
    "by a backend not installed": lambda stored, _: put(stored, **{BACKEND_SESSION_KEY: "a.b.Backend"}),
    "of nobody": lambda stored, _: stored.flush(),
}
VALID_AFTER = {"nothing", "under a key being rotated out"}


def read_session(key: str) -> auth.Identity | None:
    async def scenario() -> auth.Identity | None:
        reader = log_reader.LogReader()
        await reader.open()
        try:
            return await auth.identify_session(key, reader)
        finally:
            await reader.close()

    return run_scenario(scenario())


@pytest.mark.parametrize("change", SESSION_CHANGES)
def test_session_reader_accepts_the_same_sessions_as_django(transactional_db: None, settings: Any, change: str) -> None:
    settings.SECRET_KEY_FALLBACKS = ["the old key"]
    staff, key = harness.sign_in()
    stored = SessionStore(key)
    assert stored[SESSION_KEY]  # loaded now, under the current secret key
    assert read_session(key) is not None  # its owner is cached from here on
    SESSION_CHANGES[change](stored, staff)
    assert session_reader.usable()
    quick = read_session(key)
    request = HttpRequest()
    request.session = SessionStore(key)
    assert (quick is not None) is get_user(request).is_authenticated is (change in VALID_AFTER)
    if quick is not None:
        assert quick.principal == staff
        assert quick.session == auth.session_digest(key)


def test_session_with_a_new_owner_identifies_the_new_owner(transactional_db: None) -> None:
    _, key = harness.sign_in("agent")
    other, theirs = harness.sign_in("manager")
    assert read_session(key) is not None
    put(SessionStore(key), **{name: SessionStore(theirs)[name] for name in (SESSION_KEY, HASH_SESSION_KEY)})
    quick = read_session(key)
    assert quick is not None
    assert quick.principal == other


def test_session_with_a_malformed_login_key_is_refused(transactional_db: None) -> None:
    """Django's own `get_user` raises an error for such a session."""
    _, key = harness.sign_in()
    put(SessionStore(key), **{SESSION_KEY: "1' or true --"})
    assert read_session(key) is None


@pytest.mark.parametrize("key", ["short", "no-such-session-at-all", "a zero in the key \0 is no text"])
def test_malformed_session_key_is_refused(transactional_db: None, key: str) -> None:
    assert read_session(key) is None


def test_sessions_outside_the_database_are_read_by_django(
    server: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    _, session = harness.sign_in()
    monkeypatch.setattr(session_reader, "read_session", None)

    async def scenario() -> None:
        async with server.raw(session) as connection:
            assert (await harness.receive(connection, frames.Welcome)).user.name == "admin"

    run_scenario(scenario())


def test_unknown_subprotocol_is_closed_for_good(server: Server, session: str) -> None:
    async def scenario() -> None:
        said, code = await goodbye(server, session, subprotocols=["formease.admin.v9"])
        assert (said.code, code, said.retry_ms) == (frames.VERSION, frames.VERSION, None)

    run_scenario(scenario())


def test_other_path_is_refused(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with harness.ws.connect(server.url.replace("admin", "other"), origin=server.origin):
            pass

    with pytest.raises(InvalidStatus):
        run_scenario(scenario())


def test_bearer_token_needs_no_origin(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    staff, _ = harness.sign_in("viewer")

    def known(token: str) -> auth.Identity | None:
        if token != "fe_key.secret":
            return None
        return auth.Identity(principal=staff, person="key:1", name="a program", again=lambda: known(token))

    monkeypatch.setattr(auth, "TOKEN_AUTHENTICATORS", [lambda _token: None, known])

    async def scenario() -> None:
        async with client.Client(server.url, token="fe_key.secret") as live:
            await live.follow("users", "settings")
            answer = await harness.next_of(aiter(live), frames.Subscribed)
            assert answer.topics == ["users"]
            assert live.welcome.user.name == "a program"
        async with client.Client(server.url, token="fe_key.wrong") as live:
            with pytest.raises(client.Stopped) as stopped:
                await anext(aiter(live))
            assert stopped.value.code == frames.REVOKED

    run_scenario(scenario())


def test_person_has_a_limited_number_of_connections(session: str) -> None:
    async def scenario(server: Server) -> None:
        async with server.raw(session) as first, server.raw(session) as second:
            await harness.receive(first, frames.Welcome)
            await harness.receive(second, frames.Welcome)
            assert (await goodbye(server, session))[1] == frames.TOO_MANY
        await server.until(lambda: not server.hub.sockets)
        async with server.raw(session) as third:
            await harness.receive(third, frames.Welcome)

    with Server(connections_per_person=2) as server:
        run_scenario(scenario(server))


def test_handshakes_of_one_address_are_limited(session: str) -> None:
    async def scenario(server: Server) -> None:
        for _ in range(3):
            async with server.raw(session) as connection:
                await harness.receive(connection, frames.Welcome)
        said, code = await goodbye(server, session)
        assert (code, said.reason) == (frames.TOO_MANY, "too many handshakes")
        assert said.retry_ms

    with Server(handshakes_per_minute=3.0) as server:
        run_scenario(scenario(server))


# -- client frames --------------------------------------------------------------------------------------------------


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
def test_invalid_frame_gets_an_error_and_the_connection_stays_open(
    server: Server, session: str, text: str, code: str, request_id: Any
) -> None:
    async def scenario() -> None:
        async with server.raw(session) as connection:
            await connection.send(text)
            error = await harness.receive(connection, frames.Error)
            assert (error.code, error.id) == (code, request_id)
            await connection.send('{"type":"subscribe","id":1,"topics":["users"],"new_field":true}')
            await harness.receive(connection, frames.Subscribed)

    run_scenario(scenario())


def test_frame_that_is_too_big_ends_the_connection(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.raw(session) as connection:
            await connection.send('{"type":"pong","n":1,"x":"' + "é" * 40_000 + '"}')
            assert (await harness.receive(connection, frames.Goodbye)).code == frames.TOO_BIG

    run_scenario(scenario())


def test_client_that_sends_too_many_frames_is_closed_and_may_reconnect(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.raw(session) as connection:
            for _ in range(200):
                await connection.send('{"type":"visibility","hidden":true}')
            said = await harness.receive(connection, frames.Goodbye)
            assert said.code == frames.TOO_MANY
            assert said.retry_ms

    run_scenario(scenario())


def test_unknown_forbidden_and_excess_topics_are_denied_individually(server: Server) -> None:
    _, session = harness.sign_in("agent")

    async def scenario() -> None:
        async with server.raw(session) as connection:
            records = [f"user:{number}" for number in range(205)]
            wanted = ["users", "settings", "nonsense", "user:", *records]
            await connection.send(frames.encode(frames.Subscribe(id=1, topics=wanted)))
            answer = await harness.receive(connection, frames.Subscribed)
            denied = {denied.topic: denied.code for denied in answer.denied}
            assert (denied["settings"], denied["nonsense"], denied["user:"]) == ("forbidden", "unknown", "unknown")
            assert [denied[f"user:{number}"] for number in range(199, 205)] == ["limit"] * 6
            assert len(answer.topics) == 200

    run_scenario(scenario())


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

    async def scenario() -> None:
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

    run_scenario(scenario())


def test_event_whose_projection_fails_is_hidden_and_the_next_one_shown(
    server: Server, writer: Writer, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = topics.find("users")[0]
    whole = users.project

    def failing_projection(event: types.RecordedEvent, key: str) -> types.JsonDict | None:
        if event.data.get("first_name") == "Bobby Tables":
            raise ValueError("a bug")
        return whole(event, key)

    monkeypatch.setitem(users.__dict__, "project", failing_projection)

    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.rename(harness.new_user(), "Bobby Tables")
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items, frames.EventFrame)).position == position

    run_scenario(scenario())


# -- revocation ------------------------------------------------------------------------------------------------------


async def staff_event(writer: Writer, staff: Staff, event: types.Event) -> int:
    return await writer.append(f"staff-{staff.pk}", event)


@pytest.mark.parametrize("kind", ["revoked", "logged out", "deactivated"])
def test_revocation_closes_the_live_socket_and_no_event_follows(server: Server, writer: Writer, kind: str) -> None:
    staff, session = harness.sign_in("agent")
    event = {
        "revoked": StaffSessionRevoked(),
        "logged out": StaffLoggedOut(session=auth.session_digest(session)),
        "deactivated": StaffDeactivated(),
    }[kind]
    _, other = harness.sign_in("manager")

    async def scenario() -> None:
        async with server.client(session) as live, server.client(other) as other_client:
            items, others = aiter(live), aiter(other_client)
            for one, reader in ((live, items), (other_client, others)):
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

    run_scenario(scenario())


def test_revoked_session_leaves_the_persons_other_sessions_open(server: Server, writer: Writer) -> None:
    staff, first = harness.sign_in("agent")
    _, second = harness.sign_in("agent")

    async def scenario() -> None:
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

    run_scenario(scenario())


def test_revoked_key_closes_its_own_sockets_only(server: Server, writer: Writer) -> None:
    staff, session = harness.sign_in("manager")
    (key, token), (_, other) = (keys.create(name=name, owner=staff, scopes=["users:read"]) for name in "ab")

    async def scenario() -> None:
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
            await staff_event(writer, staff, StaffSessionRevoked())  # it ends sessions, not keys
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items[1], frames.EventFrame)).position == position
            with pytest.raises(client.Stopped):
                await harness.next_of(items[2], frames.EventFrame)
            assert program.connected == 1
            await staff_event(writer, staff, StaffDeactivated())
            with pytest.raises(client.Stopped):
                await harness.next_of(items[1], frames.EventFrame)

    run_scenario(scenario())


def test_reduced_role_removes_topics_and_narrows_the_view_of_the_others(server: Server, writer: Writer) -> None:
    staff, session = harness.sign_in("manager")

    async def scenario() -> None:
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

    run_scenario(scenario())


def test_password_changed_elsewhere_closes_the_sockets_of_the_old_one(server: Server, writer: Writer) -> None:
    staff, session = harness.sign_in("agent")

    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await writer.do(lambda: Staff.objects.filter(pk=staff.pk).update(password="!changed"))
            await staff_event(writer, staff, StaffPasswordChanged())
            with pytest.raises(client.Stopped) as stopped:
                await harness.next_of(items, frames.EventFrame)
            assert stopped.value.code == frames.REVOKED

    run_scenario(scenario())


def test_revocation_during_the_handshake_is_not_missed(
    server: Server, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity is read, the person deactivated, the event handled by the hub, and only then the socket joins."""
    staff, session = harness.sign_in("agent")
    identify = auth.identify

    async def scenario() -> None:
        async def slow(headers: auth.Headers, reader: log_reader.LogReader) -> auth.Identity | None:
            identity = await identify(headers, reader)
            position = await staff_event(writer, staff, StaffDeactivated())
            while server.hub.position < position:
                await asyncio.sleep(0.01)
            return identity

        monkeypatch.setattr(auth, "identify", slow)
        async with server.raw(session) as connection:
            assert (await harness.receive(connection, frames.Goodbye)).code == frames.REVOKED

    run_scenario(scenario())


async def close_code(connection: Any) -> int:
    """Answer pings until the server closes; returns the code of its `goodbye`."""
    while True:
        frame = frames.decode_server(await connection.recv())
        if isinstance(frame, frames.Ping):
            with contextlib.suppress(harness.Closed):  # the goodbye may have arrived, unread
                await connection.send(frames.encode(frames.Pong(n=frame.n)))
        elif isinstance(frame, frames.Goodbye):
            return frame.code


def test_session_that_ended_without_an_event_is_noticed_by_the_regular_recheck(writer: Writer) -> None:
    staff, session = harness.sign_in("agent")

    async def scenario(server: Server) -> None:
        async with server.raw(session) as connection:
            await harness.receive(connection, frames.Welcome)
            await writer.do(lambda: Staff.objects.filter(pk=staff.pk).update(is_active=False))
            assert await close_code(connection) == frames.REVOKED

    with Server(heartbeat_ms=100, tick=0.02, recheck_every=0.1) as server:
        run_scenario(scenario(server))


def test_role_that_changed_without_an_event_narrows_live_topics(writer: Writer) -> None:
    """The socket before it has the full view, because consecutive sockets share encoded frames."""
    (_, other), (staff, session) = harness.sign_in("manager"), harness.sign_in("manager", "bea")

    async def scenario(server: Server) -> None:
        async with server.client(other) as first, server.client(session) as second:
            items = []
            for live in (first, second):
                items.append(aiter(live))
                await live.follow("users")
                await harness.next_of(items[-1], frames.Subscribed)
            (socket,) = await server.on_loop(
                lambda: list(server.hub.sockets_by_person[str(staff.pk)])
            )  # in either order
            await writer.do(lambda: Staff.objects.filter(pk=staff.pk).update(role="viewer"))
            await server.until(lambda: socket.grants["users"].projection_key == "viewer")
            assert socket.live == {"users"}, "it never had to catch up"
            await writer.append(harness.new_user(), UserUpdated(first_name="Ada", email="ada@example.org"))
            seen = [(await harness.next_of(one, frames.EventFrame)).data for one in items]
            assert seen == [{"first_name": "Ada", "email": "ada@example.org"}, {"first_name": "Ada"}]

    with Server(tick=0.02, recheck_every=0.1, look_every=3600.0) as server:
        run_scenario(scenario(server))


def test_socket_ends_when_its_session_does(writer: Writer) -> None:
    staff, session = harness.sign_in("agent")
    kept = Session.objects.filter(pk=session)

    async def scenario(server: Server) -> None:
        async with server.raw(session) as connection:
            await harness.receive(connection, frames.Welcome)
            await writer.do(lambda: kept.update(expire_date=timezone.now() + timedelta(seconds=0.5)))
            await writer.append(f"staff-{staff.pk}", StaffPasswordChanged())  # triggers a recheck
            assert await close_code(connection) == frames.REVOKED

    with Server(tick=0.02, recheck_every=3600.0) as server:
        run_scenario(scenario(server))


def test_ended_session_is_noticed_also_with_a_slow_database(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each recheck takes longer than the interval between two: a new one must not restart a running one."""
    _, session = harness.sign_in("agent")
    identify_again = auth.identify_again

    async def slow_identify(identity: auth.Identity) -> auth.Identity | None:
        await asyncio.sleep(0.2)
        return await identify_again(identity)

    monkeypatch.setattr(auth, "identify_again", slow_identify)

    async def scenario(server: Server) -> None:
        async with server.raw(session) as connection:
            await harness.receive(connection, frames.Welcome)
            await writer.do(lambda: Session.objects.filter(pk=session).update(expire_date=timezone.now()))
            (socket,) = await server.on_loop(lambda: list(server.hub.sockets.values()))
            ended = dataclasses.replace(socket.identity, ends_at=timezone.now())
            await server.on_loop(setattr, socket, "identity", ended)
            await server.on_loop(socket.schedule_recheck)
            assert await close_code(connection) == frames.REVOKED

    with Server(tick=0.02, recheck_every=3600.0, slow_after=3600.0) as server:
        run_scenario(scenario(server))


def test_identity_is_rechecked_when_the_session_or_key_expires(transactional_db: None) -> None:
    staff, session = harness.sign_in("agent")
    soon = timezone.now() + timedelta(seconds=60)
    Session.objects.filter(pk=session).update(expire_date=soon)
    _, token = keys.create(name="a program", owner=staff, scopes=["users:read"], expires_at=soon)

    read = read_session(session)

    async def unused(_message: Any) -> None:
        raise AssertionError("nothing is sent")

    async def scenario() -> None:
        by_key = await auth.identify({b"authorization": f"Bearer {token}".encode()}, log_reader.LogReader())
        await auth.disconnect()
        for identity in (read, by_key):
            assert identity is not None
            assert identity.ends_at == soon
            socket = sockets.Socket("a", identity, "127.0.0.1", unused, conf.Limits())
            assert socket.now() < socket.recheck_at <= socket.now() + 60

    run_scenario(scenario())


def test_deciding_about_topics_costs_linear_time(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.raw(session) as socket:
            await harness.receive(socket, frames.Welcome)
            (mine,) = server.hub.sockets.values()

            def cost(size: int) -> int:
                names = [f"user:{number}" for number in range(size)]
                return costs.operations(lambda: grants.decide_all(mine, names, 200))

            await server.on_loop(costs.assert_about_linear, cost, 200)

    run_scenario(scenario())


def test_frame_with_too_many_topics_is_refused(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.raw(session) as socket:
            await harness.receive(socket, frames.Welcome)
            names = [f"user:{number}" for number in range(frames.MAX_NAMES + 1)]
            await socket.send(json.dumps({"type": "subscribe", "id": 1, "topics": names}))
            error = await harness.receive(socket, frames.Error)
            assert (error.code, error.id) == ("invalid_frame", 1)

    run_scenario(scenario())
