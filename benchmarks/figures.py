"""The cost of reading figures on a large dataset, from the view to bytes, without a cache, beside references.

    lists    a page of `users/` with counts, by each sort and some filters, beside DRF's `CursorPagination` on the same
             table without counts; page 10,000 (in a shorter list the page at nine tenths) beside page 1
    records  a user with the most submissions beside a light one
    days     `metrics/forms/` of 90 days beside the `GROUP BY` over the submissions of these days

`python -m benchmarks figures --scale 1` uses 1 M users, 3 M forms and 10 M submissions (see `dataset`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks import dataset, harness, lists

OF_DRF: Final = 0.5
OF_FIRST: Final = 1.2
OF_LIGHT: Final = 1.2
OF_GROUP_BY: Final = 0.05
DEEP: Final = 10_000

QUESTIONS: Final[Sequence[dict[str, str]]] = (
    {"sort": "-created_at"},
    {"sort": "-form_count"},
    {"sort": "-submission_count"},
    {"sort": "submission_count"},
    {"sort": "-recent_submissions"},
    {"sort": "-submission_count", "plan": "premium"},
    {"sort": "-submission_count", "active": "true"},
)

GROUPED: Final = """
select (created_at at time zone 'UTC')::date, count(*), avg(completion_time) from submissions
 where deleted_at is null and created_at >= (now() at time zone 'UTC')::date - 89 group by 1
"""

KEY: Final = """
select {column}, {key} from {table} order by {column} {way}, {key} {way} offset %s limit 1
"""


def address(path: str) -> Callable[..., Any]:
    """The view behind an address of the API, with the arguments that the address contains."""
    from django.urls import resolve

    found = resolve(f"/api/v1/{path}")
    return lambda request: found.func(request, **found.kwargs)


def filtered(plan: str = "", active: str = "") -> Callable[..., Any]:
    """DRF's list of users with these filters."""
    from datetime import timedelta

    from django.utils import timezone

    view = lists.reference("-created_at")
    rows = view.view_class.queryset  # type: ignore[attr-defined]
    if plan:
        rows = rows.filter(plan=plan)
    if active:
        rows = rows.filter(last_login__gte=timezone.now() - timedelta(days=30))
    return view.view_class.as_view(queryset=rows)  # type: ignore[attr-defined, no-any-return]


def measure_lists(staff: Any, times: int) -> list[dict[str, Any]]:
    found = []
    for asked in QUESTIONS:
        filters = {name: value for name, value in asked.items() if name != "sort"}
        deep = (
            {} if filters else {"deep ms": lists.get(lists.ours(), staff, **asked, cursor=deep_cursor(asked["sort"]))}
        )
        ways = {
            "ms": lists.get(lists.ours(), staff, **asked),
            "DRF ms": lists.get(filtered(**filters), staff),
            **deep,
        }
        row = lists.alternate(ways, times)
        ratios = {"of DRF": row["ms"] / row["DRF ms"]}
        if deep:
            ratios["deep, of page 1"] = row["deep ms"] / row["ms"]
        found.append({"users/": ", ".join(f"{name}={value}" for name, value in asked.items()), **row, **ratios})
    return found


def deep_cursor(sort: str) -> str:
    """The cursor of page `DEEP`, as the list would give it, or of the row at nine tenths if shorter."""
    from backoffice import listing, models
    from backoffice.listing import cursor, order, pages
    from events import store

    asked = order.asked(listing.SPECS["users"], sort, frozenset())
    through = asked.sort.through
    table = through.model._meta.db_table if through else "users"
    key, way = (through.key if through else "id"), ("desc" if asked.descending else "asc")
    total = models.User.objects.filter(deleted_at=None).count()
    place = min((DEEP - 1) * listing.LIMIT, total * 9 // 10)
    row = store.query(KEY.format(column=asked.sort.column, key=key, table=table, way=way), (place,))[0]
    made = cursor.Cursor(
        backward=False, key=cursor.as_text(tuple(row)), total=total, question=pages.digest({}, "", frozenset(), None)
    )
    return cursor.encrypt(made, asked)


EXTREMES: Final = """
(select user_id from metrics_user_stats where alive order by submission_count desc limit 1) union all
(select user_id from metrics_user_stats where alive and submission_count between 1 and 5 limit 1)
"""


def measure_records(staff: Any, times: int) -> list[dict[str, Any]]:
    from events import store

    (heavy,), (light,) = store.query(EXTREMES)
    ways = {
        f"{name} ms": lists.get(address(f"users/{key}/"), staff) for name, key in (("heavy", heavy), ("light", light))
    }
    row = lists.alternate(ways, times)
    most = store.query("select max(submission_count) from metrics_user_stats")[0][0]
    return [{"users/{id}/": f"{most:,} submissions", **row, "ratio": row["heavy ms"] / row["light ms"]}]


def measure_days(staff: Any, times: int) -> list[dict[str, Any]]:
    from events import store

    ways = {
        "ms": lists.get(address("metrics/forms/"), staff, range="90d"),
        "GROUP BY ms": lambda: store.query(GROUPED),
    }
    row = lists.alternate(ways, times)
    return [{"metrics/forms/": "90 days, cold", **row, "ratio": row["ms"] / row["GROUP BY ms"]}]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    dataset.add_arguments(parser, 0.01)
    parser.add_argument("--times", type=int, default=25)
    options, _ = parser.parse_known_args(arguments)
    size = dataset.size_of(options)
    with dataset.database(size, dataset.folder_of(size)):
        from django.conf import settings

        from backoffice.models import Staff

        settings.API_RATE_PER_MINUTE = 0
        staff, _ = Staff.objects.get_or_create(username="bench", defaults={"role": "manager", "is_staff": True})
        pages, records, days = (
            measure(staff, options.times) for measure in (measure_lists, measure_records, measure_days)
        )
    harness.table(f"A page of {size.users:,} users with counts, view to bytes (at most {OF_DRF:g} of DRF)", pages)
    harness.table(f"One user (at most {OF_LIGHT:g} of a light one)", records)
    harness.table(f"Days of {size.submissions:,} submissions (at most {OF_GROUP_BY:g} of the GROUP BY)", days)
    harness.save("figures", {"size": size._asdict(), "lists": pages, "records": records, "days": days})
    return int(
        any(row["of DRF"] > OF_DRF or row.get("deep, of page 1", 0) > OF_FIRST for row in pages)
        or records[0]["ratio"] > OF_LIGHT
        or days[0]["ratio"] > OF_GROUP_BY
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
