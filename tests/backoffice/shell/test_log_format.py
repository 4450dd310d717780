"""The log of the process: its two formats, what it knows about a request, and that it contains no personal data."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection

from backoffice import access_log, asgi, health, log_format
from events import context, store
from events.types import new_id
from tests.backoffice import api_client

Lines = Callable[[], list[Any]]


@pytest.fixture(params=["text", "json"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lines(form: str) -> Iterator[Lines]:
    """Returns a function that gives what was logged: text, or objects."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(log_format.JsonFormatter() if form == "json" else log_format.TextFormatter())
    handler.addFilter(log_format.AddContext())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield lambda: [json.loads(line) if form == "json" else line for line in out.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


log = logging.getLogger("some.module")


def test_record_has_time_level_and_logger(lines: Lines, form: str) -> None:
    log.warning("a %s", "message")
    (line,) = lines()
    if form == "text":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING some\.module: a message", line)
    else:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
        assert line == {"level": "WARNING", "logger": "some.module", "message": "a message"}


def test_record_names_request_actor_stream_and_position(lines: Lines, form: str) -> None:
    with context.acting(actor="staff:7") as acting, context.observing_writes():
        log.info("before")
        context.note_written("user-1", 12)
        log.info("after")
        log.info("other", extra={"stream": "form-2", "position": 9})
    before, after, other = lines()
    if form == "text":
        assert before.endswith(f"before [request_id={acting.correlation_id} actor=staff:7]")
        assert after.endswith("actor=staff:7 stream=user-1 position=12]")
        assert other.endswith("actor=staff:7 stream=form-2 position=9]")
    else:
        assert (before["request_id"], before["actor"]) == (str(acting.correlation_id), "staff:7")
        assert "stream" not in before
        assert (after["stream"], after["position"]) == ("user-1", 12)
        assert (other["stream"], other["position"]) == ("form-2", 9)


def test_value_cannot_begin_a_line_of_its_own(lines: Lines, form: str) -> None:
    log.info("name: %s", "x\r\n2026-01-01T00:00:00.000Z ERROR forged\x1b[2J\u2028y")
    (line,) = lines()
    text = line if form == "text" else json.dumps(line)
    assert "\x1b" not in text
    if form == "text":
        assert r"x\r\n2026" in text


@pytest.mark.parametrize("address", ["ada@example.org", "a.b+c@mail.example.co.uk", "ada@example.org.", "<ada@x-y.fr>"])
def test_mail_addresses_are_removed(lines: Lines, form: str, address: str) -> None:
    log.error("refused: %s", address)
    (line,) = lines()
    assert "@" not in (line if form == "text" else line["message"])


def test_long_word_is_searched_once() -> None:
    """In proportion to the square of its length, this would take hours."""
    word = "a" * 2_000_000
    assert log_format.scrub(f"{word} ada@example.org") == f"{word} <email>"


@pytest.mark.django_db
def test_values_that_postgresql_quotes_are_removed_from_message_and_traceback(lines: Lines, form: str) -> None:
    name = "Augusta" + " King"
    with connection.cursor() as cursor:
        cursor.execute("create temporary table person (name text primary key) on commit drop")
        cursor.execute("insert into person values (%s)", (name,))
        try:
            cursor.execute("insert into person values (%s)", (name,))
        except IntegrityError as error:
            log.error("not stored: %s", error, exc_info=error)
    shown = "\n".join(lines()) if form == "text" else json.dumps(lines()[0])
    assert name not in shown
    assert "person_pkey" in shown
    assert "IntegrityError" in shown
    assert "test_log_format.py" in shown


def test_failing_statement_is_removed() -> None:
    with psycopg.connect(**health.parameters()) as other, pytest.raises(psycopg.Error) as failed:
        other.execute("select * from nowhere where name = 'Augusta King'")
    assert "Augusta" in str(failed.value)
    assert log_format.scrub(str(failed.value)) == 'relation "nowhere" does not exist'


# -- the access log ---------------------------------------------------------------------------------------------------


def ask(path: str, method: str = "GET", body: bytes = b"", **headers: str) -> int:
    """The status of a request to the whole ASGI application."""
    headers["content_length"] = str(len(body))
    scope = {
        "type": "http",
        "method": method,
        "path": path.partition("?")[0],
        "raw_path": path.encode(),
        "query_string": path.partition("?")[2].encode(),
        "headers": [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("203.0.113.7", 1),
        "server": ("localhost", 80),
        "scheme": "http",
    }
    status: list[int] = []
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()  # the client stays
        return messages.pop()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    async def run() -> None:
        application = access_log.AccessLog(asgi.http_application)
        await application(scope, receive, send)

    asyncio.run(run())
    return status[0]


@pytest.fixture
def access(settings: Any, lines: Lines) -> Callable[[], list[Any]]:
    settings.ACCESS_LOG = True
    settings.ALLOWED_HOSTS = ["localhost"]
    return lambda: [line for line in lines() if "backoffice.access_log" in str(line)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["json"], indirect=True)
def test_write_is_logged_with_who_what_and_where_it_was_stored(access: Lines) -> None:
    program, key, command_id = api_client.program("users:write"), new_id(), new_id()
    body = {"id": str(command_id), "type": "user.create", "key": str(key), "data": {"email": f"{key}@example.org"}}
    body["reason"] = "by phone"
    sent = {"host": "localhost", "content_type": "application/json", **program.headers}
    assert ask("/api/v1/commands/", "POST", json.dumps(body).encode(), **sent) == 200
    (line,) = access()
    assert (line["method"], line["path"], line["status"]) == ("POST", "/api/v1/commands/", 200)
    assert re.fullmatch(r"key:\w+", line["actor"])
    (event,) = store.read_stream(f"user-{key}")
    assert (line["stream"], line["position"]) == (event.stream, event.position)
    assert line["request_id"] == str(event.correlation_id)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["json"], indirect=True)
def test_access_log_contains_neither_address_nor_query_nor_unknown_path(access: Lines) -> None:
    assert ask("/admin/login/?next=/admin/&q=ada%40example.org", host="localhost") == 200
    assert ask("/ada@example.org", host="localhost") == 404
    known, unknown = access()
    assert (known["method"], known["path"], known["status"]) == ("GET", "/admin/login/", 200)
    assert known["actor"] == "anonymous"
    assert uuid.UUID(known["request_id"])
    assert (unknown["path"], unknown["status"]) == ("-", 404)
    assert not re.search(r"203\.0\.113|ada|next=", json.dumps([known, unknown]))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["text"], indirect=True)
def test_probes_and_static_files_are_logged_only_when_they_fail(access: Lines) -> None:
    assert ask("/livez", host="localhost") == 200
    assert access() == []
    assert ask("/metrics", host="localhost") == 403
    (line,) = access()
    assert re.search(r"GET /metrics 403 [\d.]+ ms", line)


@pytest.mark.parametrize("form", ["text"], indirect=True)
def test_nothing_is_logged_when_the_access_log_is_off(settings: Any, access: Lines) -> None:
    settings.ACCESS_LOG = False
    assert ask("/livez", host="localhost") == 200
    assert access() == []


def test_uvicorn_leaves_the_log_to_the_application() -> None:
    from realtime import server

    assert server.configure("backoffice.asgi:application").log_config is None
    assert "uvicorn" in sys.modules
