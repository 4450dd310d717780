"""Inline projections: read tables kept inside the transaction that writes the events.

`extension.project_inline` registers them by category. Each gets the new events of its category as a list in stream
order, so that an import of a thousand is a few statements, and a single command runs the same code with a list of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from events import extension
from events.types import NewEvent, category_of


def project(events: Iterable[NewEvent]) -> None:
    """Run the inline projections over new events. An exception ends the transaction: nothing is half-written."""
    for category, batch in groupby(events, key=lambda event: category_of(event.stream)):
        projections = extension.inline_projections.get(category, ())
        listed = list(batch) if projections else []
        for projection in projections:
            projection(listed)
