"""The cost of a page of a long list, from view to bytes, beside DRF's `CursorPagination` on the same table.

Pages 1, 100 and 10,000 with each sort, and filters, with counts; then searches beside the way DRF's `SearchFilter`
finds them. Both alternate in one run; results are medians: CPU is that of this process, wall time includes PostgreSQL.
The reference serialises the same columns, without counts. With `--dataset` the table is that of `benchmarks.dataset`,
and the user with the most submissions is read beside a light one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import dataset, harness

BUDGET = 0.5  # a page of ours, as a share of the reference's
BUDGET_DEPTH = 1.2  # page 10,000, as a multiple of page 1
SEARCH_BUDGET_MS = 40.0  # any word of three letters or more, at 200,000 rows
PAGES = (1, 100, 10_000)
FILTERED = ({"plan": "premium"}, {"active": "true"}, {"deleted": "any"}, {"plan": "free", "sort": "email"})
FIELDS = (
    "id", "version", "email", "first_name", "last_name", "plan", "role", "last_login", "created_at", "updated_at",
    "deleted_at", "erased_at",
)  # fmt: skip
FILL = """
insert into users (id, email, first_name, last_name, plan, role, created_at, last_login, version, updated_at)
select gen_random_uuid(), 'person' || n || '@example.org',
       (array['Anna', 'Chlo\u00e9', 'Li', 'Grace', 'Omar', 'Wei', 'Zo\u00eb', 'Max'])[1 + n %% 8],
       case when n > %(rows)s * 9 / 10 then 'Oldman ' when n %% 1000 = 0 then 'Stra\u00dfe ' else '' end || 'Last' || n,
       (array['free', 'free', 'free', 'premium', 'enterprise'])[1 + n %% 5], 'member',
       now() - n * interval '94 seconds', case when n %% 3 > 0 then now() - n * interval '31 seconds' end, 1, now()
  from generate_series(1, %(rows)s) as n
"""
SEARCHES = {
    "rare": "last77777",
    "common": "anna",
    "a tenth, the oldest": "oldman",
    "absent": "quetzal",
    "two letters": "li",
    "\u00df": "stra\u00dfe",
    "accents": "chloe",
    "%": "100%",
}


COUNTS = """
insert into metrics_user_stats (user_id, form_count, submission_count, recent, last_at)
select id, n %% 7, n %% 1000, n %% 30, created_at from (select id, created_at, row_number() over () as n from users) one
"""


def fill(rows: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(FILL, {"rows": rows})
        cursor.execute(COUNTS, {})
        cursor.execute("vacuum analyze users, metrics_user_stats")


def get(view: Callable[..., Any], staff: Any, *, key: Any = None, **query: str) -> Callable[[], int]:
    """Returns a function that reads one page from a view and returns the size of the answer in bytes."""
    from rest_framework.test import APIRequestFactory, force_authenticate

    factory = APIRequestFactory(SERVER_NAME="localhost")

    def read() -> int:
        request = factory.get("/", query)
        force_authenticate(request, staff)
        response = (view(request) if key is None else view(request, key=str(key))).render()
        assert response.status_code == 200, response.content
        return len(response.content)

    return read


def pagination_of(sort: str) -> type[Any]:
    from rest_framework.pagination import CursorPagination

    return type("Pagination", (CursorPagination,), {"page_size": 25, "ordering": sort})


def reference(sort: str) -> Callable[..., Any]:
    """A list of users as DRF's documentation has it."""
    from rest_framework import generics, renderers, serializers

    from backoffice import models

    class Serializer(serializers.ModelSerializer[models.User]):
        class Meta:
            model = models.User
            fields = FIELDS

    class List(generics.ListAPIView[models.User]):
        queryset = models.User.objects.filter(deleted_at=None)
        serializer_class, pagination_class = Serializer, pagination_of(sort)
        renderer_classes = (renderers.JSONRenderer,)
        permission_classes = ()

    return List.as_view()


def ours() -> Callable[..., Any]:
    from django.urls import resolve

    return resolve("/api/v1/users/").func


def cursors(sort: str, number: int) -> tuple[str, str] | None:
    """Our cursor and the reference's cursor for page `number`; None where there is no such page."""
    from rest_framework.pagination import Cursor

    from backoffice import listing, models
    from backoffice.listing import cursor, order, pages

    if number == 1:
        return "", ""
    name, down = sort.removeprefix("-"), sort.startswith("-")
    rows = models.User.objects.filter(deleted_at=None).exclude(**{name: None}).order_by(sort, "-id" if down else "id")
    place = (number - 1) * listing.LIMIT - 1
    found = rows[place : place + 1]
    if not found:
        return None
    asked = order.asked(listing.SPECS["users"], sort, frozenset())
    question = pages.digest({}, "", frozenset(), None)
    made = cursor.Cursor(backward=False, key=cursor.as_text(asked.key(found[0])), total=rows.count(), question=question)
    theirs: Any = pagination_of(sort)()
    theirs.base_url = "/"
    position: Any = str(getattr(found[0], name))
    link = theirs.encode_cursor(Cursor(offset=0, reverse=False, position=position))
    return cursor.encrypt(made, asked), link.partition("cursor=")[2].replace("%3D", "=")


def alternate(ways: dict[str, Callable[[], Any]], times: int) -> dict[str, float]:
    """Median milliseconds of each way by the wall clock; the ways alternate."""
    return {way: wall for way, (wall,) in alternate_by(ways, times, time.perf_counter).items()}


def alternate_by(
    ways: dict[str, Callable[[], Any]], times: int, *clocks: Callable[[], float]
) -> dict[str, list[float]]:
    """Median milliseconds of each way by each clock; the ways alternate."""
    taken: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(times):
        for way, read in ways.items():
            started = [clock() for clock in clocks]
            read()
            taken[way].append([(clock() - begun) * 1000 for clock, begun in zip(clocks, started, strict=True)])
    return {way: [statistics.median(each) for each in zip(*figures, strict=True)] for way, figures in taken.items()}


def beside_drf(name: str, ours: list[float], reference: list[float]) -> dict[str, Any]:
    (cpu, wall), (their_cpu, their_wall) = ours, reference
    return {
        "page": name,
        "CPU ms": cpu,
        "DRF CPU ms": their_cpu,
        "CPU ratio": cpu / their_cpu,
        "wall ms": wall,
        "DRF wall ms": their_wall,
        "wall ratio": wall / their_wall,
    }


def measure_pages(staff: Any, times: int) -> list[dict[str, Any]]:
    ways: dict[str, Callable[[], int]] = {}
    pairs: dict[str, str] = {}  # ours -> the reference
    for sort in ("-created_at", "email", "-last_login"):
        for number in PAGES:
            links = cursors(sort, number)
            if links is None or (sort == "-last_login" and number > 1):
                continue  # DRF raises on a column with NULLs
            asked = [{"cursor": link} if link else {} for link in links]
            name = f"{sort}, page {number:,}"
            pairs[name] = f"DRF {name}"
            ways[name], ways[pairs[name]] = (
                get(ours(), staff, sort=sort, **asked[0]),
                get(reference(sort), staff, **asked[1]),
            )
    for query in FILTERED:
        name = f"{' '.join('='.join(part) for part in query.items())}, page 1"
        ways[name], pairs[name] = get(ours(), staff, **query), "DRF -created_at, page 1"
    taken = alternate_by(ways, times, time.process_time, time.perf_counter)
    return [beside_drf(name, taken[name], taken[theirs]) for name, theirs in pairs.items()]


def measure_records(staff: Any, times: int) -> list[dict[str, Any]]:
    """Measure reading the user with the most submissions, and one with a single submission."""
    from django.urls import resolve

    from metrics.counters.models import UserStats

    rows = UserStats.objects.filter(alive=True)
    chosen = {"heavy": rows.order_by("-submission_count")[0], "light": rows.filter(submission_count=1)[0]}
    view = resolve(f"/api/v1/users/{chosen['light'].pk}/").func
    ways = {way: get(view, staff, key=one.pk) for way, one in chosen.items()}
    taken = alternate_by(ways, times, time.process_time, time.perf_counter)
    return [
        {"user": way, "submissions": one.submission_count, "CPU ms": taken[way][0], "wall ms": taken[way][1]}
        for way, one in chosen.items()
    ]


def searches(times: int) -> list[dict[str, Any]]:
    from django.db.models import Q

    from backoffice import listing, models

    found = []
    for name, word in SEARCHES.items():

        def read(word: str = word) -> listing.Page:
            return listing.page("users", search=word)

        def theirs(word: str = word) -> int:
            wanted = Q(email__icontains=word) | Q(first_name__icontains=word) | Q(last_name__icontains=word)
            rows = models.User.objects.filter(wanted, deleted_at=None).order_by("-created_at", "-id")
            return len(rows[: listing.LIMIT])

        page = read()
        row = alternate({"ms": read, "icontains ms": theirs}, times)
        total = f"{'' if page.total_is_exact else 'about '}{page.total_count:,}"
        found.append({"search": f"{name} ({word})", "hits": total, **row, "ratio": row["ms"] / row["icontains ms"]})
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.lists")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--dataset", action="store_true", help="read the users of the dataset")
    options = parser.parse_args(arguments)
    size = dataset.Size()
    if options.dataset:
        options.rows = size.users
    with dataset.database(size, dataset.FOLDER) if options.dataset else harness.services():
        from django.conf import settings

        from backoffice.models import Staff

        settings.API_RATE_PER_MINUTE = 0
        if not options.dataset:
            fill(options.rows)
        staff, _ = Staff.objects.get_or_create(username="bench", defaults={"role": "manager", "is_staff": True})
        found, sought = measure_pages(staff, options.times), searches(options.times)
        records = measure_records(staff, options.times) if options.dataset else []
    harness.table(f"A page of {options.rows:,} users, view to bytes (budget: {BUDGET:g} of DRF)", found)
    harness.table(f"A search among {options.rows:,} users, totals included", sought)
    if records:
        harness.table("One user, with counts", records)
    harness.save("lists", {"rows": options.rows, "pages": found, "searches": sought, "records": records})
    depth = max(row["CPU ms"] for row in found[:3]) / found[0]["CPU ms"]
    print(f"\nDeepest page: {depth:.2f} of the first (budget: {BUDGET_DEPTH:g})")
    return int(depth > BUDGET_DEPTH or any(row["CPU ratio"] > BUDGET for row in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
