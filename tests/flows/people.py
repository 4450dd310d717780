"""People, programs and socket listeners of a live stack, for tests of a whole journey."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.conf import settings
from django.utils.crypto import get_random_string

from realtime import client, frames
from tests import live

T = TypeVar("T")
API = "/api/v1/"
SECONDS = 60.0  # a step that takes longer counts as failed


@dataclass(frozen=True)
class Answer:
    """The answer to one request; redirects are not followed."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


class Caller:
    """Sends requests to the stack with the same headers each time."""

    def __init__(self, stack: live.Stack, headers: Mapping[str, str]) -> None:
        self.stack, self.headers = stack, dict(headers)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send JSON, or a form where `body` is bytes, and return the answer, even an error."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = self.headers | {"Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        address = self.stack.url + (path if path.startswith("/") else API + path)
        request = urllib.request.Request(address, content, given, method=method)
        try:
            with _opener.open(request, timeout=SECONDS) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read().decode())

    def get(self, path: str) -> Any:
        """The JSON of an API resource, which must exist."""
        answer = self.send("GET", path)
        assert answer.status == 200, answer
        return answer.json()

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.send("POST", path, body, **headers)

    def command(self, kind: str, key: str, data: dict[str, Any] | None = None, **more: Any) -> Answer:
        body = {"id": str(uuid.uuid4()), "type": kind, "key": key, "data": data or {}, **more}
        return self.post("commands/", body)

    def create(self, category: str, **data: Any) -> str:
        """Create a record and return its key."""
        key = str(uuid.uuid4())
        if category == "user":
            data = {"email": f"{key}@example.org", **data}
        answer = self.command("submission.receive" if category == "submission" else f"{category}.create", key, data)
        assert answer.status == 200, answer
        return key

    def events(self, stream: str) -> list[dict[str, Any]]:
        """The events of one stream, oldest first."""
        items: list[dict[str, Any]] = self.get(f"streams/{stream}/")["items"]
        return items


class Person(Caller):
    """A member of staff with a session: pages and API."""

    def __init__(self, stack: live.Stack, role: str) -> None:
        token = get_random_string(32)
        self.cookie = f"{settings.SESSION_COOKIE_NAME}={stack.session(role)}"
        super().__init__(stack, {"Cookie": f"{self.cookie}; {settings.CSRF_COOKIE_NAME}={token}", "X-CSRFToken": token})

    def page(self, path: str) -> str:
        answer = self.send("GET", path)
        assert answer.status == 200, answer
        return answer.text

    def form(self, path: str) -> dict[str, str]:
        """The fields of the page's form that is sent by POST, as a browser would send them unchanged."""
        reader = _FormReader()
        reader.feed(self.page(path))
        return reader.fields

    def submit(self, path: str, fields: Mapping[str, str]) -> Answer:
        return self.post(path, urlencode(fields).encode(), content_type="application/x-www-form-urlencoded")

    def listen(self, *topics: str) -> Listener:
        """Follow topics on a socket of this person's session."""
        address = self.stack.url.replace("http", "ws", 1) + "/ws/admin/"
        return Listener(client.Client(address, cookie=self.cookie, origin=self.stack.url), topics)


class _FormReader(HTMLParser):
    """Collects the fields of the first form in <main> whose method is POST."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._in_main = self._in_form = self._found = False
        self._select = self._textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._in_main |= tag == "main"
        if tag == "form" and self._in_main and not self._found and given.get("method", "").lower() == "post":
            self._in_form = self._found = True
        if not self._in_form:
            return
        name = given.get("name", "")
        if tag == "input" and name and (given.get("type") not in {"checkbox", "radio"} or "checked" in given):
            self.fields[name] = given.get("value", "on" if given.get("type") == "checkbox" else "")
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in given or self._select not in self.fields):
            self.fields[self._select] = given.get("value", "")
        elif tag == "textarea":
            self._textarea = name
            self.fields[name] = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.fields[self._textarea] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._textarea = ""


class Listener:
    """A resuming socket client in a thread. `received` has its event frames in order; `stopped` is the final error."""

    def __init__(self, connection: client.Client, topics: tuple[str, ...]) -> None:
        self.received: list[frames.EventFrame] = []
        self.stopped: client.Stopped | None = None
        self._client, self._topics = connection, topics
        self._changed = threading.Condition()
        self._subscribed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        self._wait(lambda: self._subscribed)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed where the server ended the connection for good
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(SECONDS)

    def wait_for(self, position: int) -> frames.EventFrame:
        """Wait for the frame of the event at `position` and return it."""
        return self._wait(lambda: next((frame for frame in self.received if frame.position == position), None))

    def wait_until_stopped(self) -> client.Stopped:
        return self._wait(lambda: self.stopped)

    def _wait(self, condition: Callable[[], T | None]) -> T:
        with self._changed:
            met = self._changed.wait_for(condition, SECONDS)
        assert met, f"nothing came within {SECONDS} s; received {self.received}, state {self._client.state}"
        return met

    def _run(self) -> None:
        self._task = self._loop.create_task(self._follow())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _follow(self) -> None:
        async with self._client:
            await self._client.follow(*self._topics)
            try:
                async for item in self._client:
                    with self._changed:
                        self._subscribed |= isinstance(item, frames.Subscribed)
                        if isinstance(item, frames.EventFrame):
                            self.received.append(item)
                        self._changed.notify_all()
            except client.Stopped as stopped:
                with self._changed:
                    self.stopped = stopped
                    self._changed.notify_all()
