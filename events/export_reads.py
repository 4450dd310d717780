"""Lets exports read from the standby of `DATABASE_READ_URL`, which spares the primary their many rows.

An export has no position that its reader has seen. It needs everything that was committed when it began, above all the
erasures with their purges: so it waits a moment until the standby has replayed that, and reads from the primary
otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from events import head, store
from events.db import replica

PATIENCE: Final = 1.0  # seconds for the standby to catch up, once
PAUSE: Final = 0.02

# Commits are seen once they are flushed, except for those that do not wait for that: checkpoints of subscriptions.
FLUSHED: Final = "select pg_current_wal_flush_lsn()::text"

T = TypeVar("T")


class ExportReads:
    """The reads of one export, which begins now; they include everything that is committed.

    head    the safe head at its beginning; the reads include every event up to it
    """

    def __init__(self) -> None:
        self.head, self._epoch, self._location = replica.run_in(None, _beginning)
        self._deadline = time.monotonic() + PATIENCE

    def run(self, read: Callable[[], T]) -> T:
        """Call `read`, which only reads: on the standby where it has enough, also inside of a transaction.

        It is called again, on the primary, where the standby fails.
        """
        return replica.run_in(replica.Scope.ALL if self._standby_has_enough() else None, read)

    def _standby_has_enough(self) -> bool:
        while replica.configured():
            follows, complete = replica.STANDBY.replayed(self._epoch, self._location)
            if complete or not follows or time.monotonic() >= self._deadline:
                return complete
            time.sleep(PAUSE)
        return False


def _beginning() -> tuple[int, str, str]:
    """The safe head, the epoch, and the location in the WAL, which is read last: it is behind all up to the head."""
    upto = head.safe()
    return (upto, head.epoch(), store.query(FLUSHED)[0][0]) if replica.configured() else (upto, "", "")
