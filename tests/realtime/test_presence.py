"""Who is on a page: people, not tabs; everywhere the same; and no ghosts."""

from __future__ import annotations

import random
from collections import deque

import pytest

from realtime import conf, frames, presence, publish
from tests.realtime import harness
from tests.realtime.harness import Server, play

FAST = {"tick": 0.02, "presence_grace": 0.0, "presence_renew": 0.1, "presence_lease": 1.0}


class World:
    """Boards of several processes on one bus, with a clock of its own and a bus that may lose messages."""

    def __init__(self, processes: int) -> None:
        self.now = 0.0
        self.limits = conf.Limits(presence_grace=8.0, presence_lease=15.0, presence_renew=5.0)
        self.bus: deque[publish.Message] = deque()
        self.shown: list[dict[str, frames.PresentPerson]] = [{} for _ in range(processes)]
        self.boards = [self.start(index, f"p{index}") for index in range(processes)]

    def start(self, index: int, name: str) -> presence.Board:
        def show(frame: frames.PresenceFrame) -> None:
            if frame.topic == "user:1":
                self.shown[index].update((person.id, person) for person in frame.joined)
                for key in frame.left:
                    self.shown[index].pop(key)

        return presence.Board(name, self.limits, self.bus.append, show, lambda: self.now)

    def turn(self, seconds: float = 0.25, lose: float = 0.0, dice: random.Random | None = None) -> None:
        self.now += seconds
        for board in self.boards:
            board.tick()
        while self.bus:
            message = self.bus.popleft()
            for board in self.boards:
                if dice is None or dice.random() >= lose:
                    board.hear(publish.decode(publish.encode(message)))
        for board in self.boards:
            board.tick()


def state(state: str, field: str | None = None, topic: str = "user:1") -> frames.SetPresence:
    return frames.SetPresence(topic=topic, state=state, field=field)


def test_tabs_of_one_person_are_one_person_and_the_busiest_tab_speaks() -> None:
    world = World(2)
    world.boards[0].enter("c1", "7", "Ada", state("idle"))
    world.boards[1].enter("c2", "7", "Ada", state("editing", "email"))
    world.turn()
    for shown in world.shown:
        assert list(shown) == ["7"]
        assert (shown["7"].state, shown["7"].field, shown["7"].tabs) == ("editing", "email", 2)
    world.boards[1].enter("c2", "7", "Ada", state("gone"))
    world.turn()
    assert [(shown["7"].state, shown["7"].tabs) for shown in world.shown] == [("idle", 1)] * 2


def test_a_reload_does_not_flicker_and_leaving_is_shown_after_a_moment() -> None:
    world = World(1)
    world.boards[0].enter("c1", "7", "Ada", state("viewing"))
    world.turn()
    world.boards[0].leave("c1")
    world.turn(5.0)
    assert "7" in world.shown[0]
    world.boards[0].enter("c2", "7", "Ada", state("viewing"))
    world.turn(5.0)
    assert world.shown[0]["7"].tabs == 1
    world.boards[0].leave("c2")
    world.turn(8.0)
    assert world.shown[0] == {}


def test_a_crashed_process_leaves_no_ghosts_past_its_lease() -> None:
    world = World(2)
    world.boards[1].enter("c1", "7", "Ada", state("viewing"))
    world.turn()
    assert "7" in world.shown[0]
    del world.boards[1]
    for _ in range(4):
        world.turn(5.0)
    assert world.shown[0] == {}


def test_a_process_that_comes_late_learns_who_is_there() -> None:
    world = World(1)
    world.boards[0].enter("c1", "7", "Ada", state("viewing"))
    world.turn()
    world.shown.append({})
    world.boards.append(world.start(1, "late"))
    world.boards[1].ask()
    world.turn()
    assert list(world.shown[1]) == ["7"]


def test_everybody_sees_people_in_the_same_order() -> None:
    world = World(2)
    for index in (3, 1, 2):
        world.boards[index % 2].enter(f"c{index}", str(index), f"N{index}", state("viewing"))
    world.turn()
    orders = [[person.id for person in board.full("user:1").full or []] for board in world.boards]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == ["1", "2", "3"]


@pytest.mark.parametrize("seed", range(20))
def test_boards_converge_whatever_the_bus_loses(seed: int) -> None:
    dice = random.Random(seed)
    world = World(3)
    truth: list[dict[tuple[str, str], str]] = [{} for _ in range(3)]
    for _ in range(120):
        process = dice.randrange(3)
        key = (f"user:{dice.randrange(3)}", f"c{process}-{dice.randrange(4)}")
        wanted = dice.choice(("viewing", "editing", "idle", "gone"))
        world.boards[process].enter(key[1], key[1][-1], "N", state(wanted, topic=key[0]))
        truth[process][key] = wanted
        world.turn(0.5, lose=0.3, dice=dice)
    for _ in range(60):
        world.turn(0.5)
    here = {key for part in truth for key, wanted in part.items() if wanted != "gone"}
    expected = {topic: {key[1][-1] for key in here if key[0] == topic} for topic, _ in here}
    for board in world.boards:
        assert {topic: {person.id for person in people} for topic, people in board.here().items()} == expected


def test_sockets_see_who_comes_edits_and_leaves(transactional_db: None) -> None:
    ada, first = harness.sign_in("admin", "ada")
    grace, second = harness.sign_in("manager", "grace")

    async def scene(server: Server) -> None:
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
        play(scene(server))


def test_presence_is_told_between_processes(transactional_db: None) -> None:
    ada, first = harness.sign_in("admin", "ada")
    _, second = harness.sign_in("manager", "grace")

    async def scene(server: Server, other: Server) -> None:
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
        play(scene(server, other))


def test_a_connection_is_present_on_a_limited_number_of_topics() -> None:
    world = World(1)
    board, most = world.boards[0], world.limits.presence_topics
    assert all(board.enter("c1", "7", "Ada", state("viewing", topic=f"user:{number}")) for number in range(most))
    assert not board.enter("c1", "7", "Ada", state("viewing", topic="user:more"))
    assert board.enter("c1", "7", "Ada", state("editing", topic="user:0")), "a topic it is on already"
    assert board.enter("c2", "8", "Bob", state("viewing", topic="user:more")), "others are not concerned"
    board.enter("c1", "7", "Ada", state("gone", topic="user:0"))
    assert board.enter("c1", "7", "Ada", state("viewing", topic="user:more"))


def test_what_a_connection_left_makes_room_once_the_grace_is_over() -> None:
    world = World(1)
    board = world.boards[0]
    for number in range(world.limits.presence_topics):
        board.enter("c1", "7", "Ada", state("viewing", topic=f"user:{number}"))
    board.leave("c1")
    world.turn(world.limits.presence_grace)
    assert board.enter("c1", "7", "Ada", state("viewing", topic="user:more"))
    assert not board._topics_of.keys() - {"c1"}
