"""The number of rows of a list: counted up to a cap, estimated beyond it."""

from __future__ import annotations

import json
from typing import Any, Final

from django.db.models import QuerySet

COUNT_CAP: Final = 10_000
# A list without filters is not counted up to the cap when it is estimated to be that much longer.
SURELY_LONG: Final = 10 * COUNT_CAP
# Around the statement of `keys`.
ESTIMATE: Final = "explain (format json) {}"
COUNT: Final = f"select count(*) from ({{}} limit {COUNT_CAP + 1}) as counted"  # noqa: S608 - no input


def total_of(rows: QuerySet[Any], cap: int = COUNT_CAP) -> tuple[int, bool]:
    """Returns (number of rows, is exact): counted up to `cap`, beyond it the planner's estimate."""
    counted = keys(rows)[: cap + 1].count()
    return (counted, True) if counted <= cap else (estimate(rows, cap), False)


def total_of_all(rows: QuerySet[Any]) -> tuple[int, bool]:
    """Returns `total_of` a list without filters and search: a large estimate is reliable and saves the count."""
    estimated = estimate(rows, 0)
    return (estimated, False) if estimated > SURELY_LONG else total_of(rows)


def estimate(rows: QuerySet[Any], more_than: int) -> int:
    """Returns the planner's estimate, raised if necessary to exceed `more_than`, which is a known lower bound."""
    return max(planned(json.loads(keys(rows).explain(format="json"))), more_than + 1)


def keys(rows: QuerySet[Any]) -> QuerySet[Any, Any]:
    """Returns the query to count: primary keys only, unordered."""
    return rows.order_by().values("pk")


def planned(plan: Any) -> int:
    """Returns the number of rows that a plan (`explain (format json)`) expects."""
    return int(plan[0]["Plan"]["Plan Rows"])


def settled(counted: int, estimated: int, cap: int = COUNT_CAP) -> tuple[int, bool]:
    """Returns (number of rows, is exact) from a count up to `cap` + 1 and the planner's estimate."""
    return (counted, True) if counted <= cap else (max(estimated, cap + 1), False)
