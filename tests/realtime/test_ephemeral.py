"""Ephemeral values: the latest wins, at most ten in a frame, and none delays an event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backoffice import topics
from realtime import frames, publish
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario


def value(key: str, number: int, exclude: str | None = None, topic: str = "dashboard") -> publish.Value:
    return publish.Value(
        topic=topic,
        event="dashboard.widget.update",
        key=key,
        data={"widget": key, "value": number},
        timestamp="2026-01-01T00:00:00Z",
        exclude=exclude,
    )


async def put(server: Server, *values: publish.Value) -> None:
    def put_all() -> None:
        for one in values:
            server.hub.receive(one)

    await server.on_loop(put_all)


def test_single_value_keeps_its_event_name_and_the_latest_wins(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("dashboard")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await put(server, value("users", 1), value("users", 2))
            frame = await harness.next_of(items, frames.Ephemeral)
            assert (frame.event, frame.data) == ("dashboard.widget.update", {"widget": "users", "value": 2})

    run_scenario(scenario())


def test_several_values_are_one_batch_and_ten_are_sent_without_waiting_for_the_tick(session: str) -> None:
    async def scenario(server: Server) -> None:
        async with server.client(session) as live:
            await live.follow("dashboard")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await put(server, *(value(f"w{number}", number) for number in range(13)))
            frame = await harness.next_of(items, frames.Ephemeral)
            assert frame.event == "dashboard.batch.update"
            assert [update["key"] for update in frame.data["updates"]] == [f"w{number}" for number in range(10)]
            await server.on_loop(server.hub.tick, server.hub._loop.time())
            rest = await harness.next_of(items, frames.Ephemeral)
            assert [update["key"] for update in rest.data["updates"]] == ["w10", "w11", "w12"]

    with Server(tick=3600.0) as server:  # no tick by itself
        run_scenario(scenario(server))


def test_sender_does_not_receive_its_own_value(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.client(session) as sender, server.client(session) as other:
            for live in (sender, other):
                await live.follow("dashboard")
                await harness.next_of(aiter(live), frames.Subscribed)
            await put(server, value("mine", 1, exclude=sender.welcome.connection_id), value("all", 2))
            frame = await harness.next_of(aiter(other), frames.Ephemeral)
            assert [update["key"] for update in frame.data["updates"]] == ["mine", "all"]
            assert (await harness.next_of(aiter(sender), frames.Ephemeral)).data["widget"] == "all"

    run_scenario(scenario())


def test_socket_out_of_credit_gets_its_events_first_and_then_only_the_latest_value(
    writer: Writer, session: str
) -> None:
    async def scenario(server: Server) -> None:
        async with server.raw(session) as slow:
            await slow.send(frames.encode(frames.Subscribe(id=1, topics=["users", "dashboard"])))
            await harness.receive(slow, frames.Subscribed)
            positions = [await writer.rename(harness.new_user()) for _ in range(6)]
            await server.until(lambda: server.hub.position >= positions[-1])
            for number in range(50):
                await put(server, value("users", number))
            seen = [await harness.receive(slow, frames.EventFrame) for _ in range(4)]
            await slow.send(frames.encode(frames.Ack(position=seen[-1].position)))
            seen += [await harness.receive(slow, frames.EventFrame) for _ in range(2)]
            assert [event.position for event in seen] == positions
            assert (await harness.receive(slow, frames.Ephemeral)).data["value"] == 49

    with Server(window_frames=4, ack_frames=2) as server:
        run_scenario(scenario(server))


def test_hidden_page_gets_only_the_latest_value_when_it_becomes_visible(session: str) -> None:
    async def scenario(server: Server) -> None:
        async with server.client(session) as live:
            await live.follow("dashboard")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await live.send(frames.Visibility(hidden=True))
            (socket,) = server.hub.sockets.values()
            await server.until(lambda: socket.hidden)
            for number in range(5):
                await put(server, value("users", number))
            await server.until(lambda: bool(socket.pending_values))
            await put(server, value("users", 99))
            await server.until(lambda: any(kept.data["value"] == 99 for kept in socket.pending_values.values()))
            await live.send(frames.Visibility(hidden=False))
            assert (await harness.next_of(items, frames.Ephemeral)).data["value"] == 99

    with Server(ephemeral_hidden=3600.0, tick=0.02) as server:
        run_scenario(scenario(server))


def test_value_published_by_another_process_arrives(server: Server, writer: Writer, session: str) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("system")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await server.until(lambda: server.hub.bus.up)
            assert await asyncio.to_thread(publish.ephemeral, "system", "system.metrics", {"cpu": 12})
            frame = await harness.next_of(items, frames.Ephemeral)
            assert (frame.topic, frame.event, frame.data) == ("system", "system.metrics", {"cpu": 12})

    run_scenario(scenario())


def test_dashboard_value_reaches_only_staff_with_the_right_of_its_widget(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All staff follow the dashboard; single, batched and pending values reach only those with the right."""
    monkeypatch.setitem(topics.WIDGETS, "users", ("view", "user", "users:read"))
    monkeypatch.setitem(topics.WIDGETS, "settings", ("view", "setting", "settings:read"))
    expected = {
        "admin": {"users", "settings:a", "undeclared"},
        "manager": {"users", "settings:a"},
        "viewer": {"users"},
    }
    sessions = {role: harness.sign_in(role)[1] for role in expected}

    async def seen(live: Any, items: Any, count: int) -> set[str]:
        keys: set[str] = set()
        while len(keys) < count:
            frame = await harness.next_of(items, frames.Ephemeral)
            keys |= {one["data"]["widget"] for one in frame.data.get("updates", [{"data": frame.data}])}
        return keys

    async def scenario() -> None:
        for role, session in sessions.items():
            for hidden in (False, True):
                async with server.client(session) as live:
                    await live.follow("dashboard")
                    items = aiter(live)
                    await harness.next_of(items, frames.Subscribed)
                    (socket,) = await server.on_loop(lambda: list(server.hub.sockets.values()))
                    await server.on_loop(setattr, socket, "hidden", hidden)
                    await put(server, *(value(key, 1) for key in ("undeclared", "settings:a", "users")))
                    await server.until(lambda socket=socket, hidden=hidden: bool(socket.pending_values) or not hidden)
                    await server.on_loop(setattr, socket, "hidden", False)
                    await server.on_loop(server.hub.ephemeral.page_shown, socket)
                    await put(server, value("undeclared", 2), value("settings:a", 2), value("users", 2))
                    assert await seen(live, items, len(expected[role])) == expected[role]
                await server.until(lambda: not server.hub.sockets)

    run_scenario(scenario())


def test_pending_value_is_dropped_when_its_topic_was_lost_meanwhile(session: str) -> None:
    async def scenario(server: Server) -> None:
        async with server.client(session) as live:
            await live.follow("dashboard", "users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            (socket,) = await server.on_loop(lambda: list(server.hub.sockets.values()))
            await server.on_loop(setattr, socket, "hidden", True)
            await put(server, value("users", 1))
            await server.on_loop(server.hub.tick, server.hub._loop.time())
            assert socket.pending_values
            await server.on_loop(server.hub.catch_up.reset, socket, {"dashboard"}, "forbidden")
            await server.on_loop(server.hub.ephemeral.page_shown, socket)
            await server.on_loop(server.hub.tick, server.hub._loop.time())
            await put(server, value("one", 1, topic="users"))
            await server.on_loop(setattr, socket, "hidden", False)
            await server.on_loop(server.hub.ephemeral.page_shown, socket)
            await server.on_loop(server.hub.tick, server.hub._loop.time())
            assert (await harness.next_of(items, frames.Ephemeral)).topic == "users"

    with Server(tick=3600.0) as server:
        run_scenario(scenario(server))
