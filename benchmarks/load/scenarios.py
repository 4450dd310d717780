"""The measurements of the load test, one function each."""

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

from benchmarks.load.clients import PROJECT, PROTOCOL, SUBSCRIBE, TIMEOUT, ClientPool, quantile, server_process, usage
from benchmarks.load.servers import FILLER

IN_FLIGHT = 4
T = TypeVar("T")


async def fan_out(kind: str, sockets: int, seconds: float) -> dict[str, Any]:
    ours = kind.startswith("hub")
    async with server_process(kind) as (port, control):
        before = await usage(control)
        pool = ClientPool(
            port, PROTOCOL + "Authorization: Bearer load\r\n" if ours else "", SUBSCRIBE if ours else None
        )
        await pool.connect(sockets)
        settled = await usage(control)
        await run_messages(pool, control, sockets, 10)
        pool.latencies.clear()
        pool.base, pool.sent = pool.base + len(pool.sent), []
        start_cpu, started, total = (await usage(control))["cpu"], time.perf_counter(), pool.total
        while time.perf_counter() - started < seconds:
            await run_messages(pool, control, sockets, 10)
        elapsed = time.perf_counter() - started
        delivered = pool.total - total
        cpu = (await usage(control))["cpu"] - start_cpu
        pool.close()
    return {
        "server": kind,
        "sockets": sockets,
        "deliveries/s": round(delivered / elapsed),
        "p50 ms": round(quantile(pool.latencies, 0.5) * 1000, 1),
        "p99 ms": round(quantile(pool.latencies, 0.99) * 1000, 1),
        "CPU µs": round(cpu / delivered * 1e6, 1),
        "KiB/socket": round((settled["rss"] - before["rss"]) / sockets / 1024, 1),
    }


async def run_messages(pool: ClientPool, control: Any, sockets: int, number: int) -> None:
    """Publish messages, at most `IN_FLIGHT` ahead of the slowest socket."""
    done_before = pool.total // sockets
    for index in range(number):
        await pool.until((done_before + index + 1 - IN_FLIGHT) * sockets)
        pool.sent.append(time.perf_counter())
        control[1].write(b"p")
    await pool.until((done_before + number) * sockets)


async def reference(sockets: int) -> dict[str, Any]:
    """Measure a bare broadcast at the same rate, without store, relay, Valkey, sessions and permissions."""
    async with server_process("bare") as (port, control):
        pool = ClientPool(port, "", None)
        await warm_up(pool)
        rate = round(sockets / await pool.connect(sockets))

        async def publish() -> float:
            control[1].write(b"p")
            return time.perf_counter()

        found = await latency(pool, sockets, publish)
        pool.close()
    return {"bare: handshakes/s": rate, **{f"bare: {name}": value for name, value in found.items()}}


async def whole_path(session: str, sockets: int, origin: str) -> dict[str, Any]:
    """Measure a bare broadcast, then parts 2 to 5 on the application as deployed, with store, relay and Valkey."""
    figures: dict[str, Any] = {"sockets": sockets, **await reference(sockets)}
    extra = PROTOCOL + f"Origin: {origin}\r\nCookie: sessionid={session}\r\n"
    relay = subprocess.Popen([sys.executable, "manage.py", "run_subscriptions"], cwd=PROJECT)
    try:
        async with server_process("app") as (port, _control):
            pool = ClientPool(port, extra, SUBSCRIBE)
            await warm_up(pool)
            figures["handshakes/s"] = round(sockets / await pool.connect(sockets))
            await asyncio.sleep(2.0)  # the relay's first lease
            figures |= await latency(pool, sockets, partial(append, 1))
            figures |= await storm(pool, sockets)
            figures |= await revocation(pool)
            pool.close()
    finally:
        relay.terminate()
        relay.wait()
    return figures


async def warm_up(pool: ClientPool) -> None:
    """Connect once before the measurement: the first connections of a process wait for imports and pools."""
    await pool.connect(50)
    pool.close()


async def latency(pool: ClientPool, sockets: int, publish: Callable[[], Awaitable[float]]) -> dict[str, Any]:
    """Measure latency at 20 events a second; `publish` returns the time of the commit."""
    pool.latencies.clear()
    pool.base, pool.sent = max(reader.count for reader in pool.readers), []
    start = pool.total
    with pool.deferred_reading():
        for _ in range(100):
            at = await publish()
            pool.sent.append(at)
            await pool.burst(until=at + 0.04)
            await asyncio.sleep(max(0.0, at + 0.05 - time.perf_counter()))
    await pool.until(start + 100 * sockets)
    return {
        "commit to frame p50 ms": round(quantile(pool.latencies, 0.5) * 1000, 1),
        "commit to frame p99 ms": round(quantile(pool.latencies, 0.99) * 1000, 1),
    }


async def storm(pool: ClientPool, sockets: int) -> dict[str, Any]:
    epoch, position = await database(stamp)
    pool.close()
    await append(100)
    pool.subscribe = json.dumps(
        {"type": "subscribe", "id": 1, "topics": ["users"], "since": {"epoch": epoch, "position": position}}
    ).encode()
    before, pool.retries = pool.total, 0
    started = time.perf_counter()
    await pool.connect(sockets, at_once=sockets)
    await pool.until(before + 100 * sockets)
    return {
        "storm: all live again s": round(time.perf_counter() - started, 2),
        "storm: handshakes tried again": pool.retries,
        "storm: events lost": sum(100 - reader.count for reader in pool.readers),
    }


async def revocation(pool: ClientPool) -> dict[str, Any]:
    at = await database(revoke)
    closed = await asyncio.wait_for(asyncio.gather(*(reader.closed for reader in pool.readers)), TIMEOUT)
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
