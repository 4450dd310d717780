"""What is measured, one function each."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from benchmarks.load.clients import PATIENCE, PROJECT, PROTOCOL, SUBSCRIBE, Swarm, contender, quantile, usage
from benchmarks.load.servers import FILLER

IN_FLIGHT = 4
T = TypeVar("T")


async def fan_out(kind: str, sockets: int, seconds: float) -> dict[str, Any]:
    ours = kind.startswith("hub")
    async with contender(kind) as (port, line):
        before = await usage(line)
        swarm = Swarm(port, PROTOCOL + "Authorization: Bearer load\r\n" if ours else "", SUBSCRIBE if ours else None)
        await swarm.connect(sockets)
        settled = await usage(line)
        await run_messages(swarm, line, sockets, 10)
        swarm.latencies.clear()
        swarm.base, swarm.sent = swarm.base + len(swarm.sent), []
        start_cpu, started, total = (await usage(line))["cpu"], time.perf_counter(), swarm.total
        while time.perf_counter() - started < seconds:
            await run_messages(swarm, line, sockets, 10)
        elapsed = time.perf_counter() - started
        delivered = swarm.total - total
        cpu = (await usage(line))["cpu"] - start_cpu
        swarm.close()
    return {
        "who": kind,
        "sockets": sockets,
        "deliveries/s": round(delivered / elapsed),
        "p50 ms": round(quantile(swarm.latencies, 0.5) * 1000, 1),
        "p99 ms": round(quantile(swarm.latencies, 0.99) * 1000, 1),
        "CPU µs": round(cpu / delivered * 1e6, 1),
        "KiB/socket": round((settled["rss"] - before["rss"]) / sockets / 1024, 1),
    }


async def run_messages(swarm: Swarm, line: Any, sockets: int, number: int) -> None:
    """Publish, never more than `IN_FLIGHT` messages ahead of the slowest socket (counted in all)."""
    done_before = swarm.total // sockets
    for index in range(number):
        await swarm.until((done_before + index + 1 - IN_FLIGHT) * sockets)
        swarm.sent.append(time.perf_counter())
        line[1].write(b"p")
    await swarm.until((done_before + number) * sockets)


async def reference(sockets: int) -> dict[str, Any]:
    """What a bare broadcast does at the same pace, without store, relay, Valkey, sessions and rights."""
    async with contender("bare") as (port, line):
        swarm = Swarm(port, "", None)
        await warm_up(swarm)
        rate = round(sockets / await swarm.connect(sockets))

        async def publish() -> float:
            line[1].write(b"p")
            return time.perf_counter()

        found = await latency(swarm, sockets, publish)
        swarm.close()
    return {"bare: handshakes/s": rate, **{f"bare: {name}": value for name, value in found.items()}}


async def whole_path(session: str, sockets: int, origin: str) -> dict[str, Any]:
    """Parts 2 to 5 on the application as deployed, with the real store, relay and Valkey; a bare broadcast first."""
    figures: dict[str, Any] = {"sockets": sockets, **await reference(sockets)}
    extra = PROTOCOL + f"Origin: {origin}\r\nCookie: sessionid={session}\r\n"
    relay = subprocess.Popen([sys.executable, "manage.py", "run_subscriptions"], cwd=PROJECT)
    try:
        async with contender("app") as (port, _line):
            swarm = Swarm(port, extra, SUBSCRIBE)
            await warm_up(swarm)
            figures["handshakes/s"] = round(sockets / await swarm.connect(sockets))
            await asyncio.sleep(2.0)  # the relay's first lease
            figures |= await latency(swarm, sockets, partial(append, 1))
            figures |= await storm(swarm, sockets)
            figures |= await revocation(swarm)
            swarm.close()
    finally:
        relay.terminate()
        relay.wait()
    return figures


async def warm_up(swarm: Swarm) -> None:
    """The first connections wait for imports and pools, once in the life of a process."""
    await swarm.connect(50)
    swarm.close()


async def latency(swarm: Swarm, sockets: int, publish: Callable[[], Awaitable[float]]) -> dict[str, Any]:
    """20 events a second; `publish` returns when one was committed."""
    swarm.latencies.clear()
    swarm.base, swarm.sent = max(reader.count for reader in swarm.readers), []
    start = swarm.total
    with swarm.reading_later():
        for _ in range(100):
            at = await publish()
            swarm.sent.append(at)
            await swarm.burst(until=at + 0.04)
            await asyncio.sleep(max(0.0, at + 0.05 - time.perf_counter()))
    await swarm.until(start + 100 * sockets)
    return {
        "commit to frame p50 ms": round(quantile(swarm.latencies, 0.5) * 1000, 1),
        "commit to frame p99 ms": round(quantile(swarm.latencies, 0.99) * 1000, 1),
    }


async def storm(swarm: Swarm, sockets: int) -> dict[str, Any]:
    epoch, position = await database(stamp)
    swarm.close()
    await append(100)
    swarm.subscribe = json.dumps(
        {"type": "subscribe", "id": 1, "topics": ["users"], "since": {"epoch": epoch, "position": position}}
    ).encode()
    before, swarm.retries = swarm.total, 0
    started = time.perf_counter()
    await swarm.connect(sockets, at_once=sockets)
    await swarm.until(before + 100 * sockets)
    return {
        "storm: all live again s": round(time.perf_counter() - started, 2),
        "storm: handshakes tried again": swarm.retries,
        "storm: events lost": sum(100 - reader.count for reader in swarm.readers),
    }


async def revocation(swarm: Swarm) -> dict[str, Any]:
    at = await database(revoke)
    closed = await asyncio.wait_for(asyncio.gather(*(reader.closed for reader in swarm.readers)), PATIENCE)
    took = [when - at for when in closed]
    return {
        "revoked to closed p50 ms": round(statistics.median(took) * 1000),
        "revoked to closed p99 ms": round(quantile(took, 0.99) * 1000),
    }


async def database(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def append(number: int) -> float:
    return await database(lambda: append_now(number))


def append_now(number: int) -> float:
    from backoffice.sections.users.domain import UserUpdated
    from events import store
    from events.types import new_id

    for _ in range(number):
        store.append(f"user-{new_id()}", [UserUpdated(first_name=FILLER)])
    return time.perf_counter()


def stamp() -> tuple[str, int]:
    from events import head

    return head.epoch(), head.safe()


def revoke() -> float:
    from backoffice.models import Staff
    from backoffice.sections.staff.domain import StaffSessionRevoked
    from events import store

    store.append(f"staff-{Staff.objects.get().pk}", [StaffSessionRevoked()])
    return time.perf_counter()
