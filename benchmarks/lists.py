"""The cost of a page of a long list, from the view to bytes, beside DRF's `CursorPagination` on the same table.

Pages 1, 100 and 10,000 with each sort, then searches beside the way DRF's `SearchFilter` finds them. Both alternate in
one run; results are medians. The reference serialises the same columns, without counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import harness

BUDGET = 0.5  # a page of ours, as a share of the reference's
BUDGET_DEPTH = 1.2  # page 10,000, as a multiple of page 1
SEARCH_BUDGET_MS = 40.0  # any word of three letters or more, at 200,000 rows
PAGES = (1, 100, 10_000)
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


def fill(rows: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(FILL, {"rows": rows})
        cursor.execute("vacuum analyze users")


def get(view: Callable[..., Any], staff: Any, **query: str) -> Callable[[], int]:
    """Reads one page from a view, to the bytes of the answer."""
    from rest_framework.test import APIRequestFactory, force_authenticate

    factory = APIRequestFactory(SERVER_NAME="localhost")

    def read() -> int:
        request = factory.get("/", query)
        force_authenticate(request, staff)
        response = view(request).render()
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
    """The cursors of ours and of the reference that page `number` is read with; None where there is no such page."""
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
    """Medians in milliseconds."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(times):
        for way, read in ways.items():
            started = time.perf_counter()
            read()
            taken[way].append((time.perf_counter() - started) * 1000)
    return {way: statistics.median(figures) for way, figures in taken.items()}


def measure_pages(staff: Any, times: int) -> list[dict[str, Any]]:
    found = []
    for sort in ("-created_at", "email", "-last_login"):
        for number in PAGES:
            links = cursors(sort, number)
            if links is None or (sort == "-last_login" and number > 1):
                continue  # DRF raises on a column with NULLs
            asked = [{"cursor": link} if link else {} for link in links]
            ways = {
                "ms": get(ours(), staff, sort=sort, **asked[0]),
                "DRF ms": get(reference(sort), staff, **asked[1]),
            }
            row = alternate(ways, times)
            found.append({"page": f"{sort}, page {number:,}", **row, "ratio": row["ms"] / row["DRF ms"]})
    return found


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
    parser.add_argument("--times", type=int, default=15)
    options = parser.parse_args(arguments)
    with harness.services():
        from django.conf import settings

        from backoffice.models import Staff

        settings.API_RATE_PER_MINUTE = 0
        fill(options.rows)
        staff = Staff.objects.create_user(username="bench", role="manager", is_staff=True)
        found, sought = measure_pages(staff, options.times), searches(options.times)
    harness.table(f"A page of {options.rows:,} users, view to bytes (budget: {BUDGET:g} of DRF)", found)
    harness.table(f"A search among {options.rows:,} users, totals included", sought)
    harness.save("lists", {"rows": options.rows, "pages": found, "searches": sought})
    depth = max(row["ms"] for row in found[:3]) / found[0]["ms"]
    print(f"\nDeepest page: {depth:.2f} of the first (budget: {BUDGET_DEPTH:g})")
    return int(depth > BUDGET_DEPTH or any(row["ratio"] > BUDGET for row in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
