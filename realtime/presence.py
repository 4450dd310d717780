"""Who is on which page: soft state, told by each process about its own sockets and forgotten when it stops telling.

Each process is the only writer of its own part. It says what changed (numbered), renews its lease every few seconds,
and answers `Question` with everything. A hub that missed a number asks; a process not heard for the length of the lease
is forgotten whole, so a crash leaves no ghosts. Nothing is kept in Valkey or in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from realtime import conf, frames, publish

# What a person with several tabs is doing: the busiest of them.
_BUSIEST: Final = {"editing": 0, "viewing": 1, "idle": 2}

People = dict[str, frames.PresentPerson]


class _Part:
    """What one other process has told."""

    __slots__ = ("heard_at", "number", "topics")

    def __init__(self) -> None:
        self.heard_at = 0.0
        self.number = -1
        self.topics: dict[str, list[publish.Present]] = {}


class Board:
    """Presence as this process sees it. `send` tells the other processes, `show` the sockets on a topic."""

    def __init__(
        self,
        process: str,
        limits: conf.Limits,
        send: Callable[[publish.Message], None],
        show: Callable[[frames.PresenceFrame], None],
        clock: Callable[[], float],
    ) -> None:
        self._process, self._limits = process, limits
        self._send, self._show, self._clock = send, show, clock
        self._own: dict[str, dict[str, publish.Present]] = {}
        self._topics_of: dict[str, set[str]] = {}
        self._leaving: dict[tuple[str, str], float] = {}
        self._others: dict[str, _Part] = {}
        self._shown: dict[str, People] = {}
        self._changed: set[str] = set()
        self._own_changed: set[str] = set()
        self._number = 0
        self._renewed_at = self._asked_at = float("-inf")

    # -- our own sockets ---------------------------------------------------------------------------------------------

    def enter(self, connection: str, person: str, name: str, wanted: frames.SetPresence) -> bool:
        """A socket says what it is doing on a topic; `gone` leaves at once. False where it is on too many topics."""
        if wanted.state == "gone":
            self._remove(wanted.topic, connection)
            return True
        on = self._topics_of.setdefault(connection, set())
        if wanted.topic not in on and len(on) >= self._limits.presence_topics:
            return False
        on.add(wanted.topic)
        here = self._own.setdefault(wanted.topic, {})
        since = here[connection].since if connection in here else _now()
        here[connection] = publish.Present(
            connection=connection, person=person, name=name, state=wanted.state, field=wanted.field, since=since
        )
        self._leaving.pop((wanted.topic, connection), None)
        self._own_changed.add(wanted.topic)
        return True

    def leave(self, connection: str, topics: Iterable[str] | None = None) -> None:
        """A socket closed or dropped topics: it stays shown for a moment, a reload comes right back."""
        until = self._clock() + self._limits.presence_grace
        for topic in list(self._topics_of.get(connection, ())) if topics is None else topics:
            if connection in self._own.get(topic, {}):
                self._leaving[topic, connection] = until

    def _remove(self, topic: str, connection: str) -> None:
        on = self._topics_of.get(connection, set())
        on.discard(topic)
        if not on:
            self._topics_of.pop(connection, None)
        here = self._own.get(topic, {})
        if here.pop(connection, None) is not None:
            self._own_changed.add(topic)
        if not here:
            self._own.pop(topic, None)
        self._leaving.pop((topic, connection), None)

    # -- other processes ---------------------------------------------------------------------------------------------

    def hear(self, message: publish.Presence | publish.Alive | publish.Question) -> None:
        """Take what another process says (our own words come back to us too, and are not news)."""
        if message.process == self._process:
            return
        if isinstance(message, publish.Question):
            self._say_everything()
            return
        part = self._others.setdefault(message.process, _Part())
        part.heard_at = self._clock()
        if isinstance(message, publish.Alive):
            if message.number != part.number:
                self.ask()
        elif message.full or message.number == part.number + 1:
            self._merge(part, message)
        elif message.number > part.number:
            self.ask()

    def _merge(self, part: _Part, message: publish.Presence) -> None:
        if message.full:
            self._changed |= part.topics.keys()
            part.topics.clear()
        for topic, present in message.topics.items():
            part.topics[topic] = present
            if not present:
                del part.topics[topic]
        part.number = message.number
        self._changed |= message.topics.keys()

    def ask(self) -> None:
        """Ask everybody for everything, once a second at most."""
        if self._clock() - self._asked_at >= 1.0:
            self._asked_at = self._clock()
            self._send(publish.Question(process=self._process))

    def _say_everything(self) -> None:
        topics = {topic: list(here.values()) for topic, here in self._own.items()}
        self._send(publish.Presence(process=self._process, number=self._number, topics=topics, full=True))

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let go who left, renew our lease, forget silent processes, show what changed."""
        now = self._clock()
        for (topic, connection), until in list(self._leaving.items()):
            if until <= now:
                self._remove(topic, connection)
        for process, part in list(self._others.items()):
            if now - part.heard_at > self._limits.presence_lease:
                self._changed |= part.topics.keys()
                del self._others[process]
        self._say_changes()
        if now - self._renewed_at >= self._limits.presence_renew:
            self._renewed_at = now
            self._send(publish.Alive(process=self._process, number=self._number))
        for topic in self._changed:
            self._show_changes(topic)
        self._changed.clear()

    def _say_changes(self) -> None:
        if not self._own_changed:
            return
        self._number += 1
        topics = {topic: list(self._own.get(topic, {}).values()) for topic in self._own_changed}
        self._send(publish.Presence(process=self._process, number=self._number, topics=topics))
        self._changed |= self._own_changed
        self._own_changed.clear()

    def _show_changes(self, topic: str) -> None:
        before, after = self._shown.get(topic, {}), self._merged(topic)
        joined = [person for key, person in after.items() if before.get(key) != person]
        left = [key for key in before if key not in after]
        if after:
            self._shown[topic] = after
        else:
            self._shown.pop(topic, None)
        if joined or left:
            self._show(frames.PresenceFrame(topic=topic, joined=joined, left=left))

    # -- the view ----------------------------------------------------------------------------------------------------

    def full(self, topic: str) -> frames.PresenceFrame:
        """Everybody on the topic as last shown, for a socket that has just arrived."""
        return frames.PresenceFrame(topic=topic, full=list(self._shown.get(topic, {}).values()))

    def here(self) -> dict[str, list[frames.PresentPerson]]:
        """Everybody on every topic, for the page of operators."""
        return {topic: list(people.values()) for topic, people in self._shown.items()}

    def _merged(self, topic: str) -> People:
        """All tabs of all processes as people, first come first: the same order for every viewer."""
        tabs = list(self._own.get(topic, {}).values())
        for part in self._others.values():
            tabs += part.topics.get(topic, ())
        people: dict[str, list[publish.Present]] = {}
        for tab in tabs:
            people.setdefault(tab.person, []).append(tab)
        merged = sorted((_one_person(tabs) for tabs in people.values()), key=lambda person: (person.since, person.id))
        return {person.id: person for person in merged}


def _one_person(tabs: list[publish.Present]) -> frames.PresentPerson:
    busiest = min(tabs, key=lambda tab: (_BUSIEST.get(tab.state, 9), tab.since, tab.connection))
    return msgspec.convert(
        {
            "id": busiest.person,
            "name": busiest.name,
            "state": busiest.state,
            "field": busiest.field,
            "since": min(tab.since for tab in tabs),
            "tabs": len(tabs),
        },
        frames.PresentPerson,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
