"""The log position at which a page was rendered; its live feed starts there."""

from __future__ import annotations

from typing import NamedTuple

from events import head
from events.db import replica


class Stamp(NamedTuple):
    epoch: str
    position: int


def now() -> Stamp:
    """Returns epoch and position. Call it *before* reading the rows: an event in between is sent twice, never lost."""
    stamp = Stamp(head.epoch(), head.safe())
    replica.show(stamp.position)
    return stamp
