"""Writes events of forms into their read table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backoffice import preconditions, read_table
from backoffice.sections.forms import domain
from events import store
from events.db import arrays
from events.types import NewEvent

OWNER_LIVING = "select backoffice_owner_living(%s::uuid[])"


def forms(events: Sequence[NewEvent]) -> None:
    """Updates the table `forms`."""
    for kind, batch in read_table.runs(events):
        if kind is domain.FormCreated:
            read_table.insert_all("forms", batch, more=_not_archived)
        elif kind is domain.FormUpdated:
            read_table.update_all("forms", batch)
        else:
            for event in batch:
                read_table.update("forms", event, _form_changes(event.data))


def _not_archived(_event: object) -> dict[str, Any]:
    return {"archived": False}


def _form_changes(event: object) -> dict[str, Any]:
    match event:
        case domain.FormDeleted():
            return {"deleted_at": event.deleted_at}
        case domain.FormRestored():
            return {"deleted_at": None}
        case domain.FormErased():
            return domain.PERSONAL | {"deleted_at": event.deleted_at, "erased_at": event.erased_at}
        case _:
            return {}


def demand_living_owner(events: Sequence[NewEvent]) -> None:
    """Requires that owners of new forms are not deleted."""
    owners = {event.data.user_id for event in events if isinstance(event.data, domain.FormCreated)}
    if owners and not preconditions.is_waived("all"):
        store.execute(OWNER_LIVING, [arrays.Uuids(owners)])
