"""The number of rows of a list: counted up to a cap, estimated beyond it.

Estimates are kept for a while, because they take longer than a page. Counted numbers are exact and never kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeAlias

from django.db.models import QuerySet

Total: TypeAlias = tuple[int, bool]  # the number, and whether it is exact

COUNT_CAP: Final = 10_000
# A list without filters is not counted up to the cap when it is estimated to be that much longer.
SURELY_LONG: Final = 10 * COUNT_CAP


def total_of(rows: QuerySet[Any], cap: int = COUNT_CAP) -> Total:
    """The number of rows as (number, is exact): counted up to `cap`, beyond it the planner's estimate."""
    counted = rows.order_by().values("pk")[: cap + 1].count()
    return (counted, True) if counted <= cap else (estimate(rows, cap), False)


def total_of_all(rows: QuerySet[Any]) -> Total:
    """`total_of` for a list without filters or search, whose estimate depends on no correlation of columns."""
    estimated = estimate(rows, 0)
    return (estimated, False) if estimated > SURELY_LONG else total_of(rows)


KEPT_SECONDS: Final = 30.0
KEPT: Final = 1_000

_estimates: dict[Hashable, tuple[float, int]] = {}


def kept(key: Hashable, count: Callable[[], Total]) -> Total:
    """The estimate of this question if one was made in the last `KEPT_SECONDS`, else what `count` gives."""
    now = time.monotonic()
    until, number = _estimates.get(key, (0.0, 0))
    if now < until:
        return number, False
    number, is_exact = count()
    if not is_exact:
        if len(_estimates) >= KEPT:
            _estimates.clear()
        _estimates[key] = now + KEPT_SECONDS, number
    return number, is_exact


def forget() -> None:
    """Drop the estimates that are kept, for tests that replace the tables."""
    _estimates.clear()


def estimate(rows: QuerySet[Any], more_than: int) -> int:
    """The planner's estimate, corrected to be more than a number that is known to be exceeded."""
    plan = json.loads(rows.order_by().values("pk").explain(format="json"))
    return max(int(plan[0]["Plan"]["Plan Rows"]), more_than + 1)
