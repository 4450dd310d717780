"""A growing log: appends, reads and the head at each size, compared with a raw `INSERT`.

The log is filled with valid events, each with a stream of its own, chained and indexed as if it had been appended, by a
set-based statement for each SLICE. The raw table stays small: a ratio that falls with the size is the cost of growth.
It needs about 1 kB of disk an event.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import append, harness

SLICE = 250_000

# A stream and an event id for each number; the ids are in time order, like those of `types.new_id`.
NAMES = """
create function bench_id(n bigint) returns uuid language sql immutable as $$
    select (lpad(to_hex(1700000000000 + n / 8), 12, '0') || '7' || lpad(to_hex(n & 4095), 3, '0') || '8'
            || left(md5(n::text), 15))::uuid
$$
"""

FILL = """
with entry as (
    select n, 'submission-' || bench_id(n) as stream, bench_id(-n) as event_id, jsonb_build_object(
               'form_id', bench_id(n % 1000), 'created_at', '2026-01-01T00:00:00Z', 'answers', jsonb_build_object(
               'field_0', md5(n::text), 'field_1', md5((n + 1)::text), 'field_2', md5((n + 2)::text),
               'field_3', md5((n + 3)::text), 'field_4', md5((n + 4)::text), 'field_5', n)) as data
      from generate_series({low}, {high}) n
), stored as (
    insert into events_event (position, stream, version, type, data, event_id, actor, hash)
    select n, stream, 1, 'submission.received', data, event_id, 'system',
           events_digest(stream, 'submission.received', 1::smallint, data, event_id, now(), 'system', null, null, null,
                         '{{}}')
      from entry returning stream, hash
)
insert into events_stream (stream, version, hash) select stream, 1, hash from stored
"""


_filled: list[range] = []  # positions between them belong to the measurements at smaller sizes


def fill(upto: int) -> float:
    """Fill the log up to that number of events; returns the seconds it took."""
    from django.db import connection
    from tqdm import tqdm

    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("select coalesce(pg_sequence_last_value('events_position_seq'), 0)")
        low = cursor.fetchone()[0] + 1
        _filled.append(range(low, upto + 1))
        cursor.execute("select events_partition(%s)", [upto + 20_000_000])
        for first in tqdm(range(low, upto + 1, SLICE), desc=f"fill to {upto:,}", unit_scale=SLICE, disable=None):
            last = min(first + SLICE - 1, upto)
            cursor.execute("select setval('events_position_seq', %s)", [last])  # there is no other writer
            cursor.execute(FILL.format(low=first, high=last))
        for table in ("events_event", "events_stream"):
            cursor.execute(f"vacuum (analyze) {table}")
        cursor.execute("checkpoint")
    return time.perf_counter() - began


def old_stream() -> Callable[[], str]:
    """Returns a function that gives random stream names from the whole log."""
    from events import store

    rng = random.Random(1)
    places = [rng.choice(part) for part in rng.choices(_filled, [len(part) for part in _filled], k=200_000)]
    names = store.query("select 'submission-' || bench_id(n) from unnest(%s::bigint[]) n", (places,))
    return iter([name for (name,) in names]).__next__


def cases() -> dict[str, Callable[[], Any]]:
    from events import head, snapshots, store
    from events.types import new_id

    to_append, to_read = old_stream(), old_stream()
    return {
        "raw insert": append.raw_one(),
        "append, new stream": lambda: store.append(f"setting-{new_id()}", [append.plain()], store.NO_STREAM),
        "append, old stream": lambda: store.append(to_append(), [append.plain()], store.EXISTS),
        "state of an old stream": lambda: snapshots.state(to_read()),
        "head": head.safe,
    }


def measure(seconds: float, rounds: int) -> dict[str, float]:
    """Median calls/s of each case; cases alternate, so that a machine that slows down slows all of them."""
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, work in cases().items():
            for _warm in range(5):
                work()
            done, began = 0, time.perf_counter()
            while (spent := time.perf_counter() - began) < seconds:
                work()
                done += 1
            rates.setdefault(name, []).append(done / spent)
    return {name: statistics.median(found) for name, found in rates.items()}


def run(sizes: Sequence[int], seconds: float, rounds: int) -> None:
    """Measure the cases at each number of events."""
    from django.db import connection

    rows: list[dict[str, Any]] = []
    with connection.cursor() as cursor:
        cursor.execute(append.RAW_TABLE)
        cursor.execute(NAMES)
    for upto in sorted(sizes):
        filled = fill(upto)
        rates = measure(seconds, rounds)
        with connection.cursor() as cursor:
            cursor.execute("select pg_database_size(current_database())")
            size = cursor.fetchone()[0] / 2**30
        for name, rate in rates.items():
            ratio = round(rate / rates["raw insert"], 2)
            row = {"events": upto, "case": name, "calls/s": round(rate), "of raw": ratio}
            rows.append(row | {"GiB": round(size, 1), "filled in s": round(filled)})
        harness.table(f"With {upto:,} events (fsync on, 1 writer, 300-byte payloads)", rows[-len(rates) :])
        harness.save("growth", {"rows": rows})
