"""How many rows a list has: counted up to a cap, estimated beyond it."""

from __future__ import annotations

import json
from typing import Any, Final

from django.db.models import QuerySet

COUNT_CAP: Final = 10_000


def total_of(rows: QuerySet[Any], cap: int = COUNT_CAP) -> tuple[int, bool]:
    """The number of rows as (number, is exact): counted up to `cap`, beyond it the planner's estimate."""
    counted = rows.order_by().values("pk")[: cap + 1].count()
    return (counted, True) if counted <= cap else (estimate(rows, cap), False)


def estimate(rows: QuerySet[Any], more_than: int) -> int:
    """The planner's estimate, corrected to be more than a number that is known to be exceeded."""
    plan = json.loads(rows.order_by().values("pk").explain(format="json"))
    return max(int(plan[0]["Plan"]["Plan Rows"]), more_than + 1)
