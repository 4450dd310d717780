"""The read table of conflicts."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from backoffice.read_table import Record
from events.models import StoredJson


class Conflict(Record):
    """An edit that conflicts, as the inbox lists it. Its stream has the three versions."""

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        RESOLVED = "resolved", _("Resolved")
        DISMISSED = "dismissed", _("Discarded")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(_("status"), max_length=20, choices=Status.choices)
    category = models.CharField(_("kind of record"), max_length=40)
    key = models.CharField(_("record"), max_length=200)
    command_type = models.CharField(_("change"), max_length=80)
    why = models.CharField(_("why"), max_length=20)
    paths = StoredJson(_("fields"), default=list)
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    base_version = models.BigIntegerField(_("version it was based on"))
    author = models.CharField(_("author"), max_length=200)
    author_name = models.CharField(_("author"), max_length=200, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("assigned to"),
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="conflicts",
        db_constraint=False,
    )
    comments = models.IntegerField(_("comments"), default=0)
    created_at = models.DateTimeField(_("filed at"))
    closed_at = models.DateTimeField(_("resolved at"), null=True)

    class Meta:
        db_table = "conflicts"
        verbose_name = _("conflict")
        verbose_name_plural = _("conflicts")
        indexes = [
            models.Index("status", F("created_at").desc(), F("id").desc(), name="conflicts_status"),
            models.Index(F("created_at").desc(), F("id").desc(), name="conflicts_created"),
            models.Index("category", "key", name="conflicts_record"),
            models.Index("author", F("created_at").desc(), name="conflicts_author"),
        ]

    def __str__(self) -> str:
        return f"{self.category}-{self.key}"

    @property
    def stream(self) -> str:
        """The stream of the conflicting record."""
        return f"{self.category}-{self.key}"
