"""Refuses rules that name channels which do not exist.

Only names that an event writes are checked: a rule whose channel was deleted afterwards can still be edited, and its
messages go to all channels (`planner`). Rules copied from another log are not checked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from backoffice import preconditions
from events import errors, store, types
from events.db import arrays
from events.types import NewEvent

KNOWN: Final = "select name from metrics_channel where deleted_at is null and name = any(%s)"


def demand_known(events: Sequence[NewEvent]) -> None:
    """Raises `InvalidCommand` when a rule names a channel that does not exist; an inline projection of rules."""
    if preconditions.is_waived("all"):
        return
    named = [_named(types.to_builtins(event.data)) for event in events]
    wanted = {name for fields in named for names in fields.values() for name in names}
    if not wanted:
        return
    known = {name for (name,) in store.query(KNOWN, (arrays.Texts(wanted),))}
    for fields in named:
        wrong = {field: missing for field, names in fields.items() if (missing := _first_missing(names, known))}
        if wrong:
            raise errors.InvalidCommand(
                fields={field: f"There is no channel named {name!r}." for field, name in wrong.items()}
            )


def _named(data: types.JsonDict) -> dict[str, list[str]]:
    """The channels that an event of a rule writes, by the field of the rule."""
    steps: list[dict[str, Any]] = data.get("escalation") or []
    escalation = [name for step in steps for name in step["channels"]]
    return {"channels": list(data.get("channels") or []), "escalation": escalation}


def _first_missing(names: Sequence[str], known: Collection[str]) -> str | None:
    return next((name for name in names if name not in known), None)
