"""The clients of the chaos test: those that keep a log, one that never reads, and the revocation of rights."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
import time
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from websockets.asyncio import client as ws
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from benchmarks.chaos.stack import Stack
from realtime import client, frames

PRESENCE_TOPICS = ("users", "forms")  # the topics with presence


class Seen(msgspec.Struct, frozen=True):
    """One event frame as a client logged it."""

    position: int
    topics: tuple[str, ...]
    content: int
    at: float


def content_of(event: dict[str, Any]) -> int:
    """A hash of an event's position, name, stream, version and data."""
    fields = [event[name] for name in ("position", "event", "stream", "version", "data")]
    return hash(msgspec.json.encode(fields, order="deterministic"))


@dataclasses.dataclass
class Person:
    """A login, or a program with a key. `principal` is the argument of topics; `after` replaces it once revoked."""

    id: str
    principal: Any
    after: Any = None
    revoked: bool = False


class Watcher(client.Client):
    """A client that reconnects to either web process, with a log of what it received."""

    def __init__(self, name: str, person: Person, urls: list[str], names: list[str], **options: Any) -> None:
        self._urls = itertools.cycle(random.sample(urls, len(urls)))
        super().__init__("", **options)
        self.name, self.person, self.names = name, person, names
        self.seen: list[Seen] = []
        self.gaps: dict[str, list[tuple[int, int]]] = {}
        self.resets: list[str] = []
        self.lost: set[str] = set()
        self.people: dict[str, dict[str, frames.PresentPerson]] = {}
        self.presence_state: Literal["viewing", "editing", "idle"] = "viewing"
        self.presence_field: str | None = None
        self.delay = 0.0  # seconds per event
        self.ended: Exception | None = None
        self.ended_at = 0.0
        self.connected_when_revoked = False
        self.start = frames.Since("", 0)

    @property
    def url(self) -> str:
        return next(self._urls)

    @url.setter
    def url(self, _url: str) -> None:
        """Ignores the value: each attempt uses the next URL."""

    async def watch(self, start: frames.Since) -> None:
        self.start = start
        async with self:
            await self.follow(*self.names, since=start)
            try:
                async for item in self:
                    await self._record(item)
            except (client.Stopped, client.Missed) as end:
                self.ended, self.ended_at = end, time.time()

    async def _record(self, item: client.Item) -> None:
        match item:
            case frames.EventFrame():
                self.seen.append(
                    Seen(item.position, tuple(item.topics), content_of(msgspec.structs.asdict(item)), time.time())
                )
                if self.delay:
                    await asyncio.sleep(self.delay)
            case frames.Subscribed():
                await self._subscribed(item)
            case frames.PresenceFrame():
                self._apply_presence(item)
            case frames.Reset():
                await self._reset(item)

    async def _subscribed(self, item: frames.Subscribed) -> None:
        for topic in set(item.topics) & set(PRESENCE_TOPICS):
            self.people[topic] = {}  # the full list follows
            await self.send(frames.SetPresence(topic=topic, state=self.presence_state, field=self.presence_field))

    def _apply_presence(self, item: frames.PresenceFrame) -> None:
        here = self.people.setdefault(item.topic, {})
        if item.full is not None:
            here.clear()
        here.update({person.id: person for person in (item.full or item.joined)})
        for key in item.left:
            here.pop(key, None)

    async def _reset(self, item: frames.Reset) -> None:
        self.resets.append(item.reason)
        if item.reason == "forbidden":
            self.lost.update(item.topics)
            for topic in item.topics:
                self.people.pop(topic, None)
            return
        for topic in item.topics:
            last = max((seen.position for seen in self.seen if topic in seen.topics), default=self.start.position)
            self.gaps.setdefault(topic, []).append((last, item.position))
        await self.follow(*item.topics, since=frames.Since(item.epoch, item.position))

    @property
    def latest(self) -> int:
        return self.seen[-1].position if self.seen else 0


class NonReader:
    """A client that subscribes and then never reads a byte."""

    def __init__(self, url: str, headers: dict[str, str], origin: str) -> None:
        self.url, self.headers, self.origin = url, headers, origin
        self.code: int | None = None

    async def connect(self, since: frames.Since) -> None:
        self.connection = await ws.connect(
            self.url,
            origin=Origin(self.origin),
            additional_headers=self.headers,
            subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
            compression=None,
            ping_interval=None,
            max_queue=1,
        )
        await self.connection.send(
            frames.encode(frames.Subscribe(id=1, topics=["users", "forms", "submissions"], since=since))
        )

    async def end(self, seconds: float) -> int:
        """Read the frames that were waiting and return their number. Sets `code` when the server closed the socket."""
        count = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                try:
                    while True:
                        await self.connection.recv()
                        count += 1
                except ConnectionClosed as closed:
                    self.code = closed.rcvd.code if closed.rcvd else 1006
        self.connection.transport.abort()
        return count


class ClientSet:
    """All clients, created before the plan starts."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.to_revoke: dict[str, list[Watcher]] = {}
        self.non_reader: NonReader | None = None

    @property
    def live(self) -> list[Watcher]:
        return [watcher for watcher in self.watchers if not watcher.ended]


def create_clients(stack: Stack, rng: random.Random, users: Sequence[str]) -> ClientSet:
    """Create staff of every role, some with several tabs, two programs, and the clients whose rights will be revoked.

    Two of them read slowly, one never acknowledges, and one never reads.
    """
    from backoffice.models import Staff
    from backoffice.sections.staff import keys, sockets

    clients = ClientSet()
    lists = ["users", "forms", "submissions", "settings", "conflicts", "alerts"]

    def random_topics() -> list[str]:
        chosen = rng.sample(lists, rng.randint(2, len(lists)))
        return list(dict.fromkeys(["users", *chosen, f"user:{rng.choice(users)}"]))

    def tabs(name: str, role: str, number: int, names: list[str] | None = None) -> list[Watcher]:
        staff = Staff.objects.create_user(
            username=name, role=role, is_staff=True, is_superuser=role == "admin", password=None
        )
        person = Person(str(staff.pk), staff)
        found = []
        for tab in range(number):
            cookie = f"sessionid={session_of(staff)}"
            one = Watcher(
                f"{name}/{tab}", person, stack.urls, names or random_topics(), cookie=cookie, origin=stack.origin
            )
            one.presence_state = rng.choice(["viewing", "editing", "idle"])
            one.presence_field = "email" if one.presence_state == "editing" else None
            found.append(one)
        clients.watchers += found
        return found

    for role, number in (("admin", 3), ("manager", 3), ("manager", 2), ("agent", 3), ("viewer", 2), ("dpo", 2)):
        tabs(f"{role}-{number}", role, number)
    for one in clients.watchers[:2]:
        one.delay = 0.015
    clients.watchers[3]._acknowledge = False
    for index in range(2):
        owner = Staff.objects.create_user(username=f"owner-{index}", role="manager", is_staff=True)
        scopes = [["*"], ["users:read", "events:read"]][index]
        _, token = keys.create(name=f"program {index}", owner=owner, scopes=scopes)
        identity = sockets.by_api_key(token)
        assert identity is not None
        person = Person(str(owner.pk), identity.principal)
        clients.watchers.append(Watcher(f"program-{index}", person, stack.urls, random_topics(), token=token))
    everything = ["users", "forms", "submissions", "settings", f"user:{users[0]}"]
    for what in REVOCATIONS:
        if what != "key revoked":
            clients.to_revoke[what] = tabs(what.replace(" ", "-"), "manager", 2, everything)
    owner = Staff.objects.create_user(username="key-revoked", role="manager", is_staff=True)
    _, token = keys.create(name="a program that ends", owner=owner, scopes=["*"])
    identity = sockets.by_api_key(token)
    assert identity is not None
    person = Person(str(owner.pk), identity.principal)
    clients.to_revoke["key revoked"] = [
        Watcher(f"key-revoked/{number}", person, stack.urls, everything, token=token) for number in range(2)
    ]
    clients.watchers += clients.to_revoke["key revoked"]
    staff = Staff.objects.create_user(username="non_reader", role="admin", is_staff=True, is_superuser=True)
    clients.non_reader = NonReader(stack.urls[0], {"Cookie": f"sessionid={session_of(staff)}"}, stack.origin)
    return clients


def session_of(staff: Any) -> str:
    from django.conf import settings
    from django.contrib import auth
    from django.contrib.sessions.backends.db import SessionStore

    session = SessionStore()
    session[auth.SESSION_KEY] = str(staff.pk)
    session[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[auth.HASH_SESSION_KEY] = staff.get_session_auth_hash()
    session.create()
    return str(session.session_key)


# -- revocations -----------------------------------------------------------------------------------------------------

REVOCATIONS = ("signed out", "sessions revoked", "deactivated", "password changed", "role narrowed", "key revoked")


def revoke(what: str, tabs: Sequence[Watcher]) -> None:
    """Revoke as the product does: the change and its event in one transaction."""
    from django.contrib import auth as logins
    from django.contrib.sessions.models import Session
    from django.db import transaction

    from backoffice.models import ApiKey, Staff
    from backoffice.sections.staff import domain, keys
    from events import store
    from realtime import auth

    person = tabs[0].person
    if what == "key revoked":
        keys.revoke(ApiKey.objects.get(owner__pk=person.id))
        person.after = Staff.objects.get(pk=person.id)
        return
    key = tabs[0]._headers["Cookie"].removeprefix("sessionid=")
    with transaction.atomic():
        staff = Staff.objects.select_for_update().get(pk=person.id)
        event: Any
        match what:
            case "signed out":  # the first tab only
                Session.objects.filter(session_key=key).delete()
                event = domain.StaffLoggedOut(session=auth.session_digest(key))
            case "sessions revoked":
                for session in Session.objects.all():
                    if session.get_decoded().get(logins.SESSION_KEY) == person.id:
                        session.delete()
                event = domain.StaffSessionRevoked()
            case "deactivated":
                staff.is_active = False
                event = domain.StaffDeactivated()
            case "password changed":
                staff.set_unusable_password()
                event = domain.StaffPasswordChanged()
            case _:
                staff.role = "viewer"
                event = domain.StaffRoleChanged(before="manager", after="viewer")
        staff.save()
        store.append(f"staff-{person.id}", [event])
    person.after = staff
