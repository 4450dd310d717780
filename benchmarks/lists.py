"""The cost of a page of a long list, compared with Django's paginator (OFFSET and a count) on the same table.

Both alternate on a million users whose sign-ups are spread over three years; results are medians. The reference reads
the same rows, so that only the way of finding them differs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness

BUDGET_DEPTH = 3.0  # the deepest page, as a multiple of the first
PLANS = "(array['free', 'free', 'free', 'premium', 'enterprise'])[1 + n %% 5]"
FILL = f"""
insert into users (id, email, first_name, last_name, plan, role, created_at, version, updated_at)
select gen_random_uuid(), 'person' || n || '@example.org', 'First' || n %% 997, 'Last' || n, {PLANS}, 'member',
       now() - n * interval '94 seconds', 1, now()
from generate_series(1, %s) as n
"""


def fill(rows: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(FILL, [rows])
        cursor.execute("vacuum analyze users")


def cursor_at(share: float, filters: dict[str, str]) -> str | None:
    """The cursor of the page that has this share of the rows before it."""
    from backoffice import listing, models

    rows = models.User.objects.filter(**filters).order_by("-created_at", "-id")
    place = int(rows.count() * share)
    older = models.User.objects.filter(created_at__lte=rows[place].created_at)
    return listing.page("users", filters=filters, queryset=older).next_cursor if place else None


def ours(filters: dict[str, str], search: str, share: float) -> Callable[[], int]:
    from backoffice import listing

    cursor = cursor_at(share, filters)

    def read() -> int:
        return len(listing.page("users", filters=filters, search=search, cursor=cursor).items)

    return read


def reference(filters: dict[str, str], search: str, share: float) -> Callable[[], int]:
    from django.core.paginator import Paginator

    from backoffice import listing

    rows = listing.matching("users", filters=filters, search=search).order_by("-created_at", "-id")

    def read() -> int:
        paginator = Paginator(rows, listing.LIMIT)
        return len(paginator.page(1 + int((paginator.num_pages - 1) * share)).object_list)

    return read


def measured(times: int) -> list[dict[str, Any]]:
    lists: dict[str, tuple[dict[str, str], str, float]] = {
        "first page": ({}, "", 0),
        "in the middle": ({}, "", 0.5),
        "near the end": ({}, "", 0.999),
        "one plan, in the middle": ({"plan": "premium"}, "", 0.5),
        "a search": ({}, "last77777", 0),
    }
    found = []
    for name, asked in lists.items():
        ways = {"ms": ours(*asked), "Django ms": reference(*asked)}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(times):
            for way, read in ways.items():
                started = time.perf_counter()
                assert read()
                taken[way].append((time.perf_counter() - started) * 1000)
        row = {way: statistics.median(figures) for way, figures in taken.items()}
        found.append({"list": name, **row, "ratio": row["ms"] / row["Django ms"]})
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.lists")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args(arguments)
    with harness.services():
        fill(options.rows)
        found = measured(options.times)
    first, deepest = found[0]["ms"], found[2]["ms"]
    harness.table(f"A page of {options.rows:,} users, counts included (budget: {BUDGET_DEPTH:g} first pages)", found)
    harness.save("lists", {"rows": options.rows, "lists": found, "depth": deepest / first})
    return int(deepest / first > BUDGET_DEPTH)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
