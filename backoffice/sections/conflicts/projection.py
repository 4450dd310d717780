"""Writes events of conflicts into their read table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from backoffice import read_table
from backoffice.sections.conflicts import domain
from events import store, types
from events.types import NewEvent

INSERT_CONFLICTS = """
insert into conflicts (id, status, category, key, command_type, why, paths, reason, base_version, author, author_name,
       comments, created_at, version, updated_at)
select id, 'open', category, key, command_type, why, paths, reason, base_version, author, author_name,
       0, created_at, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(id uuid, category text, key text, command_type text, why text, paths jsonb,
       reason text, base_version bigint, author text, author_name text, created_at timestamptz, version bigint,
       updated_at timestamptz)
"""

COMMENTED = "update conflicts set comments = comments + 1, version = %s, updated_at = %s where id = %s"


def conflicts(events: Sequence[NewEvent]) -> None:
    """Updates the table `conflicts`."""
    for kind, batch in read_table.runs(events):
        if kind is domain.ConflictFiled:
            store.execute(INSERT_CONFLICTS, [msgspec.json.encode([_filed(event) for event in batch]).decode()])
            continue
        for event in batch:
            if kind is domain.ConflictCommented:
                store.execute(COMMENTED, [event.version, event.recorded_at, event.key])
            else:
                read_table.update("conflicts", event, _conflict_changes(event))


def _filed(event: NewEvent) -> dict[str, Any]:
    filed: Any = event.data
    return {
        "id": event.key,
        "category": types.category_of(filed.stream),
        "key": types.key_of(filed.stream),
        "command_type": filed.command["type"],
        "why": filed.why,
        "paths": filed.fields,
        "reason": filed.command.get("reason") or "",
        "base_version": filed.base_version,
        "author": filed.author,
        "author_name": filed.author_name or "",
        "created_at": filed.filed_at,
        "version": event.version,
        "updated_at": event.recorded_at,
    }


def _conflict_changes(event: NewEvent) -> dict[str, Any]:
    match event.data:
        case domain.ConflictAssigned(assignee=assignee):
            return {"assignee_id": assignee}
        case domain.ConflictResolved():
            return {"status": "resolved", "closed_at": event.recorded_at}
        case domain.ConflictDismissed():
            return {"status": "dismissed", "closed_at": event.recorded_at}
        case domain.ConflictReopened():
            return {"status": "open", "closed_at": None}
        case _:
            return {}
