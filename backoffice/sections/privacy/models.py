"""Personal-data exports that a worker makes, and their parts."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F


class PersonExport(models.Model):
    """An export of all data about a user; see `privacy.export_jobs`.

    secret   the key that encrypts its parts, wrapped by the master key `key_id`
    place    where the next part begins (`export.Place`); null: at the beginning
    records  in the parts so far, of about `expected`
    bytes    length of the document so far
    error    the kind of error that interrupted the worker last; empty when it went on
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user_id = models.UUIDField()
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=200)
    key_id = models.TextField()
    secret = models.BinaryField()
    place = models.JSONField(null=True)
    parts = models.IntegerField(default=0)
    records = models.BigIntegerField(default=0)
    expected = models.BigIntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        db_table = "person_exports"
        indexes = [models.Index("user_id", F("requested_at").desc(), name="person_exports_user")]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def percent(self) -> int:
        return min(99, 100 * self.records // self.expected) if self.expected else 0


class PersonExportPart(models.Model):
    """A part of an export: compressed, then encrypted with the export's key."""

    id = models.BigAutoField(primary_key=True)
    export = models.ForeignKey(PersonExport, on_delete=models.CASCADE, db_index=False, db_constraint=False)
    number = models.IntegerField()
    content = models.BinaryField()

    class Meta:
        db_table = "person_export_parts"
        constraints = [models.UniqueConstraint(fields=["export", "number"], name="person_export_parts_once")]

    def __str__(self) -> str:
        return f"{self.export_id} {self.number}"
