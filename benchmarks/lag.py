"""Latency from the call of `append` to the handler of a subscription, at half the maximal rate. fsync on.

One writer and one subscription runner, each a process of its own; both read the machine's monotonic clock. Phases of a
few seconds alternate: undisturbed, and with an unrelated transaction that has written and stays open. The result covers
all events of a kind of phase; the cost of the unrelated transaction is the ratio of the two.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import threading
import time
from typing import Any

from benchmarks import append, harness

PHASES = ("alone", "beside an open transaction")


def runner(stop: Any, ready: Any, seen: Any) -> None:
    """Follow the log and report when each position was handled."""
    import django

    django.setup()
    from events.subscriptions import runner as subscriptions

    batches: list[tuple[float, list[int]]] = []

    def handle(events: Any) -> None:
        batches.append((time.monotonic(), [event.position for event in events]))

    subscription = subscriptions.Subscription(name="benchmark-lag", handle=handle)
    over = threading.Event()
    following = threading.Thread(target=subscriptions.run, args=(subscription, over))
    following.start()
    ready.set()
    stop.wait()
    time.sleep(1)
    over.set()
    following.join()
    seen.put({position: at for at, positions in batches for position in positions})


def appended(seconds: float, pause: float) -> dict[int, float]:
    """Append one event every `pause` seconds; returns the time of each position's call."""
    from events import store
    from events.types import new_id

    called: dict[int, float] = {}
    due = now = time.monotonic()
    until = due + seconds
    while now < until:
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        now = time.monotonic()
        called[store.append(f"setting-{new_id()}", [append.plain()]).position] = now
        due += pause
    return called


def unrelated_transaction() -> Any:
    """Keep a transaction open that has written to an unrelated table."""
    connection = append.raw_connection()
    connection.autocommit = False
    connection.execute("create temporary table of_no_interest (id int)")
    connection.execute("insert into of_no_interest values (1)")
    connection.execute(
        append.RAW_ONE.replace("%s", "'open'", 1), ("x", "{}", "00000000-0000-0000-0000-000000000000", "somebody else")
    )
    return connection


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    with harness.services():
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(append.RAW_TABLE)
        context = multiprocessing.get_context("spawn")
        stop, ready, seen = context.Event(), context.Event(), context.Queue()
        process = context.Process(target=runner, args=(stop, ready, seen))
        process.start()
        ready.wait()
        appended(1.0, 0.01)  # warm-up
        fastest = len(appended(options.seconds, 0)) / options.seconds
        called: dict[str, dict[int, float]] = {phase: {} for phase in PHASES}
        for _ in range(options.rounds):
            for phase in PHASES:
                open_one = unrelated_transaction() if phase != "alone" else None
                called[phase] |= appended(options.seconds, 2 / fastest)
                if open_one is not None:
                    open_one.rollback()
                    open_one.close()
        stop.set()
        handled = seen.get(timeout=60)
        process.join()
    rows: list[dict[str, Any]] = []
    for phase in PHASES:
        lags = sorted(handled[position] - at for position, at in called[phase].items() if position in handled)
        p99 = lags[int(len(lags) * 0.99)] * 1000
        rows.append(
            {
                "writer": phase,
                "events/s": round(len(lags) / options.seconds / options.rounds),
                "lost": len(called[phase]) - len(lags),
                "p50 ms": round(statistics.median(lags) * 1000, 2),
                "p99 ms": round(p99, 2),
                "p99 of alone": round(p99 / rows[0]["p99 ms"], 2) if rows else None,
            }
        )
    harness.table(
        f"append -> subscription at half of {fastest:,.0f}/s (goals: p50 < 3 ms, p99 < 10 ms, ratio <= 1.2)", rows
    )
    harness.save("lag", {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
