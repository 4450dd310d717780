"""Common columns of read tables, and set-based statements that write events into them.

A projection runs inside the transaction that writes the events, and a rebuild calls the same function. It takes the
events of one category in stream order; a batch is one statement for each kind of event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec
from django.db import models
from django.utils.translation import gettext_lazy as _

from backoffice import values
from events import store
from events.types import NewEvent

# Conditions of the partial indexes for lists of living and of deleted records.
LIVE = models.Q(deleted_at=None)
DELETED = models.Q(deleted_at__isnull=False)


class Record(models.Model):
    """Base of read tables: the stream version of a row and the time when that version was recorded."""

    follows_log = True  # a standby may be read (`events.db.replica`)

    version = models.BigIntegerField(_("version"))
    updated_at = models.DateTimeField(_("updated at"))

    class Meta:
        abstract = True

    @property
    def is_erased(self) -> bool:
        """Returns whether the personal data of the row are erased."""
        return getattr(self, "erased_at", None) is not None


def runs(events: Sequence[NewEvent]) -> Iterable[tuple[type, list[NewEvent]]]:
    """Splits the events, in order, wherever the type changes, so that each part can be one statement."""
    return ((kind, list(batch)) for kind, batch in groupby(events, key=lambda event: type(event.data)))


def last_of_each(events: Sequence[NewEvent]) -> list[NewEvent]:
    return list({event.stream: event for event in events}.values())


def _nothing_more(_data: Any) -> dict[str, Any]:
    return {}


def rows(
    events: Sequence[NewEvent], key: str = "id", more: Callable[[Any], dict[str, Any]] = _nothing_more
) -> list[dict[str, Any]]:
    """Returns the row of each event: its fields, the key, version and time. `more` derives columns from an event."""
    found = []
    for event in events:
        row: dict[str, Any] = {name: getattr(event.data, name) for name in event.data.__struct_fields__}
        row |= {key: event.key, "version": event.version, "updated_at": event.recorded_at, **more(event.data)}
        found.append(row)
    return found


def insert_all(table: str, events: Sequence[NewEvent], more: Callable[[Any], dict[str, Any]] = _nothing_more) -> None:
    """Inserts a row for each event of one type, in one statement. Columns are called like the event's fields."""
    found = rows(events, more=more)
    columns = ", ".join(found[0])
    statement = f"""insert into {table} ({columns})
                    select {columns} from jsonb_populate_recordset(null::{table}, %s::jsonb)"""  # noqa: S608
    store.execute(statement, [to_json(found)])


def update_all(
    table: str,
    events: Sequence[NewEvent],
    unique: Sequence[str] = (),
    more: Callable[[Any], dict[str, Any]] = _nothing_more,
) -> None:
    """Writes the changes of all events; records with the same changed columns share one statement.

    Several changes of one value are reduced to the last one, except for `unique` columns: a value may pass from one
    record to another, and a statement checks each row as it is written. Those are written one by one, in order.
    """
    if len(events) == 1:
        update(table, events[0], values.given(events[0].data) | more(events[0].data))
        return
    together: dict[str, dict[str, Any]] = {}
    for event in events:
        row = values.given(event.data) | more(event.data)
        for name in [name for name in unique if name in row]:
            store.execute(f"update {table} set {name} = %s where id = %s", [row.pop(name), event.key])  # noqa: S608
        now = {"id": event.key, "version": event.version, "updated_at": event.recorded_at}
        together.setdefault(event.key, {}).update(row | now)
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in together.values():
        alike.setdefault(tuple(sorted(row)), []).append(row)
    for columns, batch in alike.items():
        settings = ", ".join(f"{name} = row.{name}" for name in columns if name != "id")
        statement = f"""update {table} set {settings} from jsonb_populate_recordset(null::{table}, %s::jsonb) row
                         where {table}.id = row.id"""  # noqa: S608
        store.execute(statement, [to_json(batch)])


def update(table: str, event: NewEvent, changes: dict[str, Any]) -> None:
    """Writes the changes of one event. Column names come from event classes, never from input."""
    row = {name: _parameter(value) for name, value in changes.items()}
    row |= {"version": event.version, "updated_at": event.recorded_at}
    columns = ", ".join(f"{name} = %s" for name in row)
    store.execute(f"update {table} set {columns} where id = %s", [*row.values(), event.key])  # noqa: S608


def to_json(value: Any) -> str:
    """Encodes rows, or the value of one column, as a JSON parameter."""
    return msgspec.json.encode(value).decode()


def _parameter(value: Any) -> Any:
    return to_json(value) if isinstance(value, list | dict) else value
