"""Ending rebuilds from outside: cancelled by an operator, or because an erasure came after they began."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import psycopg
from django.db import transaction

from events import errors, store

# -- stopped from outside --------------------------------------------------------------------------------------------

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
    """Stop the rebuild of a table, whether its builder works or was killed: it finds its fence gone. What is built is
    kept, and the next rebuild goes on from there. False when there is nothing to stop, or it is past the swap.
    """
    for _ in range(CANCEL_ATTEMPTS):
        try:
            with transaction.atomic():
                store.execute(f"set local lock_timeout = '{CANCEL_LOCK_TIMEOUT}'")
                return bool(store.query(CANCEL, (name,)))
        except psycopg.errors.LockNotAvailable:
            store.query(INTERRUPT, (name,))  # a long statement, an index for instance, is not worth waiting for
    raise errors.RebuildRefused(f"The rebuild of {name} cannot be stopped just now; try again.")


# -- erasure --------------------------------------------------------------------------------------------------------

STOP = """
update events_rebuild
   set phase = 'new', position = 0, recipe = '', fence = fence + 1, error = 'ended by an erasure; start it again'
 where phase not in ('done', 'swapped') and started_at < %s returning name
"""

DISCARD = "select events_discard_copies(%s)"


def stop(before: datetime) -> int:
    """End rebuilds that were begun before an erasure: what they have copied may be what was erased. Builders at work
    find their fence gone.
    """
    return len(store.query(STOP, (before,)))


def discard(before: datetime) -> int:
    """Drop the copies of those rebuilds, and what a swap left; returns how many schemas went. Needs the owner's rights,
    or the one of `events.db.grants`.
    """
    gone: int = store.query(DISCARD, (before,))[0][0]
    return gone
