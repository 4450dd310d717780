"""Presence of the simulated editors, as their browsers would send it: a session and a socket each.

The sockets run in a separate thread. Without a web process they keep reconnecting silently; the editors continue.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib import auth

from backoffice.models import Staff
from realtime import client, frames


class Visits:
    """Publishes no presence; used when there is no socket."""

    def enter(self, name: str, kind: str, key: str, field: str) -> None:
        """Record that `name` begins to edit `field` of a record."""

    def leave(self, name: str) -> None:
        """Record that `name` leaves the record entered last."""


class LiveVisits(Visits):
    """A context manager for presence over the socket at `url`. `people`: editor name -> its login."""

    def __init__(self, url: str, people: Mapping[str, Staff], log: Callable[[str], None]) -> None:
        self._url, self._people, self._log = url, people, log
        self._sessions: dict[str, Any] = {}
        self._clients: dict[str, client.Client] = {}
        self._at: dict[str, dict[str, frames.SetPresence]] = {}  # name -> topic -> presence
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="visits", daemon=True)
        self._listening: list[asyncio.Task[None]] = []
        self._doing: set[asyncio.Task[None]] = set()

    def __enter__(self) -> LiveVisits:
        self._sessions = {name: _signed_in(person) for name, person in self._people.items()}
        self._thread.start()
        for name, session in self._sessions.items():
            cookie = f"{settings.SESSION_COOKIE_NAME}={session.session_key}"
            self._clients[name] = client.Client(self._url, cookie=cookie, origin=settings.ALLOWED_ORIGINS[0])
        self._loop.call_soon_threadsafe(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sockets; the sessions expire by themselves, because the database may be unreachable now."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=0.5)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def enter(self, name: str, kind: str, key: str, field: str) -> None:
        """Send presence for the record's page and for its row in the list, as a browser does (`record.js`)."""
        places = [
            frames.SetPresence(topic=f"{kind}:{key}", state="editing", field=field),
            frames.SetPresence(topic=f"{kind}s.here", state="editing", field=key),
        ]
        self._loop.call_soon_threadsafe(self._enter, name, places)

    def leave(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self._leave, name)

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listening = [self._loop.create_task(self._follow(name)) for name in self._clients]

    async def _follow(self, name: str) -> None:
        """Read the frames as a page would; send presence once a topic is followed, also after a reconnect."""
        live = self._clients[name]
        try:
            async with live:
                async for item in live:
                    if isinstance(item, frames.Subscribed):
                        for topic, here in list(self._at.get(name, {}).items()):
                            if topic in item.topics:
                                await live.send(here)
        except (client.Stopped, client.Missed) as end:
            self._log(f"{name}: presence ended: {end}")

    def _enter(self, name: str, places: list[frames.SetPresence]) -> None:
        self._at[name] = {place.topic: place for place in places}
        live = self._clients[name]
        for place in places:
            known = place.topic in live.positions
            self._do(live.send(place) if known else live.follow(place.topic))

    def _leave(self, name: str) -> None:
        for topic in self._at.pop(name, {}):
            self._do(self._clients[name].send(frames.SetPresence(topic=topic, state="gone")))

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(what)
        self._doing.add(task)  # the event loop keeps only weak references to tasks
        task.add_done_callback(self._doing.discard)

    async def _close(self) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


def _signed_in(person: Staff) -> Any:
    """A new session of this person, as `auth.login` creates it; it expires after a day."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[auth.SESSION_KEY] = str(person.pk)
    session[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[auth.HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.set_expiry(24 * 3600)
    session.create()
    return session
