"""Writes events of settings into their read table."""

from __future__ import annotations

from collections.abc import Sequence

from backoffice import read_table
from backoffice.sections.site_settings import domain
from events import store
from events.types import NewEvent

UPSERT_SETTINGS = """
insert into settings (key, value, version, updated_at)
select key, value, version, updated_at
  from jsonb_to_recordset(%s::jsonb) as row(key text, value jsonb, version bigint, updated_at timestamptz)
on conflict (key) do update set value = excluded.value, version = excluded.version, updated_at = excluded.updated_at
"""


def settings(events: Sequence[NewEvent]) -> None:
    """Updates the table `settings`."""
    for kind, batch in read_table.runs(events):
        if kind is domain.SettingChanged:
            rows = read_table.rows(read_table.last_of_each(batch), key="key")
            store.execute(UPSERT_SETTINGS, [read_table.to_json(rows)])
        elif kind is domain.SettingRemoved:
            store.execute("delete from settings where key = any(%s)", [[event.key for event in batch]])
