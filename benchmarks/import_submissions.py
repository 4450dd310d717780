"""Submissions per second of an import, with its events and inline projections, fsync on.

A generated export of 20,000 rows and 20 columns (select-all, grid, times, text) is read and imported. References in the
same run and database: `COPY` of the same submissions into a plain copy of the read table, and into one with the read
table's indexes, a thousand rows per transaction as in the import. On another machine the rates differ, but hardly their
ratio.
"""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from benchmarks import harness

ROWS = 20_000
GOAL = 5_000.0  # submissions/s, written
SCALE = ("Very good", "Good", "Fair", "Poor")
WORDS = (
    "plane",
    "late",
    "but",
    "staff",
    "were",
    "kind",
    "and",
    "my",
    "bag",
    "came",
    "first",
    "all",
    "in",
    "a",
    "good",
    "day",
)


def export(rows: int) -> bytes:
    """Generate an export in the format of a survey tool; the same in every run."""
    pick = random.Random(7)
    out = io.StringIO()
    write = csv.writer(out).writerow
    write(
        ["RespondentID", "StartDate", "EndDate", "Age", "Weight", "City", "Comment"]
        + [f"Which have you used? [{name}]" for name in ("Web", "Phone", "Mail", "Chat", "Desk")]
        + [f"How good was it? [{name}]" for name in ("Speed", "Tone", "Price", "Result")]
        + ["Again?", "Household income", "Region", "Score"]
    )
    began = datetime(2024, 3, 14, 6, 0)  # noqa: DTZ001 - exports name no zone
    for number in range(rows):
        began += timedelta(seconds=pick.randrange(200))
        ended = began + timedelta(seconds=pick.randrange(30, 900))
        write(
            [3_290_000_000 + number, f"{began:%m/%d/%Y %H:%M:%S}", f"{ended:%m/%d/%Y %H:%M:%S}"]
            + [pick.randrange(18, 90), round(pick.uniform(0.1, 3), 9), f"City {pick.randrange(40)}"]
            + [" ".join(pick.choices(WORDS, k=pick.randrange(25)))]
            + [pick.choice(("Yes", "No")) for _ in range(5)]
            + [pick.choice(SCALE) for _ in range(4)]
            + [pick.choice(("Yes", "No", "")), pick.choice(("$0 - $24,999", "$25,000+")), f"Region {pick.randrange(9)}"]
            + [pick.randrange(1, 8)]
        )
    return out.getvalue().encode()


def taken(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


COPY = "copy {table} (id, form_id, answers, started_at, completion_time, created_at, version, updated_at) from stdin"


def copied(table: str, including: str, records: list[tuple[Any, ...]]) -> float:
    """Seconds to COPY the submissions into a table like `submissions`, a thousand per transaction."""
    from django.db import connection, transaction

    with connection.cursor() as cursor:
        cursor.execute(f"create table {table} (like submissions {including})")
        started = time.perf_counter()
        for at in range(0, len(records), 1_000):
            with transaction.atomic(), cursor.copy(COPY.format(table=table)) as copy:
                for record in records[at : at + 1_000]:
                    copy.write_row(record)
        seconds = time.perf_counter() - started
        cursor.execute(f"drop table {table}")
    return seconds


def measure() -> list[dict[str, Any]]:
    """One row per case: name, submissions/s, and the rate relative to the plain COPY."""
    from django.utils import timezone

    from backoffice.sections.imports import rows, run
    from backoffice.sections.users import domain as users
    from events import commands, types

    email, data = f"bench-{types.new_id()}@example.org", export(ROWS)
    owner = users.CreateUser(email=email)
    commands.dispatch(types.Command(id=types.new_id(), key=str(types.new_id()), data=owner))
    reading, plan = taken(lambda: rows.plan(data))
    looking, found = taken(lambda: run.destination(plan, "Bench", email))
    now = timezone.now()
    records = [
        (
            types.new_id(),
            found.form_id,
            json.dumps(row.answers),
            row.started_at,
            row.completion_time,
            row.created_at,
            1,
            now,
        )
        for _, row in found.fresh
    ]
    bare = copied("bench_bare", "", records)
    indexed = copied("bench_indexed", "including all", records)
    writing, added = taken(lambda: run.carry_out(plan, found))
    again, there = taken(lambda: run.destination(plan, "Bench", email))
    if (added, there.known) != (ROWS, ROWS):
        raise RuntimeError(f"{added} of {ROWS} submissions were added, {there.known} found again")
    cases = {
        "COPY, no index": bare,
        "COPY, the read table's indexes": indexed,
        "read: bytes to plan": reading,
        "look up owner, form, rows": looking,
        "write: events and projections": writing,
        "whole import": reading + looking + writing,
        "whole import again, nothing new": reading + again,
    }
    return [{"case": case, "per_s": round(ROWS / s), "of_copy": round(bare / s, 3)} for case, s in cases.items()]


def main() -> int:
    with harness.services():
        rows = measure()
    title = f"Import of {ROWS:,} submissions, 20 columns (goal: {GOAL:,.0f} written/s)"
    harness.table(title, [{"case": r["case"], "submissions/s": r["per_s"], "of COPY": r["of_copy"]} for r in rows])
    harness.save("import_submissions", {"rows": ROWS, "goal_per_s": GOAL, "cases": rows})
    written = next(row["per_s"] for row in rows if row["case"].startswith("write"))
    return int(written < GOAL)


if __name__ == "__main__":
    sys.exit(main())
