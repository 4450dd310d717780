"""From the store to the client: each granted topic's events, all of them, once, in order."""

from __future__ import annotations

from realtime import frames
from tests.realtime import harness
from tests.realtime.harness import Relay, Server, Writer, play


def test_an_event_reaches_a_subscriber_through_the_relay(
    server: Server, relay: Relay, writer: Writer, session: str
) -> None:
    async def scene() -> None:
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            stream = harness.new_user()
            position = await writer.rename(stream, "Grace")
            event = await harness.next_of(items, frames.EventFrame)
            assert (event.position, event.stream, event.event) == (position, stream, "user.updated")
            assert (event.topics, event.data, event.replayed) == (["users"], {"first_name": "Grace"}, False)

    play(scene())
