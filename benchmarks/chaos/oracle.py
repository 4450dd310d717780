"""Compares each client's log with the store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from benchmarks.chaos.clients import PRESENCE_TOPICS, ClientSet, Watcher, content_of
from events.types import RecordedEvent
from realtime import client, frames

# Categories whose events are not those of the writers: people lose rights, rules are judged, jobs are requested.
NO_COMMANDS = frozenset({"staff", "channel", "rule", "alert", "privacy", "rebuild", "verification"})


class Oracle:
    """The expected events of each client, computed from the store."""

    def __init__(self, start: int) -> None:
        from events import head, store

        self.events: list[RecordedEvent] = []
        upto = head.safe()
        while page := store.read_all(self.events[-1].position if self.events else start, 5000, upto=upto):
            self.events += page
        self.head = upto
        self.taken = {event.key: event for event in reversed(self.events) if event.category == "staff"}
        self._contents: dict[tuple[int, str, str], int | None] = {}
        self._by_topic: dict[str, list[Any]] = {}
        from realtime import topics

        for event in self.events:
            for name, _topic in topics.of_event(event):
                self._by_topic.setdefault(name, []).append(event)

    def check(self, watcher: Watcher) -> list[str]:
        """The errors in a client's log; empty when it is correct."""
        wrong = [f"{name}: {fault}" for name in watcher.names for fault in self._check_topic(watcher, name)]
        unrequested = {name for seen in watcher.seen for name in seen.topics} - set(watcher.names)
        wrong += [f"{name}: never subscribed" for name in unrequested]
        wrong += [f"reset: {reason}" for reason in watcher.resets if reason not in {"too_old", "forbidden"}]
        if isinstance(watcher.ended, client.Missed):
            wrong.append(f"the chain broke: {watcher.ended}")
        elif self.closed(watcher) != (watcher.ended is not None):
            wrong.append(f"ended with {watcher.ended}" if watcher.ended else "was not closed for good")
        elif isinstance(watcher.ended, client.Stopped) and watcher.ended.code != frames.REVOKED:
            wrong.append(f"ended with {watcher.ended}")
        return [f"{watcher.name}: {fault}" for fault in wrong]

    def closed(self, watcher: Watcher) -> bool:
        """True when the server should have closed this client for good."""
        return watcher.person.revoked and watcher.person.after is not None and self._ends(watcher)

    def _ends(self, watcher: Watcher) -> bool:
        what = watcher.name.rsplit("/", 1)
        ended = {"sessions-revoked", "deactivated", "password-changed", "key-revoked"}
        return what[0] in ended or what == ["signed-out", "0"]

    def _check_topic(self, watcher: Watcher, name: str) -> Iterator[str]:
        got = [seen for seen in watcher.seen if name in seen.topics]
        if name == "alerts":  # rules are judged also after the head that logs are compared with
            got = [seen for seen in got if seen.position <= self.head]
        due, complete = self.due(watcher, name)
        positions = [seen.position for seen in got]
        if any(later <= earlier for earlier, later in itertools.pairwise(positions)):
            yield "not strictly ascending"
        wanted = list(due)
        if not complete:
            wanted = wanted[: len(positions)]
        if positions != wanted:
            missing, extra = sorted(set(wanted) - set(positions)), sorted(set(positions) - set(wanted))
            yield f"{len(missing)} missing {missing[:5]}, {len(extra)} too many {extra[:5]} of {len(wanted)}"
        for seen in got:
            if seen.position in due and seen.content not in due[seen.position]:
                yield f"{seen.position} was shown with other content than the role may see"
                return

    def due(self, watcher: Watcher, name: str) -> tuple[dict[int, set[int]], bool]:
        """The positions expected on a topic, each with its correct contents, and whether all are required.

        After a revocation no position is expected, and none before it is required, because the client may have been
        disconnected. A reduced role may see earlier events in either view, and later ones only in the reduced view.
        """
        person = watcher.person
        taken = self.taken.get(person.id) if person.revoked else None
        if taken is not None and not self._ends(watcher) and person.after.role == person.principal.role:
            taken = None  # another tab of the same person
        after = None if taken is not None and self._ends(watcher) else person.after
        due: dict[int, set[int]] = {}
        for event in self._by_topic.get(name, ()):
            if any(low < event.position <= high for low, high in watcher.gaps.get(name, ())):
                continue
            before, later = self._content(event, name, person.principal), None
            if taken is not None:
                later = self._content(event, name, after) if after is not None else None
                if event.position >= taken.position:
                    before = later
            contents = {content for content in (before, later) if content is not None}
            if contents:
                due[event.position] = contents
        lost = taken is not None and (after is None or not self._granted(name, after))
        return due, not lost

    def _granted(self, name: str, principal: Any) -> bool:
        from realtime import topics

        found = topics.find(name)
        return found is not None and found[0].allows(principal, found[1])

    def _content(self, event: Any, name: str, principal: Any) -> int | None:
        from realtime import topics

        found = topics.find(name)
        if found is None or not found[0].allows(principal, found[1]):
            return None
        view = found[0].projection_key(principal)
        key = (event.position, found[0].name, view)
        if key not in self._contents:
            shown = found[0].project(event, view)
            # encoded and decoded, because clients receive JSON
            self._contents[key] = None if shown is None else content_of(msgspec.json.decode(msgspec.json.encode(shown)))
        return self._contents[key]

    def caught_up(self, watcher: Watcher) -> bool:
        """True when the last expected event of each topic has arrived. A cheap check before the exact one."""
        latest = {name: seen.position for seen in watcher.seen for name in seen.topics}
        for name in watcher.names:
            due, complete = self.due(watcher, name)
            if complete and due and latest.get(name, 0) < max(due):
                return False
        return True

    def durable(self, results: Sequence[Any]) -> list[str]:
        """The acknowledged commands that are not stored exactly once, as error texts."""
        stored = {event.position: event for event in self.events}
        wrong, claimed = [], set()
        for result in results:
            for one in result.events:
                event = stored.get(one.position)
                if event is None or (event.stream, event.version) != (result.stream, one.version):
                    wrong.append(f"{result.id} was acknowledged at {one.position}, which the store does not have so")
                claimed.add(one.position)
        ours = {event.position for event in self.events if event.category not in NO_COMMANDS}
        if ours != claimed:
            wrong.append(f"{len(ours - claimed)} events that no acknowledged command made")
        return wrong


_BUSIEST = {"editing": 0, "viewing": 1, "idle": 2}


def people_present(clients: ClientSet, topic: str) -> dict[str, tuple[str, int]]:
    """The people on a topic, from the states the live clients sent: state of the busiest tab, number of tabs."""
    there: dict[str, list[str]] = {}
    for watcher in clients.live:
        if topic in watcher.people:
            there.setdefault(watcher.person.id, []).append(watcher.presence_state)
    return {person: (min(states, key=_BUSIEST.__getitem__), len(states)) for person, states in there.items()}


def presence_errors(clients: ClientSet) -> list[str]:
    wrong = []
    for topic in PRESENCE_TOPICS:
        there = people_present(clients, topic)
        for watcher in clients.live:
            if topic in watcher.people:
                sees = {key: (one.state, one.tabs) for key, one in watcher.people[topic].items()}
                if sees != there:
                    wrong.append(f"{watcher.name} sees {sees} on {topic}, there are {there}")
    return wrong


def counter_errors(seconds: float) -> list[str]:
    """Compare all counters with the read tables, once the counters have followed."""
    from events import errors, head
    from events.subscriptions import progress
    from metrics.counters import applying, reconcile

    try:
        progress.wait_for(applying.NAME, head.safe(), seconds)
    except errors.WaitTimeout as error:
        return [f"counted: {error}"]
    outcome = reconcile.reconcile()
    if outcome is None:
        return ["counted: another reconciliation is running"]
    found = [f"counted: {difference}" for difference in outcome.differences]
    return found if outcome.state == "clean" else found or [f"counted: {outcome.state}: {outcome.note}"]
