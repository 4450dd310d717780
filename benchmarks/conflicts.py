"""The cost of detecting conflicts: a save without one beside the plain command, and a queue of 100 offline edits.

The save is what the admin does (a base version, the inbox behind it); the plain command has neither. Both alternate in
short slices, each on users of its own, fsync on. The result is the median of the slices, the ratio that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from benchmarks import harness

BUDGET_RATIO, BUDGET_SYNC_S = 1.15, 1.0
EDITS = 100


def users(count: int) -> list[uuid.UUID]:
    from backoffice.sections.users.domain import CreateUser
    from events import commands
    from events.types import Command, new_id

    keys = [new_id() for _ in range(count)]
    commands.dispatch_many(
        [Command(id=new_id(), key=str(key), data=CreateUser(email=f"{key}@example.org")) for key in keys]
    )
    return keys


def saves(slices: int, size: int) -> dict[str, list[float]]:
    """Milliseconds per save for each kind of save, one value per slice.

    Each save is of another user, so none waits.
    """
    from backoffice import commands as entry_point
    from backoffice.sections.users.domain import UpdateUser
    from events import commands
    from events.types import Command, new_id

    def plain(key: uuid.UUID) -> None:
        commands.dispatch(Command(id=new_id(), key=str(key), data=UpdateUser(last_name="Plain")))

    def based(key: uuid.UUID) -> None:
        command = Command(id=new_id(), key=str(key), data=UpdateUser(last_name="Based"), base_version=1)
        entry_point.dispatch(command, None)

    ways: dict[str, Callable[[uuid.UUID], None]] = {"plain command": plain, "save through the inbox": based}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(slices + 1):
        for name, way in ways.items() if number % 2 else reversed(ways.items()):
            keys = users(size)
            started = time.perf_counter()
            for key in keys:
                way(key)
            if number:  # the first slice warms up
                found[name].append((time.perf_counter() - started) * 1000 / size)
    return found


def syncs(times: int) -> dict[str, list[float]]:
    """Seconds that a request with a hundred queued edits takes.

    The edits are of a hundred records, or of ten records in chains of ten that another person changed meanwhile.
    """
    from django.test import Client

    from backoffice import models
    from backoffice.sections.users.domain import UpdateUser
    from events import commands
    from events.types import Command, new_id

    staff = models.Staff.objects.create(username=str(new_id()), role="manager", is_staff=True)
    client = Client(headers={"host": "localhost"})
    client.force_login(staff)

    def request(records: int, foreign: bool) -> float:
        keys = users(records)
        if foreign:
            for key in keys:
                commands.dispatch(Command(id=new_id(), key=str(key), data=UpdateUser(first_name="Foreign")))
        edits = [(keys[n % records], n // records) for n in range(EDITS)]
        queue = [mutation(seq, key, depth) for seq, (key, depth) in enumerate(edits)]
        body = {"client_id": "bench", "mutations": queue}
        started = time.perf_counter()
        response = client.post("/api/v1/sync/", body, content_type="application/json")
        taken = time.perf_counter() - started
        wanted = "merged" if foreign else "applied"
        assert [result["status"] for result in response.json()["results"]] == [wanted] * EDITS
        return taken

    ways = {"100 edits of 100 records": (100, False), "10 chains of 10, all merged": (10, True)}
    for way in ways.values():
        request(*way)
    return {name: [request(*way) for _ in range(times)] for name, way in ways.items()}


def mutation(seq: int, key: uuid.UUID, depth: int) -> dict[str, Any]:
    return {
        "seq": seq,
        "id": str(uuid.uuid4()),
        "type": "user.update",
        "key": str(key),
        "data": {"last_name": f"Edit {depth}"},
        "base_version": 1 + depth,
        "trunk_version": 1,
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.conflicts")
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--size", type=int, default=40)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args(arguments)
    with harness.services():
        saved, synced = saves(options.slices, options.size), syncs(options.times)
    medians = {name: statistics.median(figures) for name, figures in saved.items()}
    ratio = medians["save through the inbox"] / medians["plain command"]
    seconds = {name: statistics.median(figures) for name, figures in synced.items()}
    rows = [{"save": n, "ms": ms, "ratio": ms / medians["plain command"]} for n, ms in medians.items()]
    harness.table(f"A save without a conflict (budget: {BUDGET_RATIO} of the plain command)", rows)
    rows = [{"sync": name, "s": taken, "ms an edit": taken * 10} for name, taken in seconds.items()]
    harness.table(f"An offline queue of {EDITS} edits in one request (budget: {BUDGET_SYNC_S:g} s)", rows)
    harness.save("conflicts", {"ms": medians, "ratio": ratio, "sync_s": seconds, "slices": saved})
    return int(ratio > BUDGET_RATIO or max(seconds.values()) > BUDGET_SYNC_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
