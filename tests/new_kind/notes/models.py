"""The read table of notes."""

from __future__ import annotations

import uuid

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from backoffice.read_table import Record
from backoffice.text import SearchText


class Note(Record):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    title = models.CharField(_("title"), max_length=300)
    text = models.TextField(_("text"), blank=True)
    pinned = models.BooleanField(_("pinned"))
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)

    class Meta:
        db_table = "notes"
        verbose_name = _("note")
        verbose_name_plural = _("notes")
        indexes = [
            models.Index(F("created_at").desc(), F("id").desc(), name="notes_created"),
            GinIndex(OpClass(SearchText("title"), "gin_trgm_ops"), name="notes_words"),
            models.Index(OpClass(SearchText("title"), "text_pattern_ops"), name="notes_title_begins"),
        ]

    def __str__(self) -> str:
        return self.title
