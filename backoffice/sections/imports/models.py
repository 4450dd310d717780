"""Digests that imports store of erased submissions."""

from __future__ import annotations

from django.db import models


class ImportSuppression(models.Model):
    """A keyed digest of values that identified an erased submission; see `imports.suppressions`.

    fields  the ids of the digested answers; empty for a digest of a single value
    """

    form_id = models.UUIDField()
    digest = models.BinaryField()
    fields = models.JSONField(default=list)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "import_suppressions"
        constraints = [models.UniqueConstraint(fields=["form_id", "digest"], name="import_suppressions_once")]

    def __str__(self) -> str:
        return str(self.form_id)
