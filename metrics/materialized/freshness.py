"""The freshness of the materialized views, and the session that keeps them from being refreshed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from events.rebuild import read_tables
from metrics.materialized import views

State: TypeAlias = Literal["fresh", "late", "failed", "never"]
Run: TypeAlias = Callable[[str], Sequence[Sequence[Any]]]

NAMES: Final = ", ".join(f"'{view.name}'" for view in views.VIEWS)

FRESHNESS: Final = f"""
select w.name, v.refreshed_at, v.checked_at, coalesce(v.position, 0), v.ms, v.rows, coalesce(v.number, 0),
       v.differences, v.error, v.failed_at, extract(epoch from clock_timestamp() - v.checked_at)::float
  from unnest(array[{NAMES}]) with ordinality w(name, place) left join metrics_view v on v.name = w.name
 order by w.place
"""  # noqa: S608 - constants

HOLDER: Final = f"""
select a.pid, a.application_name, a.state, extract(epoch from clock_timestamp() - a.xact_start)::float
  from pg_locks l join pg_stat_activity a on a.pid = l.pid
 where l.locktype = 'advisory' and l.granted and l.objsubid = 2
   and ((l.classid::bigint, l.objid::bigint) = {views.REFRESH_LOCK}
        or (l.classid::bigint, l.objid::bigint) = {read_tables.SWAP_LOCK} and l.mode = 'ExclusiveLock')
   and l.database = (select oid from pg_database where datname = current_database())
 limit 1
"""  # noqa: S608 - constants


class Freshness(msgspec.Struct, frozen=True):
    """The freshness of a view; `models.ViewFreshness` explains the fields. `age`: seconds since `checked_at`."""

    name: str
    refreshed_at: datetime | None
    checked_at: datetime | None
    position: int
    ms: float | None
    rows: int | None
    number: int
    differences: int | None
    error: str | None
    failed_at: datetime | None
    age: float | None


class Holder(msgspec.Struct, frozen=True):
    """The session that refreshes a view or swaps a read table; `seconds` since its transaction began."""

    pid: int
    application: str
    state: str | None
    seconds: float | None

    def __str__(self) -> str:
        return f"{self.application or 'a session'} (process {self.pid}, {self.state}, for {self.seconds or 0:.0f} s)"


def state(view: Freshness) -> State:
    """`fresh`, `late` or `failed` after three missed periods, or `never` refreshed.

    One failed attempt does not make the figures wrong: a view stays fresh until three periods were missed. A view that
    failed before it ever had data is failed at once.
    """
    if view.refreshed_at is None or view.age is None:
        return "failed" if view.error else "never"
    if abs(view.age) <= views.MISSED * views.PERIOD:  # negative: the clock was ahead
        return "fresh"
    return "failed" if view.error else "late"


def statuses(run: Run) -> list[Freshness]:
    """The freshness of every view; `run` runs a statement and returns its rows."""
    return [Freshness(*row) for row in run(FRESHNESS)]


def holder(run: Run) -> Holder | None:
    """The session that holds the lock of a refresh, None when it is free."""
    found = run(HOLDER)
    return Holder(*found[0]) if found else None


def probe(run: Run) -> str:
    """The state for `/readyz`: `ok`, or `late` or `failed` when a view is. `never` counts as `ok`."""
    found = {state(view) for view in statuses(run)}
    return next((bad for bad in ("failed", "late") if bad in found), "ok")
