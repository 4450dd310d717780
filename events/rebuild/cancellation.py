"""Ends running rebuilds: an operator cancels one, or an erasure makes its copy outdated."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import psycopg
from django.db import transaction

from events import errors, store
from events.rebuild import read_tables

# -- by an operator ---------------------------------------------------------------------------------------------------

CANCEL = """
update events_rebuild
   set fence = fence + 1, owner = null, pid = null, backend_start = null, error = 'cancelled',
       updated_at = clock_timestamp()
 where name = %s and phase not in ('swapped', 'done') and error is distinct from 'cancelled' returning name
"""

INTERRUPT = """
select pg_cancel_backend(r.pid) from events_rebuild r
  join pg_stat_activity a on a.pid = r.pid and a.backend_start = r.backend_start where r.name = %s
"""

CANCEL_ATTEMPTS: Final = 5
CANCEL_LOCK_TIMEOUT: Final = "1s"


def cancel(name: str) -> bool:
    """Cancel the rebuild of a table; a builder at work finds its fence outdated and stops.

    The copy is kept, and the next rebuild continues it. Returns False when there is nothing to cancel or the swap is
    done.
    """
    if name in _seeded():
        store.query(INTERRUPT, (name,))  # its one long transaction looks at the fence afterwards only
    for _ in range(CANCEL_ATTEMPTS):
        try:
            with transaction.atomic():
                store.execute(f"set local lock_timeout = '{CANCEL_LOCK_TIMEOUT}'")
                return bool(store.query(CANCEL, (name,)))
        except psycopg.errors.LockNotAvailable:
            store.query(INTERRUPT, (name,))  # interrupts a long statement, such as an index build
    raise errors.RebuildRefused(f"The rebuild of {name} cannot be stopped at the moment; try again.")


def _seeded() -> list[str]:
    return [table.name for table in read_tables.tables() if isinstance(table, read_tables.SeededTables)]


# -- by an erasure ----------------------------------------------------------------------------------------------------

STOP = """
update events_rebuild
   set phase = 'new', position = 0, recipe = '', fence = fence + 1, error = 'ended by an erasure; start it again'
 where phase not in ('done', 'swapped') and started_at < %s and name <> all(%s) returning name
"""

DISCARD = "select events_discard_copies(%s)"


def stop(before: datetime) -> int:
    """End rebuilds that began before an erasure: their copies may contain erased data. Returns how many.

    Builders at work find their fence outdated and stop. Seeded tables hold numbers only, so their rebuilds go on.
    """
    return len(store.query(STOP, (before, _seeded())))


def discard(before: datetime) -> int:
    """Drop the copies of rebuilds that `stop` ended, and the remains of swaps; returns the number of schemas.

    Needs the owner's rights, or the right from `events.db.grants`.
    """
    gone: int = store.query(DISCARD, (before,))[0][0]
    return gone
