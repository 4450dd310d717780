"""The personal-data export: all data about a user as one JSON document, for requests under GDPR, article 15.

The document is made in parts of about `BATCH` records, each from the place where the one before ended: so it can be
sent while it is made, however large it is, and made by a worker that may be interrupted (`export_jobs`).

    user         the current record and all its events
    forms        the forms they own, each with its events
    submissions  the submissions to these forms, form after form, each with its events
    conflicts    conflicts about any of these
    audit        exports like this one

Values are shown as on pages: erased ones are marked as erased, all others are readable.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import orjson
from django.db.models import F, Model, QuerySet, Value

from backoffice import models
from backoffice.listing.order import Beyond
from backoffice.sections.privacy import domain as privacy
from backoffice.sections.privacy import erasure
from events import store, types
from events.export_reads import ExportReads
from events.types import RecordedEvent

FORMAT: Final = "formease-person/1"
BATCH: Final = 500


class Place(msgspec.Struct, frozen=True):
    """The start of the next part: a list of the document, and the record after which it continues.

    after       creation time and id of that form or conflict
    submission  id of that submission to `form`
    """

    section: str
    form: uuid.UUID | None = None
    after: tuple[datetime, uuid.UUID] | None = None
    submission: uuid.UUID | None = None


class Part(msgspec.Struct, frozen=True):
    """A part of the document, the number of records in it, and where the next part begins; None: nowhere."""

    text: bytes
    records: int
    following: Place | None


def record(user_id: uuid.UUID, way: str) -> None:
    """Record that personal data were exported."""
    store.append(types.stream_name(privacy.CATEGORY, user_id), [privacy.PersonExported(way=way)])


def export(user: models.User, way: str) -> Iterator[bytes]:
    """Yields the document in parts, after recording the export. The caller has checked the requester's rights."""
    record(user.pk, way)
    return parts(user)


def parts(user: models.User) -> Iterator[bytes]:
    """Yields the document in parts."""
    reads, place = ExportReads(), None
    while True:
        made = part(user, place, reads)
        yield made.text
        place = made.following
        if place is None:
            return


def part(user: models.User, place: Place | None, reads: ExportReads) -> Part:
    """The part of the document that begins at `place`; None: the first one."""
    return reads.run(lambda: _part(user, place, reads.head))


def _part(user: models.User, place: Place | None, upto: int) -> Part:
    if place is None:
        stream = types.stream_name("user", user.pk)
        about = {"format": FORMAT, "head": upto, "user": _row(user), "events": _wires(store.read_stream(stream))}
        return Part(orjson.dumps(about)[:-1] + b',"forms":[', 1, Place("forms"))
    if place.section == "forms":
        forms = models.Form.objects.filter(user_id=user.pk)
        return _records("form", forms, place, b'],"submissions":[', Place("submissions"))
    if place.section == "submissions":
        return _submissions(user, place)
    if place.section == "conflicts":
        conflicts = models.Conflict.objects.filter(pk__in=erasure.conflicts_about(user))
        return _records("conflict", conflicts, place, b'],"audit":[', Place("audit"))
    audit = _wires(store.read_stream(types.stream_name(privacy.CATEGORY, user.pk)))
    return Part(b",".join(map(orjson.dumps, audit)) + b"]}\n", 0, None)


def _submissions(user: models.User, place: Place) -> Part:
    """The next submissions, of one form or of several small ones."""
    texts: list[bytes] = []
    records, following = 0, Place("conflicts")
    for form in _forms_from(user, place.form):
        rows = _submissions_after(form, place.submission if form == place.form else None, BATCH - records)
        texts += _texts("submission", rows)
        records += len(rows)
        if records == BATCH:
            following = Place("submissions", form, submission=rows[-1].pk)
            break
    text = b",".join(texts)
    if text and place.form is not None:
        text = b"," + text
    return Part(text if following.section == "submissions" else text + b'],"conflicts":[', records, following)


def _submissions_after(form: uuid.UUID, after: uuid.UUID | None, limit: int) -> list[models.Submission]:
    """The next submissions to a form, deleted ones too, in the order of their ids: along `submissions_form_all`."""
    rows = models.Submission.objects.filter(form_id=form)
    return list((rows if after is None else rows.filter(pk__gt=after)).order_by("pk")[:limit])


def _forms_from(user: models.User, form: uuid.UUID | None) -> list[uuid.UUID]:
    keys = models.Form.objects.filter(user_id=user.pk).order_by("id").values_list("pk", flat=True)
    return list(keys if form is None else keys.filter(pk__gte=form))


def _records(category: str, rows: QuerySet[Any], place: Place, end: bytes, then: Place) -> Part:
    """The next records of a list; `end` and `then` follow the last ones."""
    found = _rows_after(rows, place.after, BATCH)
    text = b",".join(_texts(category, found))
    if text and place.after is not None:
        text = b"," + text
    if len(found) == BATCH:
        return Part(text, len(found), Place(place.section, after=_key(found[-1])))
    return Part(text + end, len(found), then)


def _rows_after(rows: QuerySet[Any], after: tuple[datetime, uuid.UUID] | None, limit: int) -> list[Any]:
    """The next rows in the order of creation, along an index."""
    if after is not None:
        rows = rows.filter(Beyond([F("created_at"), F("id")], [Value(one) for one in after], less=False))
    return list(rows.order_by("created_at", "id")[:limit])


def _key(row: Any) -> tuple[datetime, uuid.UUID]:
    return row.created_at, row.pk


def _texts(category: str, rows: Sequence[Model]) -> list[bytes]:
    """Each row as JSON with its events, which are read with one statement."""
    by_key: dict[str, list[RecordedEvent]] = {}
    for event in store.read_streams([types.stream_name(category, row.pk) for row in rows]) if rows else ():
        by_key.setdefault(event.key, []).append(event)
    return [orjson.dumps({**_row(row), "events": _wires(by_key.get(str(row.pk), ()))}) for row in rows]


def _row(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def _wires(events: Iterable[RecordedEvent]) -> list[dict[str, Any]]:
    return [event.to_wire() for event in events]
