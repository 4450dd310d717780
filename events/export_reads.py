"""Lets exports read from the standby of `DATABASE_READ_URL`, which spares the primary their many rows.

An export has no position that its reader has seen. It needs everything that was committed when it began, above all the
erasures: so it waits a moment until the standby has that, and reads from the primary otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from events import head
from events.db import replica

PATIENCE: Final = 1.0  # seconds for the standby to catch up, once
PAUSE: Final = 0.02

T = TypeVar("T")


class ExportReads:
    """The reads of one export, which begins now; they include everything that is committed."""

    def __init__(self) -> None:
        if not replica.configured():
            return
        self._epoch, self._position = replica.run_in(None, lambda: (head.epoch(), head.newest()))
        self._deadline = time.monotonic() + PATIENCE

    def run(self, read: Callable[[], T]) -> T:
        """Call `read`, which only reads: on the standby where it has enough, also inside of a transaction.

        It is called again, on the primary, where the standby fails.
        """
        if not replica.configured():
            return read()
        return replica.run_in(replica.Scope.ALL if self._standby_has_enough() else None, read)

    def _standby_has_enough(self) -> bool:
        while not replica.STANDBY.has(self._epoch, self._position):
            if replica.STANDBY.failed_lately() or time.monotonic() >= self._deadline:
                return False
            time.sleep(PAUSE)
        return True
