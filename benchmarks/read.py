"""Reading the log, beside what PostgreSQL and psycopg can do with the same rows in the same run.

The log holds users with edits, as the application writes them: personal fields encrypted. Cases take turns; the figure
is the median. `--rebuild` also rebuilds the users table from all of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import append, harness

PAGE = 4_000
EDITS = 3  # of each user
COLUMNS = "position, stream, version, type, schema_version, data::text, event_id, recorded_at"


def fill(count: int) -> None:
    """So many events: users that are created and edited, a thousand events an append."""
    from tqdm import tqdm

    from backoffice.domain import users
    from events import store
    from events.types import EPOCH_START, new_id

    made = tqdm(total=count, desc="fill", unit=" events", disable=None)
    for _ in range(0, count, 1000):
        keys = [new_id() for _ in range(1000 // (1 + EDITS))]
        appends = []
        for key in keys:
            created = users.UserCreated(
                email=f"{key}@example.org",
                first_name="Ada",
                last_name="Lovelace",
                plan="free",
                role="member",
                created_at=EPOCH_START,
            )
            edits = [
                users.UserUpdated(first_name=f"Ada {key}"),
                users.UserUpdated(plan="premium"),
                users.UserUpdated(last_name="King", plan="enterprise"),
            ]
            appends.append(store.Append(stream=f"user-{key}", events=[created, *edits], expected=store.NO_STREAM))
        store.append_many(appends)
        made.update(len(keys) * (1 + EDITS))
    made.close()


def cursor_and_orjson() -> int:
    import orjson
    import psycopg

    count = 0
    connection = append.raw_connection()
    with connection, connection.transaction(), psycopg.ServerCursor(connection, "reading") as cursor:
        cursor.itersize = PAGE
        for row in cursor.execute(f"select {COLUMNS} from events_event order by position"):
            orjson.loads(row[5])
            count += 1
    return count


def copy_and_orjson() -> int:
    import orjson

    count = 0
    connection = append.raw_connection()
    with (
        connection,
        connection.cursor().copy(f"copy (select {COLUMNS} from events_event order by position) to stdout") as copy,
    ):
        for line in copy:
            orjson.loads(bytes(line).split(b"\t")[5].replace(b"\\\\", b"\\"))
            count += 1
    return count


def recorded() -> int:
    """`store.read_all`: what subscriptions and the API read."""
    return sum(len(page) for page in _pages(_recorded))


def _recorded(after: int, head: int) -> list[tuple[int, Any]]:
    from events import store

    return [(event.position, event) for event in store.read_all(after, PAGE, upto=head)]


def typed() -> int:
    """What a rebuild replays: typed events, decrypted."""
    from events import rebuild

    def page(after: int, head: int) -> list[tuple[int, Any]]:
        return rebuild.replayed("user", after, head, PAGE)

    return sum(len(page) for page in _pages(page))


def _pages(read: Callable[[int, int], list[tuple[int, Any]]]) -> Iterator[list[tuple[int, Any]]]:
    from events import head

    after, upto = 0, head.safe()
    while page := read(after, upto):
        yield page
        after = page[-1][0]


CASES = {
    "server-side cursor + orjson": cursor_and_orjson,
    "COPY + orjson": copy_and_orjson,
    "store.read_all": recorded,
    "typed events, as a rebuild reads": typed,
}
REFERENCE = "server-side cursor + orjson"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--rebuild", action="store_true", help="rebuild the users table from all of it (goal: 1 M < 60 s)"
    )
    options = parser.parse_args()
    with harness.services():
        fill(options.events)
        rates: dict[str, list[float]] = {name: [] for name in CASES}
        for _ in range(options.rounds):
            for name, work in CASES.items():
                began = time.perf_counter()
                count = work()
                rates[name].append(count / (time.perf_counter() - began))
        medians = {name: statistics.median(found) for name, found in rates.items()}
        rows = [
            {
                "case": name,
                "events/s": round(rate),
                "of a cursor": round(rate / medians[REFERENCE], 2),
                "goal": 1.5 if name.startswith("typed") else None,
            }
            for name, rate in medians.items()
        ]
        harness.table(f"Reading {options.events:,} events", rows)
        result: dict[str, Any] = {"rows": rows}
        if options.rebuild:
            from events import rebuild

            began = time.perf_counter()
            rebuild.rebuild("users")
            seconds = time.perf_counter() - began
            result["rebuild"] = {"events": options.events, "seconds": seconds}
            rate = options.events / seconds
            print(f"\nThe users table from {options.events:,} events: {seconds:.1f} s, {rate:,.0f} events/s")
        harness.save("read", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
