"""The cache of figures: a memory hit beside a dictionary with a TTL and a django-redis hit, misses, staleness.

Three tables, each with its reference in the same run:

    hits        one value of 90 days; rounds alternate, the result is the best
    misses      200 reads of one key at once in four processes: number of loads, and time beyond the load
    staleness   four processes, a writer and the relay: from the commit until the process refuses the old value
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import harness

PROCESSES = 4
READERS = 50  # in each process
LOAD_SECONDS = 0.3
COMMITS = 300


# -- hits -------------------------------------------------------------------------------------------------------------


def hits(rounds: int) -> list[dict[str, Any]]:
    from datetime import UTC, datetime, timedelta

    import msgspec
    from django.core.cache import cache as django_cache

    from events import freshness, head
    from metrics import catalogue, queries
    from metrics.caching import cache

    today = datetime.now(UTC).date()
    query = catalogue.FormStats(first=today - timedelta(days=89), last=today)
    task = queries.task_of(query, "admin")
    task.seconds = 3_600.0
    freshness.LOCAL.start(head.epoch(), head.safe())
    freshness.LOCAL.confirm(time.monotonic() + 3_600)
    task.until = lambda: 3_600.0
    value = cache.LOCAL.get(task).value
    plain: dict[str, tuple[float, bytes]] = {task.key: (time.monotonic() + 3_600, value)}
    django_cache.set("bench", value, 3_600)

    def dictionary(key: str) -> bytes | None:
        found = plain.get(key)
        if found is None or time.monotonic() >= found[0]:
            return None
        return found[1]

    class Admin:
        is_active = is_staff = is_superuser = True
        role = "admin"

    admin, memory, key = Admin(), cache.LOCAL.memory, task.key
    cases: dict[str, tuple[Callable[[], Any], int]] = {
        "dictionary with a TTL": (lambda: dictionary(key), 100_000),
        "memory": (lambda: memory.get(key), 100_000),
        "memory, with the check of the transaction": (lambda: cache.LOCAL.get(task), 50_000),
        "queries.ask: rights, name, memory, decoded": (lambda: queries.ask(query, admin), 2_000),
        "decoding alone": (lambda: msgspec.json.decode(value, type=query.result), 2_000),
        "django-redis": (lambda: django_cache.get("bench"), 500),
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (read, number) in cases.items():
            found[name].append(_microseconds(read, number))
    reference, remote = min(found["dictionary with a TTL"]), min(found["django-redis"])
    return [
        {
            "hit": name,
            "µs": (each := min(times)),
            "of the dictionary": each / reference,
            "of django-redis": remote / each,
        }
        for name, times in found.items()
    ]


def _microseconds(read: Callable[[], Any], number: int) -> float:
    repeated = range(number)
    begun = time.perf_counter()
    for _ in repeated:
        read()
    return (time.perf_counter() - begun) / number * 1e6


# -- processes --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def children(role: str) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cache", "--role", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for child in started:
            answer(child)
        yield started
    finally:
        for child in started:
            child.kill()
            child.wait()


@contextlib.contextmanager
def relay() -> Iterator[None]:
    started = subprocess.Popen([sys.executable, "manage.py", "run_subscriptions", "relay"], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        started.terminate()
        started.wait()


def answer(child: subprocess.Popen[str]) -> Any:
    assert child.stdout
    return json.loads(child.stdout.readline())


def tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin
    child.stdin.write(line + "\n")
    child.stdin.flush()


def misses(rounds: int) -> list[dict[str, Any]]:
    from events import store

    store.execute("create table bench_loads (key text)")
    loads, slowest = [], []
    with relay(), children("burst") as started:
        for number in range(rounds):
            for child in started:
                tell(child, str(number))
            slowest.append(max(answer(child) for child in started))
            loads.append(store.query("select count(*) from bench_loads where key = %s", (str(number),))[0][0])
    store.execute("drop table bench_loads")
    return [
        {
            "reads": PROCESSES * READERS,
            "loads (most)": max(loads),
            "load, ms": LOAD_SECONDS * 1000,
            "all answered, ms (median)": statistics.median(slowest) * 1000,
            "beyond the load, ms": (statistics.median(slowest) - LOAD_SECONDS) * 1000,
        }
    ]


def staleness(commits: int) -> list[dict[str, Any]]:
    from backoffice.sections.users import domain as users
    from events import store
    from events.types import new_id

    stream, written = f"user-{new_id()}", {}
    with relay(), children("follow") as started:
        for _ in range(commits):
            position = store.append(stream, [users.UserUpdated(first_name="A")]).position
            written[position] = time.monotonic()
            time.sleep(0.005)
        last = max(written)
        delays: list[float] = []
        for child in started:
            tell(child, str(last))
            handled = {int(position): at for position, at in answer(child).items()}
            delays += [max(0.0, handled[position] - at) * 1000 for position, at in written.items()]
    delays.sort()
    return [
        {
            "commits": commits,
            "processes": PROCESSES,
            "p50, ms": delays[len(delays) // 2],
            "p99, ms": delays[int(len(delays) * 0.99)],
            "longest, ms": delays[-1],
        }
    ]


# -- in a process of its own ------------------------------------------------------------------------------------------


def follow_log() -> None:
    """Start a hub on an event loop in a thread, and wait until it knows the log."""
    from realtime import local_hub

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def start() -> None:
        hub = await local_hub.current()
        await hub.wait_ready()

    asyncio.run_coroutine_threadsafe(start(), loop).result(60)


def be_follower() -> None:
    """Follow the log up to a position from standard input; print when each event had marked the values it refuses."""
    from events import freshness

    handled: dict[int, float] = {}
    touch = freshness.LOCAL.touch

    def timed(event: Any) -> None:
        touch(event)
        handled[event.position] = time.monotonic()

    freshness.LOCAL.touch = timed  # type: ignore[method-assign]
    follow_log()
    print(json.dumps("ready"), flush=True)
    last = int(sys.stdin.readline())
    while last not in handled:
        time.sleep(0.001)
    print(json.dumps(handled), flush=True)


def be_burst() -> None:
    """For each key from standard input, read a slow query in many threads at once; print the seconds it took."""
    import msgspec
    from django.db import connection

    from events import freshness, store
    from metrics.caching import cache, figures

    follow_log()

    def load() -> bytes:
        store.query("insert into bench_loads (key) values (%s) returning 1", (key,))
        store.query("select pg_sleep(%s)", (LOAD_SECONDS,))
        return msgspec.json.encode(1)

    def ask() -> None:
        try:
            cache.LOCAL.get(task)
        finally:
            connection.close()

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        key = line.strip()
        stats = figures.QueryFigures("bench")
        task = cache.Task(f"bench:{key}", "bench", load, slots=freshness.slots(["none"]), stats=stats, shared=True)
        threads = [threading.Thread(target=ask) for _ in range(READERS)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(time.monotonic() - begun), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--role", choices=["burst", "follow"])
    options, _ = parser.parse_known_args()
    if options.role:
        import django

        django.setup()
        return {"burst": be_burst, "follow": be_follower}[options.role]()
    with harness.services():
        os.environ.setdefault("PYTHONUNBUFFERED", "1")
        result = {"hits": hits(options.rounds), "misses": misses(options.rounds), "staleness": staleness(COMMITS)}
        for name, rows in result.items():
            harness.table(name, rows)
        harness.save("cache", result)
    return None


if __name__ == "__main__":
    main()
