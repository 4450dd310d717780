"""Presence of the pretend editors, as browsers would show it: a session each, a socket each, `editing` on what is open.

The sockets live in a thread of their own. Without a web process they keep trying quietly; the editing goes on anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib import auth

from backoffice.models import Staff
from realtime import client, frames


class Visits:
    """Nobody's presence: what editors have when there is no socket to say it on."""

    def enter(self, name: str, topic: str, field: str) -> None:
        """`name` begins to edit `field` of a record."""

    def leave(self, name: str, topic: str) -> None:
        """`name` is done with it."""


class LiveVisits(Visits):
    """Presence over the socket at `url`; a context manager. `people`: name -> the login they use."""

    def __init__(self, url: str, people: Mapping[str, Staff], say: Callable[[str], None]) -> None:
        self._url, self._people, self._say = url, people, say
        self._sessions: dict[str, Any] = {}
        self._clients: dict[str, client.Client] = {}
        self._at: dict[str, frames.SetPresence] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="visits", daemon=True)
        self._listening: list[asyncio.Task[None]] = []

    def __enter__(self) -> LiveVisits:
        self._sessions = {name: _signed_in(person) for name, person in self._people.items()}
        self._thread.start()
        for name, session in self._sessions.items():
            cookie = f"{settings.SESSION_COOKIE_NAME}={session.session_key}"
            self._clients[name] = client.Client(self._url, cookie=cookie, origin=settings.ALLOWED_ORIGINS[0])
        self._loop.call_soon_threadsafe(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up. The sessions are left to expire when the database cannot be reached any more."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(timeout=0.5)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def enter(self, name: str, topic: str, field: str) -> None:
        self._loop.call_soon_threadsafe(
            self._enter, name, frames.SetPresence(topic=topic, state="editing", field=field)
        )

    def leave(self, name: str, topic: str) -> None:
        self._loop.call_soon_threadsafe(self._leave, name, frames.SetPresence(topic=topic, state="gone"))

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listening = [self._loop.create_task(self._follow(name)) for name in self._clients]

    async def _follow(self, name: str) -> None:
        """Read what comes, as a page would; say where we are once a topic is followed, after a reconnect too."""
        live = self._clients[name]
        try:
            async with live:
                async for item in live:
                    here = self._at.get(name)
                    if isinstance(item, frames.Subscribed) and here is not None and here.topic in item.topics:
                        await live.send(here)
        except (client.Stopped, client.Missed) as end:
            self._say(f"{name}: no presence any more: {end}")

    def _enter(self, name: str, here: frames.SetPresence) -> None:
        self._at[name] = here
        live = self._clients[name]
        known = here.topic in live.positions
        self._loop.create_task(live.send(here) if known else live.follow(here.topic))

    def _leave(self, name: str, gone: frames.SetPresence) -> None:
        self._at.pop(name, None)
        self._loop.create_task(self._clients[name].send(gone))

    async def _hang_up(self) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


def _signed_in(person: Staff) -> Any:
    """A new session of this person, as `auth.login` would make it; it ends within a day, with the demo."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[auth.SESSION_KEY] = str(person.pk)
    session[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[auth.HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.set_expiry(24 * 3600)
    session.create()
    return session
