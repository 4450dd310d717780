"""Appends and commands a second, beside a raw `INSERT` through psycopg in the same run. fsync on.

Writers are processes on distinct streams. Cases alternate in short slices, so that a machine that slows down slows all
of them. The result is the median of the slices, the ratio that of the medians. Payloads have about 300 bytes of JSON.
A command locks its stream, loads, decides, writes its read table, appends and stores its answer: it sets a new setting.
`personal` is the same with each payload encrypted under the key of its form, as submissions are; its command receives
submissions.

The table includes pyeventsourcing with its own recorder, and message-db where `--message-db` names the folder
`database` of a checkout of it, whose tables and functions are then installed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness

PAYLOAD = {f"field_{number}": "lorem ipsum dolor sit amet" for number in range(7)}

RAW_TABLE = """
create table if not exists bench_raw (
    position bigint generated always as identity primary key, stream text not null, version bigint not null,
    type text not null, data jsonb not null, event_id uuid not null, actor text not null,
    recorded_at timestamptz not null default now(), unique (stream, version))
"""
RAW_ONE = """
insert into bench_raw (stream, version, type, data, event_id, actor) values (%s, 1, %s, %s, %s, %s) returning position
"""
RAW_MANY = """
insert into bench_raw (stream, version, type, data, event_id, actor)
select e->>'s', 1, e->>'t', e->'d', (e->>'i')::uuid, 'system' from jsonb_array_elements(%s::jsonb) e returning position
"""
BATCH = 100
FORM = uuid.UUID(int=7)  # one form: its key is created once, as in production


def raw_connection() -> Any:
    import psycopg
    from django.db import connection

    known = {"host", "port", "user", "password", "dbname"}
    where = {k: v for k, v in connection.get_connection_params().items() if k in known}
    return psycopg.connect(**where, autocommit=True, prepare_threshold=0)


def raw_one() -> Callable[[], int]:
    import orjson

    from events.types import new_id

    cursor = raw_connection().cursor()

    def work() -> int:
        key = new_id()
        data = orjson.dumps(PAYLOAD).decode()
        cursor.execute(RAW_ONE, (f"submission-{key}", "submission.received", data, new_id(), "system")).fetchone()
        return 1

    return work


def raw_many() -> Callable[[], int]:
    import orjson

    from events.types import new_id

    cursor = raw_connection().cursor()

    def work() -> int:
        same = {"t": "submission.received", "d": PAYLOAD}
        rows = [{"s": f"submission-{new_id()}", "i": str(new_id()), **same} for _ in range(BATCH)]
        cursor.execute(RAW_MANY, (orjson.dumps(rows).decode(),)).fetchall()
        return BATCH

    return work


def plain() -> Any:
    from backoffice.sections.site_settings.domain import SettingChanged

    return SettingChanged(value=PAYLOAD)


def personal() -> Any:
    from backoffice.sections.submissions.domain import SubmissionReceived
    from events.types import EPOCH_START

    return SubmissionReceived(form_id=FORM, answers=PAYLOAD, created_at=EPOCH_START)


def append_one(category: str, event: Callable[[], Any]) -> Callable[[], int]:
    from events import store
    from events.types import new_id

    def work() -> int:
        store.append(f"{category}-{new_id()}", [event()], store.NO_STREAM)
        return 1

    return work


def append_many(category: str, event: Callable[[], Any]) -> Callable[[], int]:
    from events import store
    from events.types import new_id

    def work() -> int:
        store.append_many(
            [
                store.Append(stream=f"{category}-{new_id()}", events=[event()], expected=store.NO_STREAM)
                for _ in range(BATCH)
            ]
        )
        return BATCH

    return work


def append_stream() -> Callable[[], int]:
    from events import store
    from events.types import new_id

    def work() -> int:
        store.append(f"setting-{new_id()}", [plain() for _ in range(BATCH)], store.NO_STREAM)
        return BATCH

    return work


def pyeventsourcing(batch: int) -> Callable[[], int]:
    import orjson
    from eventsourcing.persistence import StoredEvent
    from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

    from events.types import new_id

    known = raw_connection().info
    datastore = PostgresDatastore(
        dbname=known.dbname, host=known.host, port=str(known.port), user=known.user, password=known.password or ""
    )
    recorder = PostgresApplicationRecorder(datastore, events_table_name="bench_pyeventsourcing")
    recorder.create_table()

    def work() -> int:
        key, state = new_id(), orjson.dumps(PAYLOAD)
        recorder.insert_events([StoredEvent(key, version, "submission.received", state) for version in range(batch)])
        return batch

    return work


def install_message_db(folder: Path) -> None:
    """Install message-db's tables, types, functions and indexes; its role and extension are not needed."""
    with raw_connection() as connection:
        connection.execute("set check_function_bodies = off")
        for part in ("schema", "tables", "types", "functions", "indexes"):
            for file in sorted((folder / part).glob("*.sql")):
                connection.execute("set search_path = message_store, public")
                connection.execute(file.read_bytes(), prepare=False)


def message_db() -> Callable[[], int]:
    import orjson

    from events.types import new_id

    connection = raw_connection()
    connection.execute("set search_path = message_store, public")
    cursor = connection.cursor()

    def work() -> int:
        stream, data = f"submission-{new_id()}", orjson.dumps(PAYLOAD).decode()
        written = "select write_message(%s::varchar, %s::varchar, %s::varchar, %s::jsonb)"
        cursor.execute(written, (str(new_id()), stream, "SubmissionReceived", data)).fetchone()
        return 1

    return work


def command() -> Callable[[], int]:
    from backoffice.sections.site_settings.domain import SetSetting
    from events import commands
    from events.types import Command, new_id

    def work() -> int:
        data = SetSetting(value=PAYLOAD)
        commands.dispatch(Command(id=new_id(), key=f"bench.{new_id()}", data=data))
        return 1

    return work


def personal_command() -> Callable[[], int]:
    from backoffice.sections.forms.domain import CreateForm
    from backoffice.sections.submissions.domain import ReceiveSubmission
    from backoffice.sections.users.domain import CreateUser
    from events import commands
    from events.types import Command, new_id

    user, form = new_id(), new_id()
    commands.dispatch(Command(id=new_id(), key=str(user), data=CreateUser(email=f"{user}@example.org")))
    commands.dispatch(Command(id=new_id(), key=str(form), data=CreateForm(user_id=user, title="Bench")))

    def work() -> int:
        data = ReceiveSubmission(form_id=form, answers=PAYLOAD)
        commands.dispatch(Command(id=new_id(), key=str(new_id()), data=data))
        return 1

    return work


CASES: dict[str, Callable[[], Callable[[], int]]] = {
    "raw": raw_one,
    "append": partial(append_one, "setting", plain),
    "append, personal": partial(append_one, "submission", personal),
    "command": command,
    "command, personal": personal_command,
    "pyeventsourcing": partial(pyeventsourcing, 1),
    "message-db": message_db,
    "raw x100": raw_many,
    "append x100, a stream each": partial(append_many, "setting", plain),
    "append x100, personal": partial(append_many, "submission", personal),
    "append x100, one stream": append_stream,
    "pyeventsourcing x100": partial(pyeventsourcing, BATCH),
}
AGAINST = {name: "raw x100" if "x100" in name else "raw" for name in CASES if not name.startswith("raw")}
GOALS = {("append", 1): 0.80, ("append", 8): 0.75, ("append", 16): 0.75, ("command", 1): 0.40, ("command", 8): 0.40}
GOALS |= {(name, writers): 0.90 for name in CASES if name.startswith("append x100") for writers in (1, 8)}


def writer(barrier: Any, slices: list[str], seconds: float, results: Any) -> None:
    """A writer process: runs the same slices as all others, synchronised with them."""
    import django

    django.setup()
    with raw_connection() as lock:  # one process at a time, because some cases create tables
        lock.execute("select pg_advisory_lock(1)")
        work = {name: CASES[name]() for name in dict.fromkeys(slices)}
    for name in slices:
        work[name]()  # prepares statements and warms caches
    for number, name in enumerate(slices):
        barrier.wait()
        done, until = 0, time.perf_counter() + seconds
        began = time.perf_counter()
        while time.perf_counter() < until:
            done += work[name]()
        results.put((number, done / (time.perf_counter() - began)))


def measure(writers: int, cases: list[str], seconds: float, rounds: int) -> dict[str, float]:
    """Median events/s of each case with that number of writers."""
    slices = cases * rounds
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(writers), context.Queue()
    processes = [context.Process(target=writer, args=(barrier, slices, seconds, results)) for _ in range(writers)]
    for process in processes:
        process.start()
    rates = [0.0] * len(slices)
    for _ in range(writers * len(slices)):
        number, rate = results.get(timeout=60 + 10 * seconds)
        rates[number] += rate
    for process in processes:
        process.join()
    return {name: statistics.median(rates[i] for i, n in enumerate(slices) if n == name) for name in cases}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 8, 16])
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--message-db", type=Path, metavar="FOLDER", help="`database` of a checkout of message-db")
    options = parser.parse_args()
    cases = [name for name in options.cases if name != "message-db" or options.message_db]
    rows = []
    with harness.services():
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(RAW_TABLE)
        if options.message_db:
            install_message_db(options.message_db)
        for writers in options.writers:
            rates = measure(writers, cases, options.seconds, options.rounds)
            for name, rate in rates.items():
                against = rates.get(AGAINST.get(name, ""))
                rows.append(
                    {
                        "case": name,
                        "writers": writers,
                        "events/s": round(rate),
                        "of raw": round(rate / against, 2) if against else None,
                        "goal": GOALS.get((name, writers)),
                    }
                )
    harness.table("Appends and commands (fsync on, 300-byte payloads)", rows)
    harness.save("append", {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
