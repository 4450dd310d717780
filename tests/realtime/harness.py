"""Real sockets on a real server in this process, so that tests can also reach its hub.

The server runs in a thread with an event loop of its own; tests are coroutines run by `run_scenario`. They wait for
events (frames, positions, states), never for time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvicorn
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.test import override_settings
from websockets.asyncio import client as ws
from websockets.exceptions import ConnectionClosed as Closed

from backoffice.asgi import application
from backoffice.models import Staff
from backoffice.sections.users.domain import UserUpdated
from events import head, store
from events.subscriptions import runner as subscriptions
from events.types import Event, new_id
from realtime import client, frames, local_hub, relay, server

__all__ = ["Closed", "ws"]

T = TypeVar("T")
TIMEOUT = 60.0


def run_scenario(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine with a timeout, so that one that hangs fails instead of blocking the run."""

    async def bounded() -> T:
        async with asyncio.timeout(TIMEOUT * 2):
            return await scenario

    return asyncio.run(bounded())


class Server:
    """uvicorn in a thread. `hub` is its hub; `call` runs a function on its loop. Keywords override `realtime.conf`."""

    def __init__(self, port: int = 0, **limits: Any) -> None:
        self._limits = limits
        config = server.configure(
            application, host="127.0.0.1", port=port, log_config=None, lifespan="on", timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Server:
        with override_settings(REALTIME=self._limits):
            self._thread.start()
            assert self._started.wait(TIMEOUT)
        self.call_async(self.hub.wait_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "\n".join(map(str, asyncio.all_tasks(self.loop)))

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.005)
        self.hub = await local_hub.current()
        self._started.set()
        await serving

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def origin(self) -> str:
        return settings.ALLOWED_ORIGINS[0] if settings.ALLOWED_ORIGINS else f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/admin/"

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        async def run() -> T:
            return function(*arguments)

        return self.call_async(run)

    def call_async(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        async def run() -> T:
            return await function(*arguments)

        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(TIMEOUT)

    async def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Like `call`, for scenarios, which must not block their own loop."""
        return await asyncio.to_thread(self.call, function, *arguments)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds on the hub's loop."""
        while not await self.on_loop(condition):
            await asyncio.sleep(0.01)

    # -- clients -----------------------------------------------------------------------------------------------------

    def client(self, session: str, **options: Any) -> client.Client:
        return client.Client(self.url, cookie=cookie(session), origin=self.origin, **options)

    @contextlib.asynccontextmanager
    async def raw(self, session: str | None, **options: Any) -> AsyncIterator[ws.ClientConnection]:
        """A plain connection, for behaviour that our own client does not have."""
        headers = {"Cookie": cookie(session)} if session else {}
        given: dict[str, Any] = {
            "origin": self.origin,
            "additional_headers": headers,
            "subprotocols": [frames.SUBPROTOCOL],
            "compression": None,
        } | options
        async with ws.connect(self.url, **given) as connection_:
            yield connection_


class Relay:
    """The relay's subscription in a thread, as `run_subscriptions` would run it."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            subscriptions.run(relay.SUBSCRIPTION, self._stop)
        finally:
            connection.close()

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT)


class Writer:
    """Appends to the store from a thread of its own: a scenario's loop must not touch Django's connection."""

    def __init__(self) -> None:
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    def close(self) -> None:
        self._thread.submit(lambda: connection.close()).result(TIMEOUT)  # noqa: PLW0108 - the thread's own
        self._thread.shutdown()

    async def do(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def append(self, stream: str, *events: Event) -> int:
        """Append and return the last position."""
        appended = await self.do(store.append, stream, events)
        return appended.position

    async def rename(self, stream: str, name: str = "Ada") -> int:
        return await self.append(stream, UserUpdated(first_name=name))

    async def head(self) -> frames.Since:
        epoch, position = await self.do(lambda: (head.epoch(), head.safe()))
        return frames.Since(epoch, position)

    async def log(self, since: int, category: str = "user") -> list[int]:
        """The stored positions of a category after `since`."""
        found = await self.do(lambda: store.read_all(since, 100_000, upto=head.safe(), categories=[category]))
        return [event.position for event in found]


def environment() -> dict[str, str]:
    """Environment variables that give a subprocess the services of the test process."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    return os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "backoffice.settings", "DEBUG": "1"}


def new_user() -> str:
    return f"user-{new_id()}"


def sign_in(role: str = "admin", name: str | None = None) -> tuple[Staff, str]:
    """A member of staff and the key of a new session."""
    staff, _ = Staff.objects.get_or_create(
        username=name or role, defaults={"role": role, "is_staff": True, "is_superuser": role == "admin"}
    )
    session = SessionStore()
    session[SESSION_KEY] = str(staff.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = staff.get_session_auth_hash()
    session.create()
    return staff, session.session_key


def cookie(session: str) -> str:
    return f"{settings.SESSION_COOKIE_NAME}={session}"


@contextlib.contextmanager
def writing() -> Iterator[Writer]:
    writer = Writer()
    try:
        yield writer
    finally:
        writer.close()


async def next_of(items: AsyncIterator[Any], kind: type[T]) -> T:
    """The next item of a kind."""
    async for item in items:
        if isinstance(item, kind):
            return item
    raise AssertionError("unreachable")


async def events_until(items: AsyncIterator[Any], position: int) -> list[frames.EventFrame]:
    """Event frames up to and including a position."""
    seen: list[frames.EventFrame] = []
    async for item in items:
        if isinstance(item, frames.EventFrame):
            seen.append(item)
            if item.position >= position:
                return seen
    raise AssertionError("unreachable")


async def receive(connection_: ws.ClientConnection, kind: type[T]) -> T:
    """The next frame of a kind on a plain connection."""
    while True:
        frame = frames.decode_server(await connection_.recv())
        if isinstance(frame, kind):
            return frame
