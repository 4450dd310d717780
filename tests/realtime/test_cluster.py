"""The reports of each process about its sockets, as read by any process."""

from __future__ import annotations

import msgspec
import pytest
from django.test import override_settings

from devtools import processes
from realtime import cluster, frames, local_hub, publish
from tests.realtime import harness
from tests.realtime.harness import Server, Writer, run_scenario


def test_every_running_process_is_reported_and_a_stopped_one_is_not(
    server: Server, writer: Writer, session: str
) -> None:
    async def scenario(other: Server) -> None:
        names = {server.hub.process, other.hub.process}
        while not names <= {report.process for report in await writer.do(cluster.reports)}:
            await writer.head()  # the first report is written after the start
        async with server.client(session) as live:
            await live.follow("users")
            items = aiter(live)
            await harness.next_of(items, frames.Subscribed)
            await harness.events_until(items, await writer.rename(harness.new_user()))
            report = await server.on_loop(server.hub.reporter.report)
            assert (report.sockets, report.people, report.behind) == (1, 1, 0)
            assert report.position == server.hub.position
            assert report.deliveries >= 1
            assert report.lag_p99 is not None
            assert report.memory > 0
        await server.until(lambda: not server.hub.sockets)
        assert sum((await server.on_loop(server.hub.reporter.report)).closes.values()) >= 1

    with Server() as other:
        run_scenario(scenario(other))
        ended = other.hub.process
    left = {report.process for report in cluster.reports()}
    assert server.hub.process in left
    assert ended not in left


def test_process_without_valkey_knows_only_its_own_report(server: Server) -> None:
    nowhere = f"redis://127.0.0.1:{processes.free_port()}/0"
    with override_settings(REDIS_URL=nowhere), pytest.raises(cluster.Unreachable):
        cluster.reports()
    own = local_hub.report()
    assert own is not None
    assert own.process == server.hub.process


def test_report_of_another_release_is_ignored(server: Server) -> None:
    client = publish.client()
    client.set(cluster.report_key("newer"), msgspec.msgpack.encode({"process": "newer", "mood": "good"}), ex=10)
    client.zadd(cluster.index_key(), {"newer": 2e9})
    try:
        assert "newer" not in {report.process for report in cluster.reports()}
    finally:
        client.zrem(cluster.index_key(), "newer")
