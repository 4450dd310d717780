"""Back-pressure: a client that does not read costs a bounded amount of memory and no other client anything."""

from __future__ import annotations

import asyncio

import pytest

from realtime import frames
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario

WINDOW = {"window_frames": 8, "ack_frames": 2, "retry_min_ms": 5, "retry_max_ms": 40}


def test_client_that_never_acknowledges_is_sent_no_more_than_its_window(writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        async with server.raw(session) as silent:
            await harness.receive(silent, frames.Welcome)
            await silent.send(frames.encode(frames.Subscribe(id=1, topics=["users"])))
            await harness.receive(silent, frames.Subscribed)
            positions = [await writer.rename(harness.new_user()) for _ in range(30)]
            await server.until(lambda: server.hub.position >= positions[-1])
            (socket,) = server.hub.sockets.values()
            assert len(socket.unacked) == 8
            assert [(behind.names, behind.position) for behind in socket.behind] == [({"users"}, positions[7])]
            seen = [(await harness.receive(silent, frames.EventFrame)).position for _ in range(8)]
            await silent.send(frames.encode(frames.Ack(position=seen[-1])))
            seen += [(await harness.receive(silent, frames.EventFrame)).position for _ in range(8)]
            assert seen == positions[:16]

    with Server(**WINDOW) as server:
        run_scenario(scenario(server))


def test_client_that_acknowledges_late_still_gets_everything_once(writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        stamp = await writer.head()
        async with server.client(session) as live:
            await live.follow("users", since=stamp)
            await asyncio.gather(*(writer.rename(harness.new_user()) for _ in range(100)))
            truth = await writer.log(stamp.position)
            seen = await harness.events_until(aiter(live), truth[-1])
            assert [event.position for event in seen] == truth
            assert live.connected == 1

    with Server(**WINDOW) as server:
        run_scenario(scenario(server))


@pytest.mark.parametrize("acknowledges", [False, True])
def test_reader_that_stays_slow_receives_goodbye_and_resumes_later(
    writer: Writer, session: str, acknowledges: bool
) -> None:
    async def scenario(server: Server) -> None:
        stamp = await writer.head()
        async with server.client(session, acknowledge=acknowledges) as slow:
            await slow.follow("users", since=stamp)
            for _ in range(20):
                await writer.rename(harness.new_user())
            truth = await writer.log(stamp.position)
            seen = await harness.events_until(aiter(slow), truth[-1])
            assert [event.position for event in seen] == truth
            assert (slow.connected > 1) is not acknowledges

    with Server(**WINDOW, slow_after=0.2, tick=0.05) as server:
        run_scenario(scenario(server))


def test_client_that_does_not_read_neither_delays_others_nor_grows_memory(writer: Writer, session: str) -> None:
    """Its window is far larger than the kernel's buffers: the server's own back-pressure has to hold."""

    async def scenario(server: Server) -> None:
        stamp = await writer.head()
        async with server.raw(session, max_queue=1) as unread, server.client(session) as live:
            await harness.receive(unread, frames.Welcome)
            await unread.send(frames.encode(frames.Subscribe(id=1, topics=["users"])))
            await harness.receive(unread, frames.Subscribed)
            unread.transport.pause_reading()
            await live.follow("users", since=stamp)
            items = aiter(live)
            for _ in range(24):
                position = await writer.rename(harness.new_user(), "x" * 400_000)
                assert (await harness.events_until(items, position))[-1].position == position
            stuck = next(socket for socket in server.hub.sockets.values() if socket.id != live.welcome.connection_id)
            assert stuck.send_pending
            assert sum(frame.size for frame in stuck.unacked) < 16_000_000
            assert not stuck.live
            unread.transport.resume_reading()
            stuck_at = [frame.position for frame in stuck.unacked][-1]
            while (await harness.receive(unread, frames.EventFrame)).position < stuck_at:
                pass
            unread.transport.abort()  # a closing handshake would wait until the rest is read

    with Server(window_bytes=1 << 30, ack_bytes=1 << 20, window_frames=10**6, slow_after=60.0) as server:
        run_scenario(scenario(server))


def test_control_frames_that_a_client_never_reads_are_bounded(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.raw(session, max_queue=None) as client:
            await harness.receive(client, frames.Welcome)
            with pytest.raises(harness.Closed) as closed:
                for number in range(200):
                    await client.send(frames.encode(frames.Unsubscribe(id=number, topics=[])))
                    await asyncio.sleep(0)
                while True:
                    await client.recv()
            assert closed.value.rcvd.code == frames.TOO_MANY

    run_scenario(scenario())


# -- falling too far behind ----------------------------------------------------------------------------------------


async def _next_frame(connection: harness.ws.ClientConnection) -> frames.EventFrame | frames.Reset:
    while True:
        frame = frames.decode_server(await connection.recv())
        if isinstance(frame, frames.EventFrame | frames.Reset):
            return frame


def test_socket_too_far_behind_the_head_is_reset_as_soon_as_it_has_credit(writer: Writer, session: str) -> None:
    """Its credit ends within a page of the store each time: it must not stay behind for good."""

    async def scenario(server: Server) -> None:
        async with server.raw(session) as slow:
            await harness.receive(slow, frames.Welcome)
            await slow.send(frames.encode(frames.Subscribe(id=1, topics=["users"])))
            await harness.receive(slow, frames.Subscribed)
            positions = [await writer.rename(harness.new_user()) for _ in range(40)]
            await server.until(lambda: server.hub.position >= positions[-1])
            seen = [(await harness.receive(slow, frames.EventFrame)).position for _ in range(8)]
            assert seen == positions[:8]
            await slow.send(frames.encode(frames.Ack(position=seen[-1])))
            reset = await _next_frame(slow)
            assert isinstance(reset, frames.Reset)
            assert (reset.topics, reset.reason) == (["users"], "too_old")
            assert reset.position >= positions[-1]
            since = frames.Since(reset.epoch, reset.position)
            await slow.send(frames.encode(frames.Subscribe(id=2, topics=["users"], since=since)))
            await harness.receive(slow, frames.Subscribed)
            later = await writer.rename(harness.new_user())
            event = await _next_frame(slow)
            assert isinstance(event, frames.EventFrame)
            assert (event.position, event.previous) == (later, seen[-1])

    with Server(**WINDOW, ring_events=4, catch_up_events=20) as server:
        run_scenario(scenario(server))


def test_socket_that_stays_near_the_head_but_never_reaches_the_ring_is_reset(writer: Writer, session: str) -> None:
    """Others write as fast as it reads: it stays near the head, but always reads the store."""

    async def scenario(server: Server) -> None:
        async with server.raw(session) as slow:
            await harness.receive(slow, frames.Welcome)
            await slow.send(frames.encode(frames.Subscribe(id=1, topics=["users"])))
            await harness.receive(slow, frames.Subscribed)
            positions = [await writer.rename(harness.new_user()) for _ in range(16)]
            seen: list[int] = []

            async def reached() -> None:
                await server.until(lambda: server.hub.position >= positions[-1])

            await reached()
            for _ in range(20):
                frame = await _next_frame(slow)
                if isinstance(frame, frames.Reset):
                    break
                seen.append(frame.position)
                if len(seen) % 4 == 0:
                    positions.extend([await writer.rename(harness.new_user()) for _ in range(4)])
                    await reached()
                    await slow.send(frames.encode(frames.Ack(position=seen[-1])))
            assert isinstance(frame, frames.Reset)
            assert frame.reason == "too_old"
            assert seen == positions[: len(seen)]

    with Server(**(WINDOW | {"window_frames": 4}), ring_events=2, catch_up_events=14) as server:
        run_scenario(scenario(server))


def test_slow_readers_of_a_burst_see_each_event_once_in_order_or_a_reset(writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        stamp = await writer.head()
        last: list[int] = []

        async def watch(pause: int) -> None:
            seen: list[int] = []
            after = stamp.position
            async with server.client(session) as live:
                await live.follow("users", since=stamp)
                async for item in live:
                    if isinstance(item, frames.Reset):
                        assert item.reason == "too_old"
                        after, seen = item.position, []
                        await live.follow("users", since=frames.Since(item.epoch, item.position))
                    elif isinstance(item, frames.EventFrame):
                        seen.append(item.position)
                        assert seen == [position for position in await writer.log(after) if position <= item.position]
                        for _ in range(pause):
                            await asyncio.sleep(0)
                    if last and (seen[-1] if seen else after) >= last[0]:
                        return
            raise AssertionError("unreachable")

        async with asyncio.TaskGroup() as watchers:
            for pause in (0, 20, 200):
                watchers.create_task(watch(pause))
            for _ in range(60):
                position = await writer.rename(harness.new_user())
            last.append(position)
            await writer.rename(harness.new_user())  # for clients that read the last one before it was recorded

    with Server(**WINDOW, ring_events=4, page=6, catch_up_events=12) as server:
        run_scenario(scenario(server))
