"""The read tables that can be rebuilt, and the progress of the latest rebuild of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from events import errors, store
from events.extension import Projection


class ReadTable(msgspec.Struct, frozen=True, kw_only=True):
    """A read table that can be rebuilt: its name, the category of its events, and its projection."""

    name: str
    category: str
    project: Projection


class SeededTables(msgspec.Struct, frozen=True, kw_only=True):
    """Tables of a subscription that are derived from read tables by SQL instead of from the log.

    build   (claim, seconds to try the swap): builds them beside the live ones under the claim, and swaps all at once
    tables  their names
    """

    name: str
    build: Callable[[Any, float], None]
    tables: tuple[str, ...]

    category: None = None  # no kind of record has them


class RebuildProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a rebuild. Positions are of the log.

    phase         new, building, indexing, catching up, swapped, done; or none when the table was never rebuilt
    seconds_left  None when it cannot be estimated
    unreadable    number of events skipped because this release cannot read them
    """

    name: str
    phase: str
    running: bool
    position: int = 0
    target: int = 0
    events: int = 0
    seconds_left: float | None = None
    owner: str | None = None
    started_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    resumed_at: datetime | None = None
    unreadable: int = 0


Rebuildable: TypeAlias = ReadTable | SeededTables

_tables: dict[str, Rebuildable] = {}


def register(table: Rebuildable) -> None:
    """Register a read table; called from `AppConfig.ready()`. Registering it again does nothing."""
    known = _tables.get(table.name)
    if known is not None and known != table:
        raise RuntimeError(f"two read tables are called {table.name!r}")
    _tables[table.name] = table


def tables() -> list[Rebuildable]:
    """All registered read tables, by name."""
    return [_tables[name] for name in sorted(_tables)]


def find(name: str) -> Rebuildable:
    """The read table of that name. Raises `RebuildRefused`."""
    if name not in _tables:
        raise errors.RebuildRefused(f"No read table is called {name!r}. Known: {', '.join(sorted(_tables))}.")
    return _tables[name]


def stored_in(table: Rebuildable) -> tuple[str, ...]:
    """The names of the tables in the database that belong to a registration."""
    return table.tables if isinstance(table, SeededTables) else (table.name,)


# -- swaps and refreshes ----------------------------------------------------------------------------------------------

# The advisory lock of a swap. Transactions that read the tables in one snapshot share it, a swap waits for them all:
# otherwise its attempts to lock a table would make readers wait for nothing.
SWAP_LOCK: Final = "(17782, 1)"
WAIT_FOR_SWAP_LOCK: Final = f"select pg_advisory_xact_lock{SWAP_LOCK}"
SHARE_SWAP_LOCK: Final = f"select pg_advisory_xact_lock_shared{SWAP_LOCK}"

ONE_SNAPSHOT: Final = "set transaction isolation level repeatable read"


def one_snapshot(tables: Sequence[str]) -> None:
    """Give the caller's transaction, which has run no query yet, one snapshot in which these tables stay in place.

    The locks come before the snapshot. After a swap that the snapshot does not see, the name would mean the new table,
    whose rows it does not see either: every read would find an empty table. The caller then takes `SHARE_SWAP_LOCK`.
    """
    store.execute(ONE_SNAPSHOT)
    store.execute(f"lock table {', '.join(tables)} in access share mode")


# -- progress ---------------------------------------------------------------------------------------------------------

ALIVE = "exists (select 1 from pg_stat_activity a where a.pid = r.pid and a.backend_start = r.backend_start)"

PROGRESS = f"""
select r.name, r.phase, {ALIVE} as running, r.position, r.target, r.events,
       extract(epoch from r.updated_at - r.resumed_at) * (r.target - r.position)
           / nullif(r.position - r.resumed_from, 0) as seconds_left,
       case when {ALIVE} then r.owner end as owner, r.started_at, r.updated_at, r.finished_at, r.error,
       r.resumed_at, r.unreadable
  from events_rebuild r
"""  # noqa: S608 - ALIVE is a constant


def progress() -> list[RebuildProgress]:
    """The latest rebuild of every read table."""
    names = RebuildProgress.__struct_fields__
    rows = {row[0]: RebuildProgress(**dict(zip(names, _plain(row), strict=True))) for row in store.query(PROGRESS)}
    return [rows.get(table.name, RebuildProgress(name=table.name, phase="none", running=False)) for table in tables()]


def _plain(row: Sequence[Any]) -> list[Any]:
    left = row[6]
    return [*row[:6], None if left is None else max(float(left), 0.0), *row[7:]]
