"""Attacks known from other products: sockets after a failed sign-in, ambiguous paths and headers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from backoffice.sections.staff import keys
from realtime import frames
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario
from tests.realtime.test_safety import goodbye

# -- sockets (a wrong token must not fall back to the cookie; no event before or after) -----------------------------


@pytest.mark.parametrize("token", ["", " ", "fe_nobody.knows", "fe_", "\xff"])
def test_wrong_token_beside_a_valid_cookie_opens_no_socket(server: Server, session: str, token: str) -> None:
    headers = {"Cookie": harness.cookie(session), "Authorization": f"Bearer {token}"}

    async def scenario() -> None:
        said, code = await goodbye(server, None, additional_headers=headers)
        assert (said.code, code) == (frames.REVOKED, frames.REVOKED)

    run_scenario(scenario())


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"a":' * 3000, "not_json"),
        ('{"type":"ack","position":1,"a":' + "[" * 3000 + "]" * 3000 + "}", "not_json"),
        ('{"type":"ack","position":"x","a":' + "[" * 3000 + "]" * 3000 + "}", "invalid_frame"),
        ('{"type":"nothing","id":1,"a":' + "[" * 3000 + "]" * 3000 + "}", "unknown_type"),
    ],
    ids=["objects", "unknown field", "beside a wrong value", "of an unknown type"],
)
def test_frame_nested_too_deeply_gets_an_error_and_the_socket_stays_open(
    server: Server, session: str, frame: str, code: str
) -> None:
    async def scenario() -> None:
        async with server.raw(session) as connected:
            await harness.receive(connected, frames.Welcome)
            await connected.send(frame)
            assert (await harness.receive(connected, frames.Error)).code == code
            await connected.send(frames.encode(frames.Subscribe(id=1, topics=["users"])))
            assert (await harness.receive(connected, frames.Subscribed)).topics == ["users"]

    run_scenario(scenario())


def test_subscription_before_the_welcome_or_after_a_revocation_gets_no_event(server: Server, writer: Writer) -> None:
    staff, _ = harness.sign_in("manager")
    key, token = keys.create(name="a program", owner=staff, scopes=["users:read"])
    authorization = {"Authorization": f"Bearer {token}"}
    subscribe = frames.encode(frames.Subscribe(id=1, topics=["users", "settings"]))

    async def scenario() -> None:
        async with server.raw(None, origin=None, additional_headers=authorization) as connected:
            await connected.send(subscribe)  # before the welcome is read
            kinds = [type(frames.decode_server(await connected.recv())).__name__ for _ in range(2)]
            assert kinds == ["Welcome", "Subscribed"]
            await writer.do(keys.revoke, key)
            with contextlib.suppress(harness.Closed):  # it may already be closed
                await connected.send(subscribe)
            await writer.rename(harness.new_user())
            seen = []
            with pytest.raises(harness.Closed) as closed:
                while True:
                    seen.append(frames.decode_server(await connected.recv()))
            assert closed.value.rcvd.code == frames.REVOKED
            assert not [frame for frame in seen if isinstance(frame, frames.EventFrame)]
        assert (await goodbye(server, None, origin=None, additional_headers=authorization))[1] == frames.REVOKED

    run_scenario(scenario())


# -- raw requests ---------------------------------------------------------------------------------------------------


async def ask(server: Server, path: str, *headers: bytes, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Status and body of a request whose path and headers are sent byte for byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [f"GET {path} HTTP/1.1".encode(), f"Host: {host}".encode(), b"Connection: close", *headers]
    writer.write(b"\r\n".join([*lines, b"", b""]))
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


UPGRADE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Protocol: formease.admin.v1",
)


async def handshake_status(server: Server, session: str, *headers: bytes) -> int:
    """The HTTP status of a handshake with these headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    cookie = f"Cookie: {harness.cookie(session)}".encode()
    lines = [b"GET /ws/admin/ HTTP/1.1", b"Host: 127.0.0.1", *UPGRADE, cookie, *headers]
    writer.write(b"\r\n".join([*lines, b"", b""]))
    status = int((await reader.readuntil(b"\r\n")).split()[1])
    writer.close()
    return status


def test_contradictory_headers_open_no_socket(server: Server, session: str) -> None:
    good = f"Origin: {server.origin}".encode()

    async def scenario() -> None:
        assert await handshake_status(server, session, good) == 101
        for headers in (
            [good, b"Origin: https://evil.example"],
            [b"Origin: https://evil.example", good],
            [good, good],
            [good + b"\x0bX-Forwarded-For: 1.2.3.4"],
            [good + b" https://evil.example"],
            [good, b"Authorization: Bearer a.b", b"Authorization: Basic x"],
        ):
            assert await handshake_status(server, session, *headers) in (400, 403), headers

    run_scenario(scenario())


def test_headers_too_large_are_refused_and_the_server_keeps_running(server: Server, session: str) -> None:
    async def scenario() -> None:
        for headers in ([b"X-Large: " + b"a" * 1_000_000], [b"X-Many: a"] * 10_000):
            try:
                status = await handshake_status(server, session, *headers)
            except (asyncio.IncompleteReadError, ConnectionError):
                status = 400  # disconnected before the answer was complete
            assert status in (400, 403, 431)
            await server.until(
                lambda: not server._server.server_state.connections
            )  # the server keeps no data of the request
        assert await handshake_status(server, session, f"Origin: {server.origin}".encode()) == 101

    run_scenario(scenario())


def test_frame_of_64_megabytes_ends_the_connection_before_it_is_read(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.raw(session) as connected:
            await harness.receive(connected, frames.Welcome)
            with pytest.raises(harness.Closed) as closed:
                await connected.send("a" * (64 << 20))
                while True:
                    await connected.recv()
            assert closed.value.rcvd is None or closed.value.rcvd.code == frames.TOO_BIG

    run_scenario(scenario())


# -- paths (checks and router must read the same path) --------------------------------------------------------------

PUBLIC = {"/livez", "/readyz", "/asyncapi.json", "/jsi18n/", "/admin/login/", "/admin/worker.js", "/admin/jsi18n/"}
PUBLIC |= {"/admin/offline/", "/admin/offline/person/", "/admin/logout/"}


def routes(patterns: Any = None, prefix: str = "/") -> Iterator[str]:
    """Every URL path without parameters."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if "<" in route or "(" in route:
            continue
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def variants(path: str) -> list[str]:
    first, rest = path[1:2], path[2:]
    return [
        f"/{path}",
        f"/.{path}",
        f"/x/..{path}",
        f"/%2f{path[1:]}",
        f"{path}/",
        f"{path}//",
        f"{path};x",
        f"{path}%00",
        f"{path}%20",
        f"/%{ord(first or '/'):02x}{rest}",
        path.upper(),
        path.rstrip("/"),
    ]


def test_no_spelling_of_a_path_bypasses_its_permission_check(server: Server) -> None:
    """The requests are anonymous and come through a proxy; pages, API and metrics refuse them."""
    found = sorted(set(routes()))
    assert {"/metrics", "/admin/", "/api/v1/users/"} <= set(found)
    proxied = b"X-Forwarded-For: 203.0.113.9"

    async def scenario() -> None:
        for path in found:
            clean, _ = await ask(server, path, proxied)
            public = clean == 200
            assert not public or path in PUBLIC or path.startswith(("/api/schema", "/api/docs")), path
            for other in variants(path):
                status, body = await ask(server, other, proxied)
                assert status < 500, (other, status)
                assert status != 200 or public, (other, status, body[:80])

    run_scenario(scenario())


def test_trailing_dot_of_the_host_changes_no_response(server: Server) -> None:
    async def scenario() -> None:
        for path in ("/metrics", "/admin/", "/api/v1/users/"):
            assert (await ask(server, path, b"Via: x", host="127.0.0.1."))[0] in (302, 400, 401, 403)

    run_scenario(scenario())


def test_path_cannot_inject_a_line_into_the_log(db: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="django.request"):
        Client().get("/nowhere%0d%0aCRITICAL root: all is lost")
    assert any("nowhere" in record.getMessage() for record in caplog.records)
    assert not [record for record in caplog.records if "\n" in record.getMessage() or "\r" in record.getMessage()]


def test_invalid_address_cannot_inject_a_line_into_the_log(db: None, caplog: pytest.LogCaptureFixture) -> None:
    fields = {"username": "agent\r\nCRITICAL", "password": "wrong"}
    Client().post("/admin/login/", fields, REMOTE_ADDR="127.0.0.1\r\nCRITICAL root: all is lost")
    assert not [record for record in caplog.records if "\n" in record.getMessage()]
