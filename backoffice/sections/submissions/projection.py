"""Writes events of submissions into their read table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backoffice import preconditions, read_table
from backoffice.sections.submissions import domain
from events import store
from events.db import arrays
from events.types import NewEvent

FORM_OPEN = "select backoffice_form_open(%s::uuid[], %s::boolean)"


def submissions(events: Sequence[NewEvent]) -> None:
    """Updates the table `submissions`."""
    for kind, batch in read_table.runs(events):
        if kind is domain.SubmissionReceived:
            read_table.insert_all("submissions", batch)
        elif kind is domain.SubmissionCorrected:
            read_table.update_all("submissions", batch)
        else:
            for event in batch:
                read_table.update("submissions", event, _submission_changes(event))


def _submission_changes(event: NewEvent) -> dict[str, Any]:
    match event.data:
        case domain.SubmissionDeleted():
            return {"deleted_at": event.recorded_at}
        case domain.SubmissionErased():
            return {"answers": domain.NO_ANSWERS}
        case _:
            return {}


def demand_open_form(events: Sequence[NewEvent]) -> None:
    """Requires that forms of new submissions accept submissions."""
    wanted = {event.data.form_id for event in events if isinstance(event.data, domain.SubmissionReceived)}
    if wanted and not preconditions.is_waived("all"):
        store.execute(FORM_OPEN, [arrays.Uuids(wanted), preconditions.is_waived("archived")])
