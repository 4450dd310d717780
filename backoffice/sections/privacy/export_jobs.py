"""Makes large personal-data exports in a worker: requested on a page, kept encrypted for a week, then deleted.

    1  request   a row with a key of its own, wrapped by the master key; then a task
    2  advance   one transaction: lock the row, make the next part from its place, store it, move the place
    3  finished  the page offers the file; each download is recorded

A worker that dies is replaced: the task is delivered again, and `resume` runs every minute. A worker leaves an export
to another one that is at it. An erasure of the person, of a form or of a submission deletes the person's exports.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import transaction
from django.utils import timezone

from backoffice import models
from backoffice.sections.privacy import erasure, export
from backoffice.sections.privacy.models import PersonExport, PersonExportPart
from events import context, jobs, store, types
from events.db import arrays
from events.export_reads import ExportReads
from events.privacy import key_witness, master_keys

TASK: Final = "backoffice.sections.privacy.tasks.make_export"
DIRECT: Final = 2_000  # records that a request exports itself
KEPT: Final = timedelta(days=7)
SILENT: Final = timedelta(minutes=2)  # without a part, a worker counts as lost
NONCE: Final = master_keys.NONCE


# -- 1 request --------------------------------------------------------------------------------------------------------


def is_large(user: models.User) -> bool:
    """True when a worker should make the export. Counts no more rows than decide it."""
    forms = models.Form.objects.filter(user_id=user.pk)
    submissions = models.Submission.objects.filter(form__in=forms.values("pk"))
    return (
        len(submissions.values_list("pk")[: DIRECT + 1]) > DIRECT or len(forms.values_list("pk")[: DIRECT + 1]) > DIRECT
    )


def request(user: models.User) -> PersonExport:
    """Record the export and have a worker make it; an unfinished export of this person is continued instead.

    Raises `QueueUnavailable`: then it is made once the queue is back.
    """
    key_witness.prove()
    export.record(user.pk, "admin")
    wanted = PersonExport.objects.filter(user_id=user.pk, finished_at=None).first() or _new(user)
    jobs.send(TASK, str(wanted.pk))
    return wanted


def _new(user: models.User) -> PersonExport:
    key, now, affected = uuid.uuid4(), timezone.now(), erasure.affected_data(user)
    key_id, secret = master_keys.wrap(_name(key), AESGCM.generate_key(256))
    return PersonExport.objects.create(
        id=key,
        user_id=user.pk,
        requested_at=now,
        requested_by=context.current().actor,
        key_id=key_id,
        secret=secret,
        expected=1 + affected.forms + affected.submissions + affected.conflicts,
        updated_at=now,
    )


def _name(key: uuid.UUID) -> str:
    return f"person-export-{key}"


# -- 2 advance --------------------------------------------------------------------------------------------------------


def make(key: uuid.UUID) -> None:
    """Make all parts that are missing; for the task."""
    reads = ExportReads()
    try:
        while advance(key, reads):
            pass
    except Exception as error:
        PersonExport.objects.filter(pk=key).update(error=type(error).__name__, updated_at=timezone.now())
        raise


def advance(key: uuid.UUID, reads: ExportReads) -> bool:
    """Make the next part; False when there is none, the export was deleted, or another worker is at it."""
    with transaction.atomic():
        row = PersonExport.objects.select_for_update(skip_locked=True).filter(pk=key, finished_at=None).first()
        user = None if row is None else models.User.objects.filter(pk=row.user_id).first()
        if row is None or user is None:
            return False
        made = export.part(user, None if row.place is None else msgspec.convert(row.place, export.Place), reads)
        content = _encrypted(row, row.parts, made.text)
        PersonExportPart.objects.create(export=row, number=row.parts, content=content)
        row.parts += 1
        row.records += made.records
        row.bytes += len(made.text)
        row.place = None if made.following is None else msgspec.to_builtins(made.following)
        row.updated_at, row.error = timezone.now(), ""
        row.finished_at = row.updated_at if made.following is None else None
        row.save()
    return made.following is not None


def resume() -> int:
    """Send tasks for exports whose worker was lost, and delete old ones; returns how many tasks."""
    now = timezone.now()
    delete(PersonExport.objects.filter(requested_at__lt=now - KEPT).values_list("pk", flat=True))
    lost = PersonExport.objects.filter(finished_at=None, updated_at__lt=now - SILENT).values_list("pk", flat=True)
    return len(jobs.send_again([(TASK, [str(key)]) for key in lost]))


# -- 3 finished -------------------------------------------------------------------------------------------------------


def of(user_id: uuid.UUID) -> list[PersonExport]:
    """The exports of a person, newest first."""
    return list(PersonExport.objects.filter(user_id=user_id).order_by("-requested_at"))


def find(user_id: uuid.UUID, key: uuid.UUID) -> PersonExport | None:
    return PersonExport.objects.filter(user_id=user_id, pk=key).first()


DELETE: Final = "delete from person_exports where id = any(%s) returning id"

PARTS_OF: Final = "delete from person_export_parts where export_id = any(%s::uuid[])"


def delete(keys: Iterable[uuid.UUID]) -> None:
    """Delete exports with their parts, the row first: that waits for a worker, which then makes no further part."""
    with transaction.atomic():
        gone = [str(key) for (key,) in store.query(DELETE, (arrays.Uuids(keys),))]
        store.execute(PARTS_OF, (gone,))


def download(row: PersonExport) -> Iterator[bytes]:
    """Yields the parts of a finished export, after recording that it is downloaded. Raises `MasterKeyMissing`."""
    cipher = _cipher(row)
    export.record(row.user_id, "download")
    return (_decrypted(row, cipher, number) for number in range(row.parts))


def _cipher(row: PersonExport) -> AESGCM:
    return AESGCM(master_keys.unwrap(_name(row.pk), row.key_id, bytes(row.secret)))


def _encrypted(row: PersonExport, number: int, text: bytes) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + _cipher(row).encrypt(nonce, zlib.compress(text, 6), _bound_to(row, number))


def _decrypted(row: PersonExport, cipher: AESGCM, number: int) -> bytes:
    stored = bytes(PersonExportPart.objects.values_list("content", flat=True).get(export=row, number=number))
    return zlib.decompress(cipher.decrypt(stored[:NONCE], stored[NONCE:], _bound_to(row, number)))


def _bound_to(row: PersonExport, number: int) -> bytes:
    return f"{row.pk} {number}".encode()


# -- erasures ---------------------------------------------------------------------------------------------------------

OF_SUBJECTS: Final = """
delete from person_exports where user_id in (
    select unnest(%(users)s::uuid[])
    union all select user_id from forms where id = any(%(forms)s::uuid[])
    union all select f.user_id from submissions s join forms f on f.id = s.form_id
               where s.id = any(%(submissions)s::uuid[]))
returning id
"""


def purge(subjects: Sequence[str], _limit: int) -> int:
    """Deletes the exports that contain data of these subjects (`events.extension.Purger`).

    It runs before the answers are purged, because that takes long, and after it.
    """
    keys: dict[str, list[str]] = {"user": [], "form": [], "submission": []}
    for subject in subjects:
        keys.get(types.category_of(subject), []).append(types.key_of(subject))
    wanted: dict[str, Any] = {"users": keys["user"], "forms": keys["form"], "submissions": keys["submission"]}
    gone = [str(key) for (key,) in store.query(OF_SUBJECTS, wanted)]
    store.execute(PARTS_OF, (gone,))
    return len(gone)
