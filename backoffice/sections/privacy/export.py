"""Exports all data about a user as one JSON document, for requests under GDPR, article 15.

The document is written in pieces, so that its size does not matter. Values are shown as on pages: erased ones are
marked as erased, all others are readable. The export is recorded as an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson
from django.db.models import Model

from backoffice import models
from backoffice.sections.privacy import domain as privacy
from backoffice.sections.privacy import erasure
from events import head, store, types
from events.types import RecordedEvent

FORMAT: Final = "formease-person/1"
BATCH: Final = 500


def export(user: models.User, way: str) -> Iterator[bytes]:
    """Yields the document in pieces, after recording the export. The caller has checked the requester's rights."""
    store.append(types.stream_name(privacy.CATEGORY, user.pk), [privacy.PersonExported(way=way)])
    return pieces(user)


def pieces(user: models.User) -> Iterator[bytes]:
    """Yields the parts of the document.

    user         the current record and all its events
    forms        the forms they own, each with its events
    submissions  the submissions to these forms, each with its events
    conflicts    conflicts about any of these
    audit        exports like this one
    """
    stream = types.stream_name("user", user.pk)
    about = {"format": FORMAT, "head": head.safe(), "user": _row(user), "events": _wires(store.read_stream(stream))}
    yield orjson.dumps(about)[:-1]
    forms = models.Form.objects.filter(user_id=user.pk).order_by("created_at", "id")
    yield from _array("forms", _with_events("form", forms.iterator(BATCH)))
    answered = models.Submission.objects.filter(form__user_id=user.pk).order_by("created_at", "id")
    yield from _array("submissions", _with_events("submission", answered.iterator(BATCH)))
    conflicts = models.Conflict.objects.filter(pk__in=erasure.conflicts_about(user)).order_by("created_at", "id")
    yield from _array("conflicts", _with_events("conflict", conflicts.iterator(BATCH)))
    yield from _array("audit", _wires(store.read_stream(types.stream_name(privacy.CATEGORY, user.pk))))
    yield b"}\n"


def _array(name: str, items: Iterable[Any]) -> Iterator[bytes]:
    yield b',"%s":[' % name.encode()
    for number, item in enumerate(items):
        yield (b"," if number else b"") + orjson.dumps(item)
    yield b"]"


def _with_events(category: str, rows: Iterable[Model]) -> Iterator[dict[str, Any]]:
    """Yields rows with their events, which are read in batches."""
    for some in _chunks(rows):
        by_key: dict[str, list[RecordedEvent]] = {}
        for event in store.read_streams([types.stream_name(category, row.pk) for row in some]):
            by_key.setdefault(event.key, []).append(event)
        for row in some:
            yield {**_row(row), "events": _wires(by_key.get(str(row.pk), ()))}


def _chunks(rows: Iterable[Model]) -> Iterator[list[Model]]:
    some: list[Model] = []
    for row in rows:
        some.append(row)
        if len(some) == BATCH:
            yield some
            some = []
    if some:
        yield some


def _row(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def _wires(events: Sequence[RecordedEvent]) -> list[dict[str, Any]]:
    return [event.to_wire() for event in events]
