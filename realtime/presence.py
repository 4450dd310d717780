"""Presence: who is on which page. Each process publishes it for its own sockets, under a lease.

Each process is the only writer of its own entries. It publishes numbered changes, renews its lease every few seconds,
and answers a `PresenceRequest` with a snapshot. A hub that missed a number requests snapshots; a process that was
silent for the length of the lease is removed, so a crash leaves no stale entries. Nothing is stored in Valkey or in
the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from realtime import conf, frames, publish

# The state of a person with several tabs is that of the busiest one.
_BUSIEST: Final = {"editing": 0, "viewing": 1, "idle": 2}

People = dict[str, frames.PresentPerson]


class _RemotePresence:
    """The entries of one other process, as last received."""

    __slots__ = ("number", "received_at", "topics")

    def __init__(self) -> None:
        self.received_at = 0.0
        self.number = -1
        self.topics: dict[str, list[publish.Present]] = {}


class PresenceTracker:
    """Presence as this process sees it. `send` publishes to the other processes, `show` to the sockets on a topic."""

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
        self._others: dict[str, _RemotePresence] = {}
        self._shown: dict[str, People] = {}
        self._changed: set[str] = set()
        self._own_changed: set[str] = set()
        self._number = 0
        self._renewed_at = self._asked_at = float("-inf")

    # -- our own sockets ---------------------------------------------------------------------------------------------

    def set_state(self, connection: str, person: str, name: str, wanted: frames.SetPresence) -> bool:
        """Record a socket's state on a topic; `gone` removes it. Returns False when it is on too many topics."""
        if wanted.state == "gone":
            self._remove(wanted.topic, connection)
            return True
        on = self._topics_of.setdefault(connection, set())
        if wanted.topic not in on and len(on) >= self._limits.presence_topics:
            return False
        on.add(wanted.topic)
        entries = self._own.setdefault(wanted.topic, {})
        since = entries[connection].since if connection in entries else _now()
        entries[connection] = publish.Present(
            connection=connection, person=person, name=name, state=wanted.state, field=wanted.field, since=since
        )
        self._leaving.pop((wanted.topic, connection), None)
        self._own_changed.add(wanted.topic)
        return True

    def leave(self, connection: str, topics: Iterable[str] | None = None) -> None:
        """Remove a socket's entries after a grace period, because a page that reloads reconnects at once.

        `topics` are those that the socket dropped; None when it closed.
        """
        until = self._clock() + self._limits.presence_grace
        for topic in list(self._topics_of.get(connection, ())) if topics is None else topics:
            if connection in self._own.get(topic, {}):
                self._leaving[topic, connection] = until

    def _remove(self, topic: str, connection: str) -> None:
        on = self._topics_of.get(connection, set())
        on.discard(topic)
        if not on:
            self._topics_of.pop(connection, None)
        entries = self._own.get(topic, {})
        if entries.pop(connection, None) is not None:
            self._own_changed.add(topic)
        if not entries:
            self._own.pop(topic, None)
        self._leaving.pop((topic, connection), None)

    # -- other processes ---------------------------------------------------------------------------------------------

    def receive(self, message: publish.Presence | publish.PresenceLease | publish.PresenceRequest) -> None:
        """Handle a message of another process. Our own messages come back to us too and are ignored."""
        if message.process == self._process:
            return
        if isinstance(message, publish.PresenceRequest):
            self._send_snapshot()
            return
        remote = self._others.setdefault(message.process, _RemotePresence())
        remote.received_at = self._clock()
        if isinstance(message, publish.PresenceLease):
            if message.number != remote.number:
                self.request_snapshots()
        elif message.full or message.number == remote.number + 1:
            self._merge(remote, message)
        elif message.number > remote.number:
            self.request_snapshots()

    def _merge(self, remote: _RemotePresence, message: publish.Presence) -> None:
        if message.full:
            self._changed |= remote.topics.keys()
            remote.topics.clear()
        for topic, present in message.topics.items():
            remote.topics[topic] = present
            if not present:
                del remote.topics[topic]
        remote.number = message.number
        self._changed |= message.topics.keys()

    def request_snapshots(self) -> None:
        """Ask all processes for a snapshot, once a second at most."""
        if self._clock() - self._asked_at >= 1.0:
            self._asked_at = self._clock()
            self._send(publish.PresenceRequest(process=self._process))

    def _send_snapshot(self) -> None:
        topics = {topic: list(entries.values()) for topic, entries in self._own.items()}
        self._send(publish.Presence(process=self._process, number=self._number, topics=topics, full=True))

    # -- clock -------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Remove people who left, renew our lease, remove silent processes, show the changes."""
        now = self._clock()
        for (topic, connection), until in list(self._leaving.items()):
            if until <= now:
                self._remove(topic, connection)
        for process, remote in list(self._others.items()):
            if now - remote.received_at > self._limits.presence_lease:
                self._changed |= remote.topics.keys()
                del self._others[process]
        self._send_changes()
        if now - self._renewed_at >= self._limits.presence_renew:
            self._renewed_at = now
            self._send(publish.PresenceLease(process=self._process, number=self._number))
        for topic in self._changed:
            self._show_changes(topic)
        self._changed.clear()

    def _send_changes(self) -> None:
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

    # -- views -------------------------------------------------------------------------------------------------------

    def snapshot(self, topic: str) -> frames.PresenceFrame:
        """Everyone on the topic as last shown, for a socket that has just subscribed."""
        return frames.PresenceFrame(topic=topic, full=list(self._shown.get(topic, {}).values()))

    def everyone(self) -> dict[str, list[frames.PresentPerson]]:
        """Everyone on every topic, for the operator's page."""
        return {topic: list(people.values()) for topic, people in self._shown.items()}

    def _merged(self, topic: str) -> People:
        """All tabs of all processes merged to people, in order of arrival: the same order for every viewer."""
        tabs = list(self._own.get(topic, {}).values())
        for remote in self._others.values():
            tabs += remote.topics.get(topic, ())
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
