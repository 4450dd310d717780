"""The number of rows of a list: counted up to a cap, estimated beyond it."""

from __future__ import annotations

import json
from typing import Any, Final

from django.db.models import QuerySet

COUNT_CAP: Final = 10_000
# A list without filters is not counted up to the cap when it is estimated to be that much longer.
SURELY_LONG: Final = 10 * COUNT_CAP


def total_of(rows: QuerySet[Any], cap: int = COUNT_CAP) -> tuple[int, bool]:
    """The number of rows as (number, is exact): counted up to `cap`, beyond it the planner's estimate."""
    counted = rows.order_by().values("pk")[: cap + 1].count()
    return (counted, True) if counted <= cap else (estimate(rows, cap), False)


def total_of_all(rows: QuerySet[Any]) -> tuple[int, bool]:
    """`total_of` for a list without filters or search, whose estimate depends on no correlation of columns."""
    estimated = estimate(rows, 0)
    return (estimated, False) if estimated > SURELY_LONG else total_of(rows)


def estimate(rows: QuerySet[Any], more_than: int) -> int:
    """The planner's estimate, corrected to be more than a number that is known to be exceeded."""
    plan = json.loads(rows.order_by().values("pk").explain(format="json"))
    return max(int(plan[0]["Plan"]["Plan Rows"]), more_than + 1)
