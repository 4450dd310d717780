"""The oracle of the fault test sees what it is there to see: a log that is not what the store says."""

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


def a_log(watcher: clients.Witness, upto: int | None = None) -> Log:
    """What a faultless client would have."""
    view = topics.find("users")
    assert view is not None
    key = view[0].projection_key(watcher.person.principal)
    return [
        clients.Seen(event.position, ("users",), clients.content_of(view[0].project(event, key) or {}), 0.0)
        for event in store.read_all(watcher.start.position, 1_000_000, upto=upto or head.safe(), categories=["user"])
    ]


@pytest.fixture
def witness(transactional_db: None) -> clients.Witness:
    """A client of a viewer, from whom e-mail addresses are hidden, and ten events, after those of earlier tests."""
    start = frames.Since(head.epoch(), head.safe())
    staff, _ = harness.sign_in("viewer")
    for number in range(10):
        update = UserUpdated(first_name=str(number), email=f"{number}@example.org")
        store.append(harness.new_user(), [update])
    witness = clients.Witness("viewer/0", clients.Person(str(staff.pk), staff), ["ws://nowhere"], ["users"])
    witness.start = start
    return witness


def judged(witness: clients.Witness, log: Log) -> list[str]:
    witness.seen = log
    return oracle.Oracle(witness.start.position).judge(witness)


def test_a_faultless_log_is_found_faultless(witness: clients.Witness) -> None:
    assert judged(witness, a_log(witness)) == []


SPOILED: dict[str, Callable[[Log], Log]] = {
    "the first is missing": lambda log: log[1:],
    "one in the middle is missing": lambda log: log[:4] + log[5:],
    "the last is missing": lambda log: log[:-1],
    "one came twice": lambda log: [*log[:4], log[3], *log[4:]],
    "two changed places": lambda log: [*log[:3], log[4], log[3], *log[5:]],
    "one is invented": lambda log: [*log, msgspec.structs.replace(log[-1], position=log[-1].position + 1000)],
    "one says something else": lambda log: [msgspec.structs.replace(log[0], content=1), *log[1:]],
    "one is on a topic nobody asked for": lambda log: [
        msgspec.structs.replace(log[0], topics=("users", "forms")),
        *log[1:],
    ],
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_log_is_not(witness: clients.Witness, what: str) -> None:
    assert judged(witness, SPOILED[what](a_log(witness)))


def test_a_hidden_field_that_was_shown_is_seen(witness: clients.Witness) -> None:
    told = [
        clients.Seen(event.position, ("users",), clients.content_of(event.to_wire()), 0.0)
        for event in store.read_all(witness.start.position, 1_000_000, upto=head.safe(), categories=["user"])
    ]
    assert any("other content" in line for line in judged(witness, told))


def test_what_came_after_a_revocation_is_seen_and_a_log_that_ends_before_it_is_fine(witness: clients.Witness) -> None:
    before = a_log(witness)
    witness.name, witness.person.revoked, witness.person.after = "deactivated/0", True, witness.person.principal
    store.append(f"staff-{witness.person.id}", [StaffDeactivated()])
    store.append(harness.new_user(), [UserUpdated(first_name="later")])
    assert any("not closed" in line for line in judged(witness, before))
    witness.ended = client.Stopped(frames.REVOKED, "session revoked")
    assert judged(witness, before) == []
    assert judged(witness, before[:5]) == []  # it may have been away
    assert judged(witness, a_log(witness))


def test_a_broken_chain_and_a_reset_without_cause_are_seen(witness: clients.Witness) -> None:
    witness.resets = ["rewound"]
    assert judged(witness, a_log(witness))
    witness.resets = []
    witness.ended = client.Missed("a gap")
    assert judged(witness, a_log(witness))


def test_presence_that_differs_is_seen(witness: clients.Witness) -> None:
    scene = clients.Cast()
    scene.witnesses.append(witness)
    me = frames.PresentPerson(id=witness.person.id, name="viewer", state="viewing", since="")
    witness.people["users"] = {witness.person.id: me}
    assert oracle.presence_wrong(scene) == []
    witness.people["users"]["ghost"] = me
    assert oracle.presence_wrong(scene)
    witness.people["users"].clear()
    assert oracle.presence_wrong(scene)
