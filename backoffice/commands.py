"""The entry point of every write by staff and programs: admin, API, offline queue and ingestion dispatch here.

A conflict is filed in the inbox that a section declares (`section.Inbox`), in a transaction of its own after the
command's was rolled back, and raised with its `conflict_id`. The result is remembered: the same command sent again
returns the same conflict, even if the record or the conflict has changed since.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from backoffice import access, section
from events import commands, errors
from events.types import Command

# The version of the UUIDs that are derived from other data.
DERIVED_VERSION: Final = 5


def dispatch(
    command: Command,
    staff: Any,
    *,
    seen: Any = None,
    base_version: int | None = None,
    source: Any = None,
    derived: bool = False,
    filed: bool = True,
) -> commands.Result:
    """Executes a command for a person or program; a conflict is filed and raised as this person may see it.

    Raises the errors of `events.commands.dispatch`; a `Conflict` carries its `conflict_id`. `seen`, `base_version` and
    `source` describe changes that were queued offline: the state their author saw, the version below it, and the
    origin. `derived`: the command's id was not chosen by the client but derived from other data. `filed=False`: the
    conflict is raised without being filed, because no input can be lost.
    """
    if not derived:
        demand_chosen(command.id)
    try:
        return commands.dispatch(command, seen)
    except errors.Conflict as conflict:
        inbox = section.inbox()
        if not filed or inbox is None:
            raise
        if conflict.conflict_id is None:
            if base_version is not None:
                conflict.base_version = base_version
            conflict.conflict_id = inbox.file(command, conflict, source)
        raise redacted(staff, conflict) from conflict


def dispatch_overdue(command: Command, staff: Any, *, seen: Any, base_version: int, source: Any) -> commands.Result:
    """Files a command that was queued too long ago for review, or returns its result if it was executed before.

    A filed command raises `errors.Overdue` with its `conflict_id`. Without an inbox the command is executed.
    """
    demand_chosen(command.id)
    if known := commands.recalled(command):
        return known
    inbox = section.inbox()
    if inbox is None:
        return dispatch(command, staff, seen=seen, base_version=base_version, source=source)
    try:
        inbox.recall(command)
    except errors.Conflict as conflict:
        raise redacted(staff, conflict) from conflict
    raise redacted(staff, inbox.review(command, seen, base_version, source))


def demand_chosen(command_id: uuid.UUID) -> None:
    """Rejects ids of version 5 from clients. Raises `ReservedId`.

    Such ids are derived from data that others know as well (events of `ingest/`, rows of imports). A client that chose
    one could block the event or the row.
    """
    if command_id.version == DERIVED_VERSION:
        raise errors.ReservedId


def demand_reason(command: Command) -> None:
    """Requires a reason for an erasure, which is recorded. Raises `ReasonRequired`."""
    if command.type.endswith(".erase") and not (command.reason or "").strip():
        raise errors.ReasonRequired("Enter a reason: it stays readable after the erasure.")


def redacted(staff: Any, conflict: errors.Conflict) -> errors.Conflict:
    """Returns a conflict without the fields that this person may not see."""
    names = ("stream", "base", "theirs", "mine", "fields", "conflicts")
    shown = access.redact_conflict(access.role_of(staff), {name: getattr(conflict, name) for name in names})
    return type(conflict)(
        stream=conflict.stream,
        base_version=conflict.base_version,
        version=conflict.version,
        base=shown.get("base", {}),
        theirs=shown.get("theirs", {}),
        mine=shown.get("mine", {}),
        fields=shown.get("fields", []),
        conflicts=shown.get("conflicts", []),
        conflict_id=conflict.conflict_id,
    )
