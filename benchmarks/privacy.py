"""The cost of encryption: appends, commands, reads and an import, with and without personal fields. fsync on.

The same event types are registered twice, with and without their personal fields, and alternate in short slices of one
process. A result is the median of its slices, a ratio that of two medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from benchmarks import harness
from benchmarks.append import BATCH, PAYLOAD
from benchmarks.import_submissions import export

SECONDS, ROUNDS = 0.4, 3
ROWS = 2_000
READ = 1_000
GOALS = {"import": 0.90, "command: submission": 0.92, "command: user": 0.92}


@contextmanager
def without_personal_fields(plain: bool) -> Any:
    """Within this context no field is personal: event types have neither `personal` nor `subject`."""
    import msgspec

    from events import types

    known = list(types.event_types())
    if plain:
        for kind in known:
            bare = msgspec.structs.replace(kind, personal={}, subject=None, within=None, nested=())
            types._events[kind.name] = types._event_names[kind.cls] = bare
    try:
        yield
    finally:
        for kind in known:
            types._events[kind.name] = types._event_names[kind.cls] = kind


def works() -> dict[str, Callable[[], int]]:
    """Cases by name; each runs one unit of work and returns its number of events."""
    from backoffice.sections.forms.domain import CreateForm
    from backoffice.sections.submissions.domain import ReceiveSubmission, SubmissionReceived
    from backoffice.sections.users.domain import CreateUser, UpdateUser
    from events import commands, store
    from events.types import EPOCH_START, Command, new_id

    def send(data: Any, key: Any) -> int:
        commands.dispatch(Command(id=new_id(), key=str(key), data=data))
        return 1

    owner, form, numbers = new_id(), new_id(), iter(range(10**9))
    send(CreateUser(email=f"{owner}@example.org"), owner)
    send(CreateForm(user_id=owner, title="Bench"), form)

    def event() -> Any:
        return SubmissionReceived(form_id=form, answers=PAYLOAD, created_at=EPOCH_START)

    def append() -> int:
        store.append(f"submission-{new_id()}", [event()], store.NO_STREAM)
        return 1

    def append_many() -> int:
        store.append_many([store.Append(stream=f"submission-{new_id()}", events=[event()]) for _ in range(BATCH)])
        return BATCH

    def user() -> int:
        key = new_id()
        send(CreateUser(email=f"{key}@example.org", first_name="Bench"), key)
        return send(UpdateUser(first_name=f"Bench {next(numbers)}"), key) + 1

    return {
        "append": append,
        f"append x{BATCH}": append_many,
        "command: submission": lambda: send(ReceiveSubmission(form_id=form, answers=PAYLOAD), new_id()),
        "command: user": user,
    }


def slices(work: Callable[[], int]) -> dict[bool, float]:
    """Measure events/s with (True) and without (False) encryption."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * ROUNDS):
        sealed = number % 2 == 0
        with without_personal_fields(not sealed):
            work()
            began, done = time.perf_counter(), 0
            while time.perf_counter() < began + SECONDS:
                done += work()
            rates[sealed].append(done / (time.perf_counter() - began))
    return {sealed: statistics.median(found) for sealed, found in rates.items()}


def reading(name: str, category: str, fill: Callable[[], int]) -> dict[str, Any]:
    """Measure `read_all` of READ events, encrypted and not, with keys cached and not."""
    from events import head, store
    from events.privacy import subject_keys

    ranges = {}
    for sealed in (True, False):
        with without_personal_fields(not sealed):
            after, done = head.safe(), 0
            while done < READ:
                done += fill()
            ranges[sealed] = after
    rates: dict[str, list[float]] = {"sealed": [], "cold": [], "plain": []}
    for _ in range(ROUNDS):
        for kind, found in rates.items():
            if kind == "cold":
                subject_keys.CACHE.clear()
            began = time.perf_counter()
            events = store.read_all(ranges[kind != "plain"], READ, upto=head.last(), categories=[category])
            found.append(len(events) / (time.perf_counter() - began))
    median = {kind: statistics.median(found) for kind, found in rates.items()}
    return {
        "case": name,
        "encrypted/s": round(median["sealed"]),
        "plain/s": round(median["plain"]),
        "ratio": round(median["sealed"] / median["plain"], 3),
        "keys not in memory": round(median["cold"] / median["plain"], 3),
    }


def imports() -> dict[bool, float]:
    """Submissions written per second by an import with (True) and without (False) encryption."""
    from backoffice.sections.imports import rows, run
    from backoffice.sections.users import domain as users
    from events import commands, types

    email, data = f"bench-{types.new_id()}@example.org", export(ROWS)
    command = types.Command(id=types.new_id(), key=str(types.new_id()), data=users.CreateUser(email=email))
    commands.dispatch(command)
    plan = rows.plan(data)
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(4):
        sealed = number % 2 == 0
        with without_personal_fields(not sealed):
            found = run.destination(plan, f"Bench {number}", email)
            began = time.perf_counter()
            run.carry_out(plan, found)
            rates[sealed].append(ROWS / (time.perf_counter() - began))
    return {sealed: statistics.median(found) for sealed, found in rates.items()}


def row(case: str, rates: dict[bool, float]) -> dict[str, Any]:
    ratio = round(rates[True] / rates[False], 3)
    row = {"case": case, "encrypted/s": round(rates[True]), "plain/s": round(rates[False]), "ratio": ratio}
    return row | ({"goal": GOALS[case]} if case in GOALS else {})


def main() -> int:
    with harness.services():
        known = works()
        found = [row(name, slices(work)) for name, work in known.items()]
        found.append(row("import", imports()))
        found.append(reading("read_all: submissions", "submission", known[f"append x{BATCH}"]))
        found.append(reading("read_all: users", "user", known["command: user"]))
    harness.table("Encrypted, beside the same without", found)
    harness.save("privacy", {"cases": found})
    return int(any(r["ratio"] < r["goal"] for r in found if "goal" in r))


if __name__ == "__main__":
    sys.exit(main())
