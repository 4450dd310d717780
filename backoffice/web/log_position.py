"""Where the log stands when a page is made, so that its live feed begins exactly there."""

from __future__ import annotations

from typing import NamedTuple

from events import head


class Stamp(NamedTuple):
    epoch: str
    position: int


def now() -> Stamp:
    """Read it *before* the rows it is stamped on: an event in between is then sent twice, never lost."""
    return Stamp(head.epoch(), head.safe())
