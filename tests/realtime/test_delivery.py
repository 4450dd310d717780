"""Delivery from the store to the client: every event of each granted topic, once and in order."""

from __future__ import annotations

import asyncio
import random

from events import store
from events.types import RecordedEvent
from realtime import frames, publish
from tests.realtime import harness
from tests.realtime.harness import Relay, Server, Writer, run_scenario


def test_event_reaches_a_subscriber_through_the_relay(
    server: Server, relay: Relay, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            stream = harness.new_user()
            position = await writer.rename(stream, "Grace")
            event = await harness.next_of(items, frames.EventFrame)
            assert (event.position, event.stream, event.event) == (position, stream, "user.updated")
            assert (event.topics, event.data, event.replayed) == (["users"], {"first_name": "Grace"}, False)

    run_scenario(scenario())


def test_event_reaches_a_subscriber_without_a_relay(server: Server, writer: Writer, session: str) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(items, frames.EventFrame)).position == position

    run_scenario(scenario())


def test_events_between_the_page_and_the_subscription_are_replayed(
    server: Server, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        stamp = await writer.head()
        missed = [await writer.rename(harness.new_user()) for _ in range(3)]
        await server.until(lambda: server.hub.position >= missed[-1])
        async with server.client(session) as live:
            await live.follow("users", since=stamp)
            seen = await harness.events_until(aiter(live), missed[-1])
            assert [event.position for event in seen] == missed
            assert all(event.replayed for event in seen)

    run_scenario(scenario())


def test_record_topic_carries_only_its_record_and_one_frame_names_all_topics(
    server: Server, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        stream, other = harness.new_user(), harness.new_user()
        record = "user:" + stream.removeprefix("user-")
        async with server.client(session) as narrow, server.client(session) as wide:
            await narrow.follow(record)
            await wide.follow("users", record)
            few, many = aiter(narrow), aiter(wide)
            await harness.next_of(few, frames.Subscribed)
            await harness.next_of(many, frames.Subscribed)
            await writer.rename(other)
            last = await writer.rename(stream)
            assert [event.topics for event in await harness.events_until(few, last)] == [[record]]
            assert [event.topics for event in await harness.events_until(many, last)] == [["users"], ["users", record]]

    run_scenario(scenario())


def test_client_that_is_disconnected_repeatedly_receives_exactly_the_stored_events(
    server: Server, relay: Relay, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        stamp = await writer.head()
        rng = random.Random(4)
        async with server.client(session) as live:
            await live.follow("users", since=stamp)
            seen: list[int] = []

            async def read(last: int) -> None:
                seen.extend(event.position for event in await harness.events_until(aiter(live), last))

            for _ in range(6):
                positions = [await writer.rename(harness.new_user()) for _ in range(rng.randrange(1, 20))]
                live.drop()
                positions += [await writer.rename(harness.new_user()) for _ in range(rng.randrange(1, 20))]
                await read(positions[-1])
            assert seen == await writer.log(stamp.position)
            assert live.connected > 1

    run_scenario(scenario())


def test_many_writers_and_subscribers_converge_on_the_store(
    server: Server, relay: Relay, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        stamp = await writer.head()
        clients = [server.client(session) for _ in range(5)]
        seen: list[list[int]] = [[] for _ in clients]
        writers = [harness.Writer() for _ in range(4)]

        async def follow(index: int) -> None:
            async with clients[index] as live:
                await asyncio.sleep(0)
                await live.follow("users", since=stamp)
                async for item in live:
                    if isinstance(item, frames.EventFrame):
                        seen[index].append(item.position)

        async def write(one: Writer) -> None:
            for _ in range(40):
                await one.rename(harness.new_user())

        readers = [asyncio.create_task(follow(index)) for index in range(len(clients))]
        await asyncio.gather(*(write(one) for one in writers))
        stored = await writer.log(stamp.position)
        while any(len(one) < len(stored) for one in seen):
            await asyncio.sleep(0.01)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for one in writers:
            one.close()
        assert all(one == stored for one in seen)

    run_scenario(scenario())


def test_subscription_of_another_epoch_is_reset_and_still_answered(server: Server, session: str) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users", since=frames.Since("another-history", 5))
            items = aiter(live)
            reset = await harness.next_of(items, frames.Reset)
            assert (reset.topics, reset.reason) == (["users"], "epoch")
            assert live.welcome is not None
            assert reset.epoch == live.welcome.epoch
            assert (await harness.next_of(items, frames.Subscribed)).topics == []

    run_scenario(scenario())


def test_position_that_was_never_assigned_is_reset(server: Server, writer: Writer, session: str) -> None:
    async def scenario() -> None:
        stamp = await writer.head()
        async with server.client(session) as live:
            await live.follow("users", since=frames.Since(stamp.epoch, stamp.position + 10**9))
            reset = await harness.next_of(aiter(live), frames.Reset)
            assert (reset.reason, reset.topics) == ("rewound", ["users"])

    run_scenario(scenario())


def test_client_too_far_behind_receives_a_reset(writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        stamp = await writer.head()
        for _ in range(30):
            await writer.rename(harness.new_user())
        await server.until(lambda: server.hub.position >= stamp.position + 30)
        async with server.client(session) as live:
            await live.follow("users", since=frames.Since(stamp.epoch, stamp.position))
            reset = await harness.next_of(aiter(live), frames.Reset)
            assert reset.reason == "too_old"
            await live.follow("users", since=frames.Since(reset.epoch, reset.position))
            position = await writer.rename(harness.new_user())
            assert (await harness.next_of(aiter(live), frames.EventFrame)).position == position

    with Server(ring_events=4, page=5, catch_up_events=10) as small:
        run_scenario(scenario(small))


def test_catching_up_reads_the_store_below_the_ring(writer: Writer, session: str) -> None:
    async def scenario(server: Server) -> None:
        stamp = await writer.head()
        missed = [await writer.rename(harness.new_user()) for _ in range(50)]
        await server.until(lambda: server.hub.position >= missed[-1])
        async with server.client(session) as live:
            await live.follow("users", since=stamp)
            seen = await harness.events_until(aiter(live), missed[-1])
            assert [event.position for event in seen] == missed

    with Server(ring_events=4, page=7) as small:
        run_scenario(scenario(small))


def test_new_process_serves_recent_resumes_from_its_ring(server: Server, writer: Writer, session: str) -> None:
    async def scenario() -> None:
        stamp = await writer.head()
        missed = [await writer.rename(harness.new_user()) for _ in range(3)]
        with Server() as fresh:
            assert await fresh.on_loop(lambda: fresh.hub.ring.floor) <= stamp.position
            async with fresh.client(session) as live:
                await live.follow("users", since=stamp)
                assert [e.position for e in await harness.events_until(aiter(live), missed[-1])] == missed

    run_scenario(scenario())


# -- faults of the bus ----------------------------------------------------------------------------------------------


def test_lost_repeated_and_reordered_messages_change_nothing(server: Server, writer: Writer, session: str) -> None:
    """Batches of the relay with faults on their way to the hub; the beacon arrives last, as always."""

    async def scenario(seed: int) -> None:
        rng = random.Random(seed)
        stamp = await writer.head()
        async with server.client(session) as live:
            await live.follow("users", since=stamp)
            last, batches = stamp.position, []
            for _ in range(12):
                before = last
                for _ in range(rng.randrange(1, 4)):
                    last = await writer.rename(harness.new_user())
                batches.append((before, await recorded(writer, before, last)))
            for raw in with_faults(batches, stamp.epoch, rng):
                await server.on_loop(server.hub.receive, publish.decode(raw))
            await server.on_loop(server.hub.receive, publish.Beacon(epoch=stamp.epoch, head=last))
            seen = await harness.events_until(aiter(live), last)
            assert [event.position for event in seen] == await writer.log(stamp.position)

    for seed in range(6):
        run_scenario(scenario(seed))


async def recorded(writer: Writer, after: int, upto: int) -> list[RecordedEvent]:
    return await writer.do(lambda: store.read_all(after, 1000, upto=upto))


def with_faults(batches: list[tuple[int, list[RecordedEvent]]], epoch: str, rng: random.Random) -> list[bytes]:
    """The batches with faults: some lost, repeated or without `previous`, all slightly reordered."""
    messages: list[tuple[float, bytes]] = []
    for index, (previous, events) in enumerate(batches):
        if rng.random() < 0.25:
            continue
        for _ in range(rng.choice((1, 1, 2))):
            known = None if rng.random() < 0.1 else previous
            raw = publish.encode(publish.Batch(epoch=epoch, previous=known, last=events[-1].position, events=events))
            messages.append((index + rng.random() * 3, raw))
    return [raw for _, raw in sorted(messages)]


def test_batch_too_large_for_the_bus_is_read_from_the_store(
    server: Server, relay: Relay, writer: Writer, session: str
) -> None:
    async def scenario() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            position = await writer.rename(harness.new_user(), "x" * (publish.MAX_MESSAGE + 1))
            event = await harness.next_of(items, frames.EventFrame)
            assert event.position == position
            assert len(event.data["first_name"]) == publish.MAX_MESSAGE + 1

    run_scenario(scenario())


def test_messages_of_a_batch_are_chained_without_a_gap(writer: Writer) -> None:
    async def scenario() -> None:
        stamp = await writer.head()
        for index in range(20):
            last = await writer.rename(harness.new_user(), "x" * index * 50)
        events = await recorded(writer, stamp.position, last)
        raws = publish.batches("e", stamp.position, events, limit=4000)
        assert len(raws) > 1
        reached, positions = stamp.position, []
        for raw in raws:
            batch = publish.decode(raw)
            assert isinstance(batch, publish.Batch)
            assert batch.previous == reached
            assert len(raw) <= 4000
            reached = batch.last
            positions += [event.position for event in batch.events]
        assert positions == [event.position for event in events]

    run_scenario(scenario())


def test_subscriptions_at_any_moment_of_a_stream_miss_no_event(
    server: Server, relay: Relay, writer: Writer, session: str
) -> None:
    """Seeded interleavings of subscribing, disconnecting and publishing."""

    async def scenario(seed: int) -> None:
        rng = random.Random(seed)
        stamp = await writer.head()
        streams = [harness.new_user() for _ in range(3)]
        names = ["user:" + stream.removeprefix("user-") for stream in streams]
        expected: dict[str, list[int]] = {name: [] for name in names}
        got: dict[str, list[int]] = {name: [] for name in names}
        async with server.client(session) as live:
            wanted = set()
            for _ in range(40):
                index = rng.randrange(3)
                if rng.random() < 0.15:
                    await live.follow(names[index], since=stamp)
                    got[names[index]].clear()  # subscribed again from the stamp: all events are repeated
                    wanted.add(names[index])
                elif rng.random() < 0.1:
                    live.drop()
                else:
                    expected[names[index]].append(await writer.rename(streams[index]))
            await live.follow(*(set(names) - wanted), since=stamp)
            last = await writer.rename(streams[0])
            expected[names[0]].append(last)
            items = aiter(live)
            while any(got[name][-1:] != expected[name][-1:] for name in names):
                event = await harness.next_of(items, frames.EventFrame)
                for name in event.topics:
                    if event.position in got[name]:  # received before the last `follow` of this topic
                        got[name] = [p for p in got[name] if p < event.position]
                    got[name].append(event.position)
        assert got == expected

    for seed in range(4):
        run_scenario(scenario(seed))
