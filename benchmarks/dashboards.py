"""Many open dashboards: what the frames of the sampler cost the delivery of events, and what tiles cost that reload.

    delivery  400-byte events to 200 pages on lists and 200 dashboards, as fast as the sockets take them: while the
              sampler publishes every metric in every slot of five seconds, beside the same without the sampler
    slot      processor time of the web process for the frames of one slot to 200 dashboards
    reload    processor time of a request for one tile, which each dashboard sends when its widget changed

`python -m benchmarks dashboards --dashboards 200`. The goal is a ratio of at least 0.95 in the first table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from typing import Any, Final

import uvloop

from benchmarks import harness
from benchmarks.load import clients
from benchmarks.load.clients import PROTOCOL, SUBSCRIBE, ClientPool, server_process, usage
from benchmarks.load.scenarios import run_messages

GOAL: Final = 0.95
SLOT_SECONDS: Final = 5.0
TOPICS: Final = '"users","forms","submissions","settings","conflicts","alerts"'  # of the tiles of a default layout
DASHBOARD: Final = f'{{"type":"subscribe","id":1,"topics":["dashboard",{TOPICS}]}}'.encode()
TILES: Final = ("log", "health", "alerts", "activity", "conflicts")


async def deliver(dashboards: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Rates with and without samples, alternating, so that a slower minute of the machine changes both."""
    rates: dict[str, list[float]] = {"without": [], "with": []}
    costs: dict[str, list[float]] = {"without": [], "with": []}
    async with server_process("hub") as (port, control):
        extra = PROTOCOL + "Authorization: Bearer load\r\n"
        lists, boards = ClientPool(port, extra, SUBSCRIBE), ClientPool(port, extra, DASHBOARD)
        await lists.connect(dashboards)
        await boards.connect(dashboards)
        await run_messages(lists, control, dashboards, 20)
        for _ in range(rounds):
            for name in ("without", "with"):
                rate, cost = await one_round(lists, control, dashboards, seconds, samples=name == "with")
                rates[name].append(rate)
                costs[name].append(cost)
        spent = await cost_of_a_slot(control)
        lists.close()
        boards.close()
    return [
        {
            "delivery": f"{name} samples",
            "events/s to every socket": statistics.median(rates[name]),
            "CPU µs a delivery": statistics.median(costs[name]),
            "ratio": statistics.median(one / base for one, base in zip(rates[name], rates["without"], strict=True)),
        }
        for name in rates
    ] + [{"delivery": f"frames of one slot to {dashboards} dashboards", "CPU ms": spent}]


async def one_round(
    pool: ClientPool, control: Any, sockets: int, seconds: float, *, samples: bool
) -> tuple[float, float]:
    """Events a second to every socket, and processor µs of the server for each delivery."""
    ticking = asyncio.create_task(tick(control)) if samples else None
    before, started, total = (await usage(control))["cpu"], time.perf_counter(), pool.total
    while time.perf_counter() - started < seconds:
        await run_messages(pool, control, sockets, 10)
    elapsed, delivered = time.perf_counter() - started, pool.total - total
    if ticking is not None:
        ticking.cancel()
    cpu = (await usage(control))["cpu"] - before
    return delivered / sockets / elapsed, cpu / (2 * delivered) * 1e6  # dashboards get the events too


async def tick(control: Any) -> None:
    while True:
        control[1].write(b"t")
        await asyncio.sleep(SLOT_SECONDS)


async def cost_of_a_slot(control: Any, slots: int = 20) -> float:
    """Processor milliseconds of the server for the frames of one slot, beyond what an idle server needs."""
    await asyncio.sleep(1.0)
    before = await usage(control)
    await asyncio.sleep(slots * 0.25)
    idle = (await usage(control))["cpu"] - before["cpu"]
    before = await usage(control)
    for _ in range(slots):
        control[1].write(b"t")
        await asyncio.sleep(0.25)
    used: float = (await usage(control))["cpu"] - before["cpu"]
    return max(0.0, used - idle) / slots * 1000


def reload_tiles(dashboards: int, times: int) -> list[dict[str, Any]]:
    """The processor time of one request for a tile, and what it is for all dashboards in one slot."""
    from django.test import Client
    from django.urls import reverse

    from backoffice.models import Staff
    from metrics.monitoring import process_reports, sampling

    process_reports.Reporter("web").write()
    assert sampling.tick() is not None
    client, address = Client(headers={"host": "localhost"}), reverse("admin:dashboard_tiles")
    client.force_login(Staff.objects.create_user(username="reader", role="admin", is_staff=True, is_superuser=True))
    rows = []
    for kind in TILES:
        client.get(address, {"ids": kind})
        before = time.process_time()
        for _ in range(times):
            assert client.get(address, {"ids": kind}).status_code == 200
        each = (time.process_time() - before) / times * 1000
        share = each * dashboards / 1000 / SLOT_SECONDS * 100
        rows.append({"reload of a tile": kind, "CPU ms": each, f"% of a core, {dashboards} in each slot": share})
    return rows


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.dashboards")
    parser.add_argument("--dashboards", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    os.environ |= {"LOG_LEVEL": "WARNING", "DEBUG": "1"}
    with harness.services():
        tiles = reload_tiles(options.dashboards, 40)
        if len(clients.CORES) > 1:
            os.sched_setaffinity(0, {clients.CORES[1]})
        delivery = uvloop.run(deliver(options.dashboards, options.rounds, options.seconds))
    harness.table(f"{options.dashboards} dashboards: delivery of events", delivery)
    harness.table("Tiles that reload", tiles)
    passed = delivery[1]["ratio"] >= GOAL
    harness.save("dashboards", {"delivery": delivery, "tiles": tiles, "passed": passed})
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
