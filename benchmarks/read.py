"""Events read per second, beside PostgreSQL and psycopg alone with the same rows in the same run.

First users with edits, as the application writes them: three of four events have encrypted personal fields. Then as
many events without personal fields. Cases alternate; the result is the median. `--rebuild` also rebuilds the users
table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import append, harness

PAGE = 4_000
EDITS = 3  # number of events per user
EVENTS = """
select position, stream, version, type, schema_version, data::text, event_id, recorded_at from events_event
 where position > %s and position <= %s order by position
"""


def fill(count: int) -> None:
    """Append that number of events: users that are created and edited, a thousand events per append."""
    from tqdm import tqdm

    from backoffice.sections.users import domain as users
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


def fill_plain(count: int) -> None:
    """Append that number of events without personal data, one stream each."""
    from events import store
    from events.types import new_id

    for _ in range(0, count, 1000):
        appends = [
            store.Append(stream=f"setting-{new_id()}", events=[append.plain()], expected=store.NO_STREAM)
            for _ in range(1000)
        ]
        store.append_many(appends)


def cursor_and_orjson(_category: str, after: int, upto: int) -> int:
    import orjson
    import psycopg

    count = 0
    connection = append.raw_connection()
    with connection, connection.transaction(), psycopg.ServerCursor(connection, "reading") as cursor:
        cursor.itersize = PAGE
        for row in cursor.execute(EVENTS, (after, upto)):
            orjson.loads(row[5])
            count += 1
    return count


def copy_and_orjson(_category: str, after: int, upto: int) -> int:
    import orjson
    import psycopg

    count = 0
    with append.raw_connection() as connection:
        written = psycopg.ClientCursor(connection).mogrify(EVENTS, (after, upto))
        with connection.cursor().copy(f"copy ({written}) to stdout") as copy:
            for line in copy:
                orjson.loads(bytes(line).split(b"\t")[5].replace(b"\\\\", b"\\"))
                count += 1
    return count


def recorded(_category: str, after: int, upto: int) -> int:
    """Read recorded events by `store.read_all`, as subscriptions and the API do; returns their number."""
    from events import store

    count = 0
    while page := store.read_all(after, PAGE, upto=upto):
        count, after = count + len(page), page[-1].position
    return count


def typed(category: str, after: int, upto: int) -> int:
    """Read typed events as a rebuild does, with personal fields decrypted; returns their number."""
    from events.rebuild import replay

    count = 0
    while page := replay.read(category, after, upto, PAGE):
        count, after = count + len(page), page[-1][0]
    return count


CASES: dict[str, Callable[[str, int, int], int]] = {
    "server-side cursor + orjson": cursor_and_orjson,
    "COPY + orjson": copy_and_orjson,
    "store.read_all": recorded,
    "typed events, as a rebuild reads": typed,
}
REFERENCE = "server-side cursor + orjson"


def measure(kind: str, category: str, after: int, upto: int, rounds: int) -> list[dict[str, Any]]:
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, work in CASES.items():
            began = time.perf_counter()
            count = work(category, after, upto)
            rates[name].append(count / (time.perf_counter() - began))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return [
        {
            "case": name,
            "events": kind,
            "events/s": round(rate),
            "of a cursor": round(rate / medians[REFERENCE], 2),
            "goal": 1.5 if name.startswith("typed") else None,
        }
        for name, rate in medians.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--rebuild", action="store_true", help="rebuild the users table from all of it (goal: 1 M < 60 s)"
    )
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with harness.services():
        from events import head
        from events.rebuild import builder as rebuild

        fill(options.events)
        between = head.safe()
        rows = measure("personal", "user", 0, between, options.rounds)
        if options.rebuild:
            began = time.perf_counter()
            rebuild.rebuild("users")
            seconds = time.perf_counter() - began
            result["rebuild"] = {"events": options.events, "seconds": seconds}
            rate = options.events / seconds
            print(f"\nThe users table from {options.events:,} events: {seconds:.1f} s, {rate:,.0f} events/s")
        fill_plain(options.events)
        rows += measure("plain", "setting", between, head.safe(), options.rounds)
        harness.table(f"Reading {options.events:,} events of each kind", rows)
        result["rows"] = rows
        harness.save("read", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
