"""Events as rows: action, record, actor, and the data that a person may see."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from django.urls import reverse

from backoffice import access, section
from backoffice.section import Kind
from backoffice.web import actors, diffs, timeline
from events import head, search
from events.types import RecordedEvent


class AboutRecord(Protocol):
    """An event, or another object that names a record."""

    @property
    def stream(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def key(self) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRow:
    """An event as a row: action, record with its owner, actor, and its data as this person may see it."""

    event: RecordedEvent
    actor: actors.Actor
    verb: Any
    icon: str
    kind: Any
    link: str | None
    record: str | None
    data: dict[str, Any]
    name: str
    owner: str
    brief: str


def topics_of(staff: Any) -> list[str]:
    """Returns the topics of records that this person may subscribe to."""
    return [kind.topic for kind in section.kinds() if access.may(staff, "view", kind.category)]


def latest(staff: Any, limit: int) -> list[EventRow]:
    """Returns the newest events about records that this person may see, for the overview."""
    categories = tuple(kind.category for kind in section.kinds() if access.may(staff, "view", kind.category))
    found = search.find(search.Query(categories=categories), upto=head.safe(), limit=limit)
    return rows(found.events, staff)


def rows(events: Sequence[RecordedEvent], staff: Any) -> list[EventRow]:
    """Returns events as this person may see them; their records are read together, with one query for each kind."""
    labels = _labels(events, staff)
    return [_row(event, staff, *labels.get(event.stream, UNKNOWN)) for event in events]


def _row(event: RecordedEvent, staff: Any, name: str, owner: str) -> EventRow:
    kind = section.find(event.category)
    data = access.redact(staff, event.category, event.data)
    verb, icon = timeline.verb_of(event.type)
    link = record = None
    if kind and access.may(staff, "view", event.category):
        link = reverse(kind.url("history"), args=[event.key])
        record = reverse(kind.url("change"), args=[event.key])
    return EventRow(
        event=event,
        actor=actors.author(event),
        verb=verb,
        icon=icon,
        kind=kind.singular if kind else event.category,
        link=link,
        record=record,
        data=data,
        name=name,
        owner=owner,
        brief=_summary(kind, data),
    )


def names_of(events: Iterable[AboutRecord], staff: Any) -> dict[str, str]:
    """Returns stream -> record name, with one query for each kind of record."""
    return {stream: name for stream, (name, _) in _labels(events, staff).items()}


UNKNOWN: Final = ("", "")


def _labels(events: Iterable[AboutRecord], staff: Any) -> dict[str, tuple[str, str]]:
    """Returns stream -> (record name, name of its owner), with one query for each kind of record."""
    keys: dict[str, set[str]] = {}
    for event in events:
        keys.setdefault(event.category, set()).add(event.key)
    labels: dict[str, tuple[str, str]] = {}
    for category, wanted in keys.items():
        kind = section.find(category)
        if kind is None:
            continue
        if not kind.is_uuid_keyed:  # a key that a person chose is the name, also of a removed record
            labels |= {f"{category}-{key}": (key, "") for key in wanted}
            continue
        rows = kind.model._default_manager.select_related(*kind.related, *kind.owner_related).defer(*kind.heavy)
        for row in rows.filter(pk__in=_uuids(wanted)):
            labels[f"{category}-{row.pk}"] = (kind.title(row, staff), kind.owner(row, staff))
    return labels


def _uuids(keys: Iterable[str]) -> list[uuid.UUID]:
    """Returns the keys that are UUIDs; the log may contain others."""
    found = []
    for key in keys:
        with contextlib.suppress(ValueError):
            found.append(uuid.UUID(key))
    return found


def _summary(kind: Kind | None, data: Mapping[str, Any]) -> str:
    """Summarises the data on one line, without values that the row already shows."""
    shown_elsewhere = {
        "created_at",
        "deleted_at",
        *(kind.references if kind else ()),
        *(kind.automatic if kind else ()),
    }
    parts = []
    for name, value in data.items():
        if name in shown_elsewhere or value in (None, ""):
            continue
        if kind and name in kind.summaries:
            parts.append(kind.summaries[name](value))
            continue
        words = diffs.shown(kind, name, value)[:60]
        names_itself = isinstance(value, list | dict) and (kind is None or name in kind.formats)
        parts.append(words if names_itself else f"{kind.label(name) if kind else name.replace('_', ' ')} {words}")
    return ", ".join(parts)[:200]
