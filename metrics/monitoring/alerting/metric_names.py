"""Refuses rules about metrics that do not exist: they would never fire.

Only names that an event writes are checked, so that a rule about a metric of an earlier release can still be edited.
"""

from __future__ import annotations

from collections.abc import Sequence

from backoffice import preconditions
from events import errors, types
from events.types import NewEvent
from metrics.monitoring import metric_types


def demand_known(events: Sequence[NewEvent]) -> None:
    """Raises `InvalidCommand` when a rule judges an unknown metric; an inline projection of rules."""
    if preconditions.is_waived("all"):
        return
    for event in events:
        data = types.to_builtins(event.data)
        wrong = {field: name for field in ("metric", "per") if (name := data.get(field)) and not _is_known(name)}
        if wrong:
            raise errors.InvalidCommand(
                fields={field: f"There is no metric named {name!r}." for field, name in wrong.items()}
            )


def _is_known(name: str) -> bool:
    found = metric_types.METRICS.get(name)
    return found is not None and found.kind != "retired"
