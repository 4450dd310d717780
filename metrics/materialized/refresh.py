"""Refreshes the materialized views: one at a time, under time limits, and not when nothing changed.

    1  read the safe head: the content will reflect every event up to it, and perhaps later ones
    2  begin a transaction with one snapshot of tables that stay in place; skip when another refresh or the swap of a
       rebuild is running
    3  skip when no event was recorded since, or when the last refresh is recent
    4  refresh; a successor with a changed definition is filled beside the view and put in its place
    5  compare the daily figures with the counters, in the same snapshot
    6  record position, duration and number

The head is read before the transaction, because it needs a snapshot for each of its statements. The snapshot of the
transaction is taken with its first query, perhaps before the lock is free; if another refresh commits in between, the
update of the view's row fails as a serialization failure, which counts as "another one is running".
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final, Literal, TypeAlias

import msgspec
import psycopg
from django.db import DatabaseError, transaction

from events import errors, head, store
from events.db import driver_errors
from events.rebuild import read_tables
from metrics.counters import truth
from metrics.materialized import cross_check, views
from metrics.materialized.views import View

log = logging.getLogger(__name__)

RECENT: Final = 240  # seconds: refreshed later than this, a view is left alone
LOCK_TIMEOUT: Final = "2s"
STATEMENT_TIMEOUT: Final = "120s"
REPLACE_TIMEOUT: Final = "500ms"  # readers queue behind the exclusive lock of a replacement

Status: TypeAlias = Literal["refreshed", "replaced", "unchanged", "recent", "busy", "failed"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one attempt; `differences` is the number of days on which view and counters differ."""

    name: str
    status: Status
    position: int = 0
    ms: float | None = None
    rows: int | None = None
    number: int | None = None
    differences: int | None = None
    error: str | None = None


def refresh_all(*, force: bool = False) -> list[Outcome]:
    """Refresh every view, one after the other; a failure of one does not keep the next from being refreshed."""
    return [refresh(view, force=force) for view in views.VIEWS]


BEGIN: Final = (
    f"set local lock_timeout = '{LOCK_TIMEOUT}'",
    f"set local statement_timeout = '{STATEMENT_TIMEOUT}'",
)

TRY_LOCKS: Final = f"""
select case when pg_try_advisory_xact_lock{views.REFRESH_LOCK}
            then pg_try_advisory_xact_lock_shared{read_tables.SWAP_LOCK} else false end
"""

LAST: Final = """
select position, number, extract(epoch from now() - refreshed_at)::float,
       (refreshed_at at time zone 'UTC')::date = (now() at time zone 'UTC')::date
       and not exists (select 1 from events_rebuild where updated_at > refreshed_at)
  from metrics_view where name = %s and refreshed_at is not null
"""

CHECKED: Final = "update metrics_view set checked_at = now(), error = null, failed_at = null where name = %s"


def refresh(view: View, *, force: bool = False) -> Outcome:
    """Refresh one view; `force` also when nothing changed or it is recent. Never raises a database error."""
    try:
        safe, newest = head.safe(), head.newest()  # 1
        with transaction.atomic(durable=True):  # 2
            for statement in BEGIN:
                store.execute(statement)
            read_tables.one_snapshot(truth.STILL)
            if not store.query(TRY_LOCKS)[0][0]:
                return Outcome(name=view.name, status="busy")
            return _skipped(view, safe, newest, force) or _refreshed(view, safe)  # 3, 4 to 6
    except (errors.EventsError, psycopg.Error, DatabaseError) as error:
        if driver_errors.is_collision(error):
            return Outcome(name=view.name, status="busy")
        return _failed(view, error)


# 3


def _skipped(view: View, safe: int, newest: int, force: bool) -> Outcome | None:
    """The outcome where there is nothing to do.

    Nothing changed when the head is where it was, no committed event waits behind it, no read table was rebuilt, and
    the UTC day is the same: the views count whole days.
    """
    last = store.query(LAST, (view.name,))
    if force or not last or _successor(view):
        return None
    position, number, age, same_data = last[0]
    if position == safe == newest and same_data:
        store.execute(CHECKED, (view.name,))
        return Outcome(name=view.name, status="unchanged", position=position, number=number)
    if 0 <= age < RECENT:  # negative: the clock was ahead
        return Outcome(name=view.name, status="recent", position=position, number=number)
    return None


# 4 to 6

REFRESH: Final = "select metrics_refresh_view(%s)"
REPLACE: Final = "select metrics_replace_view(%s, %s)"

SUCCESSOR: Final = """
select relname from pg_class
 where relkind = 'm' and relnamespace = current_schema()::regnamespace and relname ~ ('^' || %s || '_v[0-9]+$')
 order by length(relname) desc, relname desc limit 1
"""

COUNTERS: Final = "select position from events_checkpoint where name = 'counters'"

RECORD: Final = """
insert into metrics_view as v (name, refreshed_at, checked_at, position, ms, rows, number, differences)
values (%s, now(), now(), %s, %s, %s, 1, %s)
on conflict (name) do update
   set refreshed_at = excluded.refreshed_at, checked_at = excluded.checked_at, position = excluded.position,
       ms = excluded.ms, rows = excluded.rows, number = v.number + 1, differences = excluded.differences,
       error = null, failed_at = null
returning number
"""


def _refreshed(view: View, safe: int) -> Outcome:
    successor = _successor(view)
    started = time.perf_counter()
    store.query(REFRESH, (successor or view.name,))  # 4
    if successor:
        store.execute(f"set local lock_timeout = '{REPLACE_TIMEOUT}'")
        store.query(REPLACE, (view.name, successor))
    ms = round((time.perf_counter() - started) * 1000, 1)
    rows = store.query(f"select count(*) from {view.name}")[0][0]  # noqa: S608 - a constant name
    differences = cross_check.compare() if view.compared else None  # 5
    position = min(safe, _counted()) if view.reads_counters else safe
    number = store.query(RECORD, (view.name, position, ms, rows, differences))[0][0]  # 6
    return Outcome(
        name=view.name,
        status="replaced" if successor else "refreshed",
        position=position,
        ms=ms,
        rows=rows,
        number=number,
        differences=differences,
    )


def _successor(view: View) -> str | None:
    """The newest view of the same name with a version, which a migration created to replace this one."""
    found = store.query(SUCCESSOR, (view.name,))
    return found[0][0] if found else None


def _counted() -> int:
    """The position up to which events are counted, 0 before the counters have started."""
    found = store.query(COUNTERS)
    return found[0][0] if found else 0


# -- failure ----------------------------------------------------------------------------------------------------------

FAILED: Final = """
insert into metrics_view (name, position, number, error, failed_at) values (%s, 0, 0, %s, now())
on conflict (name) do update set error = excluded.error, failed_at = excluded.failed_at
"""


def _failed(view: View, error: BaseException) -> Outcome:
    """Record the reason, so that pages and `doctor` can show it; the log has the traceback."""
    reason = _reason(error)
    log.error("refresh of %s failed: %s", view.name, reason, exc_info=error)
    try:
        store.query(FAILED + " returning name", (view.name, reason))
    except (errors.EventsError, psycopg.Error, DatabaseError) as failure:
        log.warning("refresh of %s: cannot record the failure (%s)", view.name, failure)
    return Outcome(name=view.name, status="failed", error=reason)


def _reason(error: BaseException) -> str:
    """The first line of the driver's message where there is one: it names the timeout, table or privilege."""
    found: Any = error
    while found is not None and not isinstance(found, psycopg.Error):
        found = found.__cause__
    lines = str(found or error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
