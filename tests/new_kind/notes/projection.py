"""Events of notes into their read table."""

from __future__ import annotations

from collections.abc import Sequence

from backoffice import read_table
from backoffice.sections.notes import domain
from events import store
from events.types import NewEvent

INSERT_NOTES = """
insert into notes (id, title, text, created_at, version, updated_at)
select id, title, text, created_at, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(id uuid, title text, text text, created_at timestamptz, version bigint,
       updated_at timestamptz)
"""


def notes(events: Sequence[NewEvent]) -> None:
    """Keeps `notes`."""
    for kind, batch in read_table.runs(events):
        if kind is domain.NoteCreated:
            store.execute(INSERT_NOTES, [read_table.rows(batch)])
        else:
            read_table.update_all("notes", batch)
