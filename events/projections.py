"""Inline projections: read tables kept inside the transaction that writes the events.

One visible table, category -> functions. Each gets the new events of its category as a list in stream order, so that an
import of a thousand is a few statements, and a single command the same code with a list of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

from events.types import NewEvent, category_of

Projection: TypeAlias = Callable[[Sequence[NewEvent]], None]

_inline: dict[str, list[Projection]] = {}


def inline(category: str, projection: Projection) -> None:
    """Have `projection` called with the events of `category` before they are appended. Registering twice is once."""
    known = _inline.setdefault(category, [])
    if projection not in known:
        known.append(projection)


def project(events: Iterable[NewEvent]) -> None:
    """Run the inline projections over new events. What they raise ends the transaction: nothing is half-written."""
    for category, batch in groupby(events, key=lambda event: category_of(event.stream)):
        projections = _inline.get(category, ())
        listed = list(batch) if projections else []
        for projection in projections:
            projection(listed)
