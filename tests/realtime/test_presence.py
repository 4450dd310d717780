"""Presence shows people instead of tabs, the same in every process, without stale entries."""

from __future__ import annotations

import random
from collections import deque

import pytest

from realtime import conf, frames, presence, publish
from tests.realtime import harness
from tests.realtime.harness import Server, run_scenario

FAST = {"tick": 0.02, "presence_grace": 0.0, "presence_renew": 0.1, "presence_lease": 1.0}


class SimulatedBus:
    """Presence trackers of several processes on one simulated bus that may lose messages, with a simulated clock."""

    def __init__(self, processes: int) -> None:
        self.now = 0.0
        self.limits = conf.Limits(presence_grace=8.0, presence_lease=15.0, presence_renew=5.0)
        self.bus: deque[publish.Message] = deque()
        self.shown: list[dict[str, frames.PresentPerson]] = [{} for _ in range(processes)]
        self.trackers = [self.start(index, f"p{index}") for index in range(processes)]

    def start(self, index: int, name: str) -> presence.PresenceTracker:
        def show(frame: frames.PresenceFrame) -> None:
            if frame.topic == "user:1":
                self.shown[index].update((person.id, person) for person in frame.joined)
                for key in frame.left:
                    self.shown[index].pop(key)

        return presence.PresenceTracker(name, self.limits, self.bus.append, show, lambda: self.now)

    def turn(self, seconds: float = 0.25, lose: float = 0.0, rng: random.Random | None = None) -> None:
        self.now += seconds
        for tracker in self.trackers:
            tracker.tick()
        while self.bus:
            message = self.bus.popleft()
            for tracker in self.trackers:
                if rng is None or rng.random() >= lose:
                    tracker.receive(publish.decode(publish.encode(message)))
        for tracker in self.trackers:
            tracker.tick()


def state(state: str, field: str | None = None, topic: str = "user:1") -> frames.SetPresence:
    return frames.SetPresence(topic=topic, state=state, field=field)


def test_tabs_of_one_person_are_shown_as_one_with_the_state_of_the_busiest_tab() -> None:
    simulation = SimulatedBus(2)
    simulation.trackers[0].set_state("c1", "7", "Ada", state("idle"))
    simulation.trackers[1].set_state("c2", "7", "Ada", state("editing", "email"))
    simulation.turn()
    for shown in simulation.shown:
        assert list(shown) == ["7"]
        assert (shown["7"].state, shown["7"].field, shown["7"].tabs) == ("editing", "email", 2)
    simulation.trackers[1].set_state("c2", "7", "Ada", state("gone"))
    simulation.turn()
    assert [(shown["7"].state, shown["7"].tabs) for shown in simulation.shown] == [("idle", 1)] * 2


def test_reload_keeps_the_person_and_leaving_is_shown_after_the_grace_period() -> None:
    simulation = SimulatedBus(1)
    simulation.trackers[0].set_state("c1", "7", "Ada", state("viewing"))
    simulation.turn()
    simulation.trackers[0].leave("c1")
    simulation.turn(5.0)
    assert "7" in simulation.shown[0]
    simulation.trackers[0].set_state("c2", "7", "Ada", state("viewing"))
    simulation.turn(5.0)
    assert simulation.shown[0]["7"].tabs == 1
    simulation.trackers[0].leave("c2")
    simulation.turn(8.0)
    assert simulation.shown[0] == {}


def test_entries_of_a_crashed_process_end_with_its_lease() -> None:
    simulation = SimulatedBus(2)
    simulation.trackers[1].set_state("c1", "7", "Ada", state("viewing"))
    simulation.turn()
    assert "7" in simulation.shown[0]
    del simulation.trackers[1]
    for _ in range(4):
        simulation.turn(5.0)
    assert simulation.shown[0] == {}


def test_process_that_starts_later_learns_who_is_present() -> None:
    simulation = SimulatedBus(1)
    simulation.trackers[0].set_state("c1", "7", "Ada", state("viewing"))
    simulation.turn()
    simulation.shown.append({})
    simulation.trackers.append(simulation.start(1, "late"))
    simulation.trackers[1].request_snapshots()
    simulation.turn()
    assert list(simulation.shown[1]) == ["7"]


def test_every_process_shows_people_in_the_same_order() -> None:
    simulation = SimulatedBus(2)
    for index in (3, 1, 2):
        simulation.trackers[index % 2].set_state(f"c{index}", str(index), f"N{index}", state("viewing"))
    simulation.turn()
    orders = [[person.id for person in tracker.snapshot("user:1").full or []] for tracker in simulation.trackers]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == ["1", "2", "3"]


@pytest.mark.parametrize("seed", range(20))
def test_trackers_converge_whatever_messages_are_lost(seed: int) -> None:
    rng = random.Random(seed)
    simulation = SimulatedBus(3)
    truth: list[dict[tuple[str, str], str]] = [{} for _ in range(3)]
    for _ in range(120):
        process = rng.randrange(3)
        key = (f"user:{rng.randrange(3)}", f"c{process}-{rng.randrange(4)}")
        wanted = rng.choice(("viewing", "editing", "idle", "gone"))
        simulation.trackers[process].set_state(key[1], key[1][-1], "N", state(wanted, topic=key[0]))
        truth[process][key] = wanted
        simulation.turn(0.5, lose=0.3, rng=rng)
    for _ in range(60):
        simulation.turn(0.5)
    present = {key for part in truth for key, wanted in part.items() if wanted != "gone"}
    expected = {topic: {key[1][-1] for key in present if key[0] == topic} for topic, _ in present}
    for tracker in simulation.trackers:
        assert {topic: {person.id for person in people} for topic, people in tracker.everyone().items()} == expected


def test_sockets_receive_who_joins_edits_and_leaves(transactional_db: None) -> None:
    ada, first = harness.sign_in("admin", "ada")
    grace, second = harness.sign_in("manager", "grace")

    async def scenario(server: Server) -> None:
        async with server.client(first) as one:
            await one.follow("user:1")
            items = aiter(one)
            await harness.next_of(items, frames.Subscribed)
            await one.send(state("viewing"))
            joined = (await harness.next_of(items, frames.PresenceFrame)).joined
            assert [(person.id, person.state) for person in joined] == [(str(ada.pk), "viewing")]
            async with server.client(second) as two:
                await two.follow("user:1")
                others = aiter(two)
                await harness.next_of(others, frames.Subscribed)
                full = (await harness.next_of(others, frames.PresenceFrame)).full
                assert [person.id for person in full or []] == [str(ada.pk)]
                await two.send(state("editing", "email"))
                joined = (await harness.next_of(items, frames.PresenceFrame)).joined
                assert [(person.id, person.state, person.field) for person in joined] == [
                    (str(grace.pk), "editing", "email")
                ]
            assert (await harness.next_of(items, frames.PresenceFrame)).left == [str(grace.pk)]

    with Server(**FAST) as server:
        run_scenario(scenario(server))


def test_presence_is_published_between_processes(transactional_db: None) -> None:
    ada, first = harness.sign_in("admin", "ada")
    _, second = harness.sign_in("manager", "grace")

    async def scenario(server: Server, other: Server) -> None:
        async with server.client(first) as one, other.client(second) as two:
            await one.follow("user:1")
            await two.follow("user:1")
            items = aiter(two)
            await harness.next_of(items, frames.Subscribed)
            await harness.next_of(aiter(one), frames.Subscribed)
            await one.send(state("editing"))
            joined = (await harness.next_of(items, frames.PresenceFrame)).joined
            assert [(person.id, person.state) for person in joined] == [(str(ada.pk), "editing")]

    with Server(**FAST) as server, Server(**FAST) as other:
        run_scenario(scenario(server, other))


def test_connection_is_present_on_a_limited_number_of_topics() -> None:
    simulation = SimulatedBus(1)
    tracker, most = simulation.trackers[0], simulation.limits.presence_topics
    assert all(tracker.set_state("c1", "7", "Ada", state("viewing", topic=f"user:{number}")) for number in range(most))
    assert not tracker.set_state("c1", "7", "Ada", state("viewing", topic="user:more"))
    assert tracker.set_state("c1", "7", "Ada", state("editing", topic="user:0")), "a topic it is on already"
    assert tracker.set_state("c2", "8", "Bob", state("viewing", topic="user:more")), "others are not concerned"
    tracker.set_state("c1", "7", "Ada", state("gone", topic="user:0"))
    assert tracker.set_state("c1", "7", "Ada", state("viewing", topic="user:more"))


def test_topics_that_a_connection_left_free_its_limit_after_the_grace_period() -> None:
    simulation = SimulatedBus(1)
    tracker = simulation.trackers[0]
    for number in range(simulation.limits.presence_topics):
        tracker.set_state("c1", "7", "Ada", state("viewing", topic=f"user:{number}"))
    tracker.leave("c1")
    simulation.turn(simulation.limits.presence_grace)
    assert tracker.set_state("c1", "7", "Ada", state("viewing", topic="user:more"))
    assert not tracker._topics_of.keys() - {"c1"}
