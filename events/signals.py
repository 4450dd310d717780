"""The one way up: told after commit what was recorded in this process. For truth, follow the log by position."""

from __future__ import annotations

from django.dispatch import Signal

# kwargs: events: list[NewEvent], position: int (the highest one of this transaction)
events_recorded = Signal()
