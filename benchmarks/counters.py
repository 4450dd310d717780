"""The cost of counters: applying a batch, beside the cheapest fold there is, and slower writers. fsync on.

fold      the subscription from `--events` submissions of an import, spread over 500 forms a batch and on one form;
          the reference reads the same events and adds them to one table by one `update … from jsonb` per batch;
          then the same without the indexes by which forms are sorted, which prevent heap-only updates
cost      commands per second with a process that runs the subscription, and without one, in alternating phases
import    an import at full rate: how long after a commit its submissions are counted, and whether the identity holds
seed      all counters from the read tables
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks import harness

FORMS = 500
CHUNK = 500
REFERENCE = """
create unlogged table benchmark_fold (form_id uuid primary key, n bigint not null) with (fillfactor = 70)
"""
FOLD = """
update benchmark_fold f set n = f.n + d.n from jsonb_to_recordset(%s::jsonb) as d(form_id uuid, n bigint)
 where f.form_id = d.form_id
"""
SORTS = ("metrics_form_submissions", "metrics_form_last")
HOT = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = %s"


def new_forms(count: int) -> list[uuid.UUID]:
    """Create forms, with one owner for every five; returns their ids."""
    from backoffice.sections.forms import domain as forms
    from backoffice.sections.users import domain as users
    from events import commands
    from events.types import Command, new_id

    owners = [new_id() for _ in range(max(count // 5, 1))]
    keys = [new_id() for _ in range(count)]
    made = [users.CreateUser(email=f"{key}@example.org") for key in owners]
    commands.dispatch_many(
        [Command(id=new_id(), key=str(key), data=data) for key, data in zip(owners, made, strict=True)]
    )
    for start in range(0, count, CHUNK):
        commands.dispatch_many(
            [
                Command(
                    id=new_id(), key=str(key), data=forms.CreateForm(user_id=owners[n % len(owners)], title="A form")
                )
                for n, key in enumerate(keys[start : start + CHUNK])
            ]
        )
    return keys


def receive(forms: Sequence[uuid.UUID], count: int) -> int:
    """Receive `count` submissions, to the forms in turn, as an import does; returns the last position."""
    from backoffice.sections.submissions import domain as submissions
    from events import commands, head
    from events.types import Command, new_id

    for start in range(0, count, CHUNK):
        commands.dispatch_many(
            [
                Command(
                    id=new_id(),
                    key=str(new_id()),
                    data=submissions.ReceiveSubmission(
                        form_id=forms[n % len(forms)], answers={"a": "some text", "b": 4}, completion_time=12.5
                    ),
                )
                for n in range(start, min(start + CHUNK, count))
            ]
        )
    return head.newest()


# -- fold -------------------------------------------------------------------------------------------------------------


def follow() -> float:
    """Handle everything up to the head; returns the seconds."""
    from events.subscriptions import runner as subscriptions
    from metrics.counters.subscription import SUBSCRIPTION

    lease = subscriptions.acquire(SUBSCRIPTION, "benchmark", 3600)
    assert lease is not None
    begun = time.perf_counter()
    while subscriptions.step(SUBSCRIPTION, "benchmark", lease):
        pass
    elapsed = time.perf_counter() - begun
    subscriptions.release(SUBSCRIPTION, "benchmark")
    return elapsed


def raw_fold(after: int) -> float:
    """Run the reference: read the same events, one update per batch in a transaction; returns the seconds."""
    import msgspec

    from events import head, store
    from events.db import pipeline

    upto, begun = head.safe(), time.perf_counter()
    while events := store.read_here(after, CHUNK, upto=upto, types=["submission.received"]):
        counts = Counter(event.data["form_id"] for event in events)
        rows = [{"form_id": key, "n": n} for key, n in counts.items()]
        with pipeline.transaction():
            store.execute("set local synchronous_commit = off")
            store.execute(FOLD, (msgspec.json.encode(rows).decode(),))
        after = events[-1].position
    return time.perf_counter() - begun


def fold(events: int) -> list[dict[str, Any]]:
    from events import head, store

    forms, rows = new_forms(FORMS), []
    definitions: list[Any] = []
    store.execute(REFERENCE)
    store.execute("insert into benchmark_fold select id, 0 from forms")
    follow()
    for name, chosen, sorts in (
        ("spread over 500 forms", forms, True),
        ("on one form", forms[:1], True),
        ("spread, without sorts", forms, False),
        ("on one form, without", forms[:1], False),
    ):
        if not sorts and "spread" in name:
            definitions = store.query("select indexdef from pg_indexes where indexname = any(%s)", (list(SORTS),))
            for index in SORTS:
                store.execute(f"drop index {index}")
        after = head.newest()
        receive(chosen, events)
        store.execute("vacuum analyze metrics_form_stats")
        before = store.query(HOT, ("metrics_form_stats",))[0]
        reference, ours = raw_fold(after), follow()
        time.sleep(1.2)  # the statistics of updates arrive once a second
        updated, hot = (
            now - then for now, then in zip(store.query(HOT, ("metrics_form_stats",))[0], before, strict=True)
        )
        rows.append(
            {
                "fold": name,
                "events/s": round(events / ours),
                "reference/s": round(events / reference),
                "ratio": ours / reference,
                "heap-only": f"{hot:,} of {updated:,}",
            }
        )
    for (definition,) in definitions:
        store.execute(definition)
    return rows


# -- what writers pay -------------------------------------------------------------------------------------------------


@contextmanager
def runner() -> Any:
    """Within this context a process runs the subscription."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "run_subscriptions", "counters"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout
    process.stdout.readline()
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def commands_per_second(forms: Sequence[uuid.UUID], seconds: float, writers: int) -> float:
    """Commands per second, dispatched one at a time by each of `writers` threads."""
    from django.db import connection

    from backoffice.sections.submissions import domain as submissions
    from events import commands
    from events.types import Command, new_id

    until, done = time.perf_counter() + seconds, [0] * writers

    def write(number: int) -> None:
        while time.perf_counter() < until:
            form = forms[(number + done[number]) % len(forms)]
            data = submissions.ReceiveSubmission(form_id=form, answers={"a": 1}, completion_time=3.0)
            commands.dispatch(Command(id=new_id(), key=str(new_id()), data=data))
            done[number] += 1
        connection.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def cost(seconds: float, rounds: int) -> list[dict[str, Any]]:
    forms = new_forms(50)
    with_counters, without = [], []
    commands_per_second(forms, 1, 4)
    for number in range(rounds):
        phases: list[Callable[[], None]] = [
            lambda: without.append(commands_per_second(forms, seconds, 4)),
            lambda: with_counters.append(_with_runner(forms, seconds)),
        ]
        for phase in phases if number % 2 else reversed(phases):
            phase()
    on, off = statistics.median(with_counters), statistics.median(without)
    return [{"commands/s with counters": on, "without": off, "ratio": on / off}]


def _with_runner(forms: Sequence[uuid.UUID], seconds: float) -> float:
    with runner():
        return commands_per_second(forms, seconds, 4)


# -- an import at full rate -------------------------------------------------------------------------------------------


def imports(seconds: float) -> list[dict[str, Any]]:
    from events.subscriptions import progress
    from metrics.counters import reconcile

    forms, lags, states = new_forms(200), [], Counter[str]()
    stop = threading.Event()

    def compare() -> None:
        from django.db import connection

        while not stop.wait(1):
            outcome = reconcile.reconcile(reconcile.next_slice())
            states[outcome.state if outcome else "busy"] += 1
        connection.close()

    with runner():
        progress.wait_for("counters", receive(forms, CHUNK), timeout=60)
        comparing = threading.Thread(target=compare)
        comparing.start()
        committed: list[tuple[float, int]] = []
        counted: dict[int, float] = {}
        watching = threading.Thread(target=_watch, args=(stop, counted))
        watching.start()
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            position = receive(forms, CHUNK)
            committed.append((time.perf_counter(), position))
        elapsed = time.perf_counter() - begun
        progress.wait_for("counters", committed[-1][1], timeout=60)
        stop.set()
        comparing.join()
        watching.join()
    for at, position in committed:
        reached = min((when for seen, when in counted.items() if seen >= position), default=time.perf_counter())
        lags.append(max(reached - at, 0.0))
    lags.sort()
    everything = reconcile.reconcile()
    return [
        {
            "submissions/s": len(committed) * CHUNK / elapsed,
            "counted after, p50 ms": statistics.median(lags) * 1000,
            "p99 ms": lags[int(len(lags) * 0.99)] * 1000,
            "comparisons": ", ".join(f"{n} {state}" for state, n in sorted(states.items())),
            "in the end": everything.state if everything else "busy",
        }
    ]


def _watch(stop: threading.Event, counted: dict[int, float]) -> None:
    """Note when the checkpoint reached each position."""
    from django.db import connection

    from events.subscriptions import progress

    while not stop.is_set():
        counted.setdefault(progress.position("counters"), time.perf_counter())
        time.sleep(0.005)
    connection.close()


def seeds() -> list[dict[str, Any]]:
    from events import store
    from events.rebuild import builder

    count = store.query("select count(*) from submissions")[0][0]
    begun = time.perf_counter()
    builder.rebuild("counters")
    return [{"submissions": count, "seconds to rebuild": time.perf_counter() - begun}]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    options, _ = parser.parse_known_args()
    with harness.services():
        folded = fold(options.events)
        harness.table("fold: the subscription beside one update a batch", folded)
        paid = cost(options.seconds, options.rounds)
        harness.table("cost for writers (target: ratio >= 0.97)", paid)
        followed = imports(options.seconds * 3)
        harness.table("an import at full rate (target: p99 <= 1 s, all clean)", followed)
        seeded = seeds()
        harness.table("rebuild", seeded)
    harness.save("counters", {"fold": folded, "cost": paid, "import": followed, "rebuild": seeded})
    return 0


if __name__ == "__main__":
    sys.exit(main())
