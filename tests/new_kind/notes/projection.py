"""Writes events of notes into their read table."""

from __future__ import annotations

from collections.abc import Sequence

from backoffice import read_table
from backoffice.sections.notes import domain
from events.types import NewEvent


def notes(events: Sequence[NewEvent]) -> None:
    """Updates the table `notes`."""
    for kind, batch in read_table.runs(events):
        if kind is domain.NoteCreated:
            read_table.insert_all("notes", batch)
        elif kind is domain.NoteRestored:
            for event in batch:
                read_table.update("notes", event, {"deleted_at": None})
        else:
            read_table.update_all("notes", batch)
