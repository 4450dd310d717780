"""The oracle of the chaos test detects every log that differs from the store."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from backoffice.sections.staff.domain import StaffDeactivated
from backoffice.sections.users.domain import UserUpdated
from benchmarks.chaos import clients, oracle
from events import head, store
from realtime import client, frames, topics
from tests.realtime import harness

Log = list[clients.Seen]


def a_log(watcher: clients.Watcher, upto: int | None = None) -> Log:
    """The log of a client that received everything correctly."""
    view = topics.find("users")
    assert view is not None
    key = view[0].projection_key(watcher.person.principal)
    return [
        clients.Seen(event.position, ("users",), clients.content_of(view[0].project(event, key) or {}), 0.0)
        for event in store.read_all(watcher.start.position, 1_000_000, upto=upto or head.safe(), categories=["user"])
    ]


@pytest.fixture
def watcher(transactional_db: None) -> clients.Watcher:
    """A client with the role viewer, which hides e-mail addresses, and ten events after those of earlier tests."""
    start = frames.Since(head.epoch(), head.safe())
    staff, _ = harness.sign_in("viewer")
    for number in range(10):
        update = UserUpdated(first_name=str(number), email=f"{number}@example.org")
        store.append(harness.new_user(), [update])
    watcher = clients.Watcher("viewer/0", clients.Person(str(staff.pk), staff), ["ws://nowhere"], ["users"])
    watcher.start = start
    return watcher


def evaluate(watcher: clients.Watcher, log: Log) -> list[str]:
    watcher.seen = log
    return oracle.Oracle(watcher.start.position).check(watcher)


def test_correct_log_passes(watcher: clients.Watcher) -> None:
    assert evaluate(watcher, a_log(watcher)) == []


CORRUPTIONS: dict[str, Callable[[Log], Log]] = {
    "the first is missing": lambda log: log[1:],
    "one in the middle is missing": lambda log: log[:4] + log[5:],
    "the last is missing": lambda log: log[:-1],
    "one came twice": lambda log: [*log[:4], log[3], *log[4:]],
    "two changed places": lambda log: [*log[:3], log[4], log[3], *log[5:]],
    "one is invented": lambda log: [*log, msgspec.structs.replace(log[-1], position=log[-1].position + 1000)],
    "one has other content": lambda log: [msgspec.structs.replace(log[0], content=1), *log[1:]],
    "one is on a topic without a subscription": lambda log: [
        msgspec.structs.replace(log[0], topics=("users", "forms")),
        *log[1:],
    ],
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_corrupted_log_is_detected(watcher: clients.Watcher, what: str) -> None:
    assert evaluate(watcher, CORRUPTIONS[what](a_log(watcher)))


def test_exposed_hidden_field_is_detected(watcher: clients.Watcher) -> None:
    log = [
        clients.Seen(event.position, ("users",), clients.content_of(event.to_wire()), 0.0)
        for event in store.read_all(watcher.start.position, 1_000_000, upto=head.safe(), categories=["user"])
    ]
    assert any("other content" in line for line in evaluate(watcher, log))


def test_event_after_a_revocation_is_detected_and_a_log_that_ends_before_it_passes(watcher: clients.Watcher) -> None:
    before = a_log(watcher)
    watcher.name, watcher.person.revoked, watcher.person.after = "deactivated/0", True, watcher.person.principal
    store.append(f"staff-{watcher.person.id}", [StaffDeactivated()])
    store.append(harness.new_user(), [UserUpdated(first_name="later")])
    assert any("not closed" in line for line in evaluate(watcher, before))
    watcher.ended = client.Stopped(frames.REVOKED, "session revoked")
    assert evaluate(watcher, before) == []
    assert evaluate(watcher, before[:5]) == []  # it may have been disconnected
    assert evaluate(watcher, a_log(watcher))


def test_broken_chain_and_unjustified_reset_are_detected(watcher: clients.Watcher) -> None:
    watcher.resets = ["rewound"]
    assert evaluate(watcher, a_log(watcher))
    watcher.resets = []
    watcher.ended = client.Missed("a gap")
    assert evaluate(watcher, a_log(watcher))


def test_different_presence_is_detected(watcher: clients.Watcher) -> None:
    scenario = clients.ClientSet()
    scenario.watchers.append(watcher)
    me = frames.PresentPerson(id=watcher.person.id, name="viewer", state="viewing", since="")
    watcher.people["users"] = {watcher.person.id: me}
    assert oracle.presence_errors(scenario) == []
    watcher.people["users"]["ghost"] = me
    assert oracle.presence_errors(scenario)
    watcher.people["users"].clear()
    assert oracle.presence_errors(scenario)
