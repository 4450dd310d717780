"""Every server refuses a body above the limit, on every path, before anything is stored or authenticated."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from backoffice import request_limits
from devtools import processes
from tests.realtime import harness

PROJECT = Path(__file__).resolve().parents[3]
LIMIT = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
APPLICATION = "backoffice.asgi:application"
SERVERS = {
    "daphne": ["daphne", "--bind", "127.0.0.1", "--port", "{port}", APPLICATION],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", APPLICATION],
    "uvicorn": ["uvicorn", "--port", "{port}", APPLICATION],
    "realtime.server": ["realtime.server", APPLICATION, "--port", "{port}"],
}
# Bytes that a client may send before the refusal arrives: the limit, and the buffers of two kernels and a server.
SLACK = 24 << 20
CHUNK = b"x" * 65_536


# -- the ASGI layer ---------------------------------------------------------------------------------------------------


class Client:
    """Acts as the ASGI server of `request_limits.Limit`: sends body messages and records the response."""

    def __init__(self, chunks: Iterator[bytes], *headers: tuple[bytes, bytes], path: str = "/livez") -> None:
        self.scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
        self.chunks, self.bytes_read = chunks, 0
        self.sent: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        chunk = next(self.chunks, None)
        self.bytes_read += len(chunk or b"")
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    def run(self, limit: int = 1_000) -> Client:
        asyncio.run(request_limits.Limit(reads_everything, limit)(self.scope, self.receive, self.send))
        return self


async def reads_everything(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def endless(chunk: bytes) -> Iterator[bytes]:
    while True:
        yield chunk


@pytest.mark.parametrize("length", [b"1001", b"104857600", b"9" * 5_000])
def test_body_with_a_length_above_the_limit_is_refused_unread(length: bytes) -> None:
    client = Client(endless(b"x" * 100), (b"Content-Length", length)).run()
    assert (client.status, client.bytes_read) == (413, 0)
    assert (b"connection", b"close") in client.sent[0]["headers"]


@pytest.mark.parametrize("headers", [(), ((b"content-length", b"10"),), ((b"content-length", b"-1"),)])
def test_body_without_a_valid_length_is_read_up_to_the_limit(headers: Any) -> None:
    client = Client(endless(b"x" * 100), *headers).run()
    assert (client.status, client.bytes_read) == (413, 1_100)


def test_body_at_the_limit_is_accepted() -> None:
    client = Client(iter([b"x" * 500, b"x" * 500]), (b"content-length", b"1000")).run()
    assert (client.status, client.bytes_read) == (200, 1_000)


def test_api_answers_413_with_a_problem() -> None:
    client = Client(iter([]), (b"content-length", b"1001"), path="/api/v1/commands/").run()
    assert dict(client.sent[0]["headers"])[b"content-type"] == b"application/problem+json"
    problem = json.loads(client.sent[1]["body"])
    assert (problem["status"], problem["code"]) == (413, "too_large")


@pytest.mark.parametrize(("language", "words"), [("en", "Too much data"), ("fr", "Trop de données")])
@pytest.mark.parametrize("announced", [True, False])
def test_browser_gets_the_413_page_with_a_link_back(announced: bool, language: str, words: str) -> None:
    headers = [(b"accept", b"text/html,*/*"), (b"accept-language", language.encode()), (b"host", b"testserver")]
    headers += [(b"referer", b"http://testserver/admin/backoffice/form/")]
    length = [(b"content-length", b"1001")] if announced else []
    client = Client(endless(b"x" * 100), *headers, *length, path="/admin/backoffice/form/add/").run()
    sent = dict(client.sent[0]["headers"])
    text = client.sent[1]["body"].decode()
    assert client.status == 413
    assert words in text
    assert 'href="http://testserver/admin/backoffice/form/"' in text
    assert sent[b"content-type"].startswith(b"text/html")
    assert (sent[b"connection"], sent[b"cache-control"]) == (b"close", b"no-store")
    assert b"default-src" in sent[b"content-security-policy"]
    assert sent[b"x-frame-options"] == b"DENY"
    assert int(sent[b"content-length"]) == len(client.sent[1]["body"])


def test_program_gets_plain_text() -> None:
    client = Client(iter([]), (b"content-length", b"1001"), (b"accept", b"*/*")).run()
    assert dict(client.sent[0]["headers"])[b"content-type"] == b"text/plain; charset=utf-8"


# -- each server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    """Starts a server; yields its port and process id."""
    name = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: it is part of the extra `test`")
    port = processes.free_port()
    with django_db_blocker.unblock():
        environment = harness.environment()
    process = subprocess.Popen(
        processes.child_command([sys.executable, "-m", *(part.format(port=port) for part in SERVERS[name])]),
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, f"{name} did not start"
        yield port, process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def exchange(port: int, head: str, body: Iterator[bytes]) -> tuple[int, int]:
    """Sends a raw request; returns the status of the response and how many bytes of body could be sent."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        with contextlib.suppress(ConnectionError):
            for chunk in body:
                connection.sendall(chunk)
                sent += len(chunk)
                if sent > SLACK or answered(connection):
                    break
        return status_of(connection), sent


def answered(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(60)


def status_of(connection: socket.socket) -> int:
    """Returns the status of the final response; 0 if the connection was reset before it could be read."""
    text = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            text += part
            found = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", text)]
            if final := [status for status in found if status >= 200]:
                return final[0]
    return 0


def written(pid: int) -> int:
    """Returns the bytes that a process and its children have passed to `write` so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    texts = [Path(f"/proc/{each}/io").read_text() for each in [str(pid), *children]]
    return sum(int(match[1]) for text in texts if (match := re.search(r"wchar: (\d+)", text)))


def chunked() -> Iterator[bytes]:
    return endless(f"{len(CHUNK):x}\r\n".encode() + CHUNK + b"\r\n")


HOST = "Host: localhost\nContent-Type: application/json"
HUGE = f"Content-Length: {100 << 20}"


@pytest.mark.services
@pytest.mark.parametrize("path", ["/livez", "/api/v1/commands/", "/admin/login/", "/static/nothing.css", "/nowhere"])
def test_huge_body_is_refused_before_it_is_sent(server: tuple[int, int], path: str) -> None:
    port, pid = server
    before = written(pid)
    assert exchange(port, f"POST {path} HTTP/1.1\n{HOST}\n{HUGE}\n\n", iter([])) == (413, 0)
    assert written(pid) - before < LIMIT


@pytest.mark.services
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_sender_of_a_huge_body_is_disconnected(server: tuple[int, int], version: str) -> None:
    port, pid = server
    before = written(pid)
    status, sent = exchange(port, f"POST /livez HTTP/{version}\n{HOST}\n{HUGE}\n\n", endless(CHUNK))
    assert status in {413, 0}
    assert sent < SLACK
    assert written(pid) - before < LIMIT


@pytest.mark.services
def test_client_that_expects_100_continue_is_refused(server: tuple[int, int]) -> None:
    port, _ = server
    assert exchange(port, f"POST /livez HTTP/1.1\n{HOST}\n{HUGE}\nExpect: 100-continue\n\n", iter([])) == (413, 0)


@pytest.mark.services
@pytest.mark.parametrize("path", ["/livez", "/api/v1/commands/"])
def test_endless_chunked_body_is_cut_off_at_the_limit(server: tuple[int, int], path: str) -> None:
    port, pid = server
    before = written(pid)
    head = f"POST {path} HTTP/1.1\n{HOST}\nTransfer-Encoding: chunked\n\n"
    status, sent = exchange(port, head, chunked())
    assert status in {413, 0}
    assert LIMIT < sent < SLACK
    assert written(pid) - before < 2 * LIMIT


@pytest.mark.services
def test_server_reads_only_the_stated_length(server: tuple[int, int]) -> None:
    port, pid = server
    before = written(pid)
    status, sent = exchange(port, f"POST /livez HTTP/1.1\n{HOST}\nContent-Length: 10\n\n", endless(CHUNK))
    assert status != 500
    assert sent <= SLACK
    assert written(pid) - before < LIMIT


@pytest.mark.services
def test_small_body_is_accepted_afterwards(server: tuple[int, int]) -> None:
    port, _ = server
    assert exchange(port, f"GET /livez HTTP/1.1\n{HOST}\nContent-Length: 2\n\n", iter([b"{}"])) == (200, 2)


# -- the proxies in front ------------------------------------------------------------------------------------------


def test_proxies_have_the_same_limit() -> None:
    assert LIMIT == 2 << 20
    assert "client_max_body_size 2m;" in (PROJECT / "deploy" / "nginx.conf").read_text()
    assert "max_size 2MiB" in (PROJECT / "deploy" / "Caddyfile").read_text()
