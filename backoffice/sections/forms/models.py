"""The read table of forms."""

from __future__ import annotations

import uuid

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backoffice.read_table import DELETED, LIVE, Record
from backoffice.text import SearchText, sort_text
from events.models import StoredJson


class Form(Record):
    """A form that a user made; `fields` is a list of ``{id, type, label, help, required, options, page, …}``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        "backoffice.User",
        verbose_name=_("owner"),
        on_delete=models.DO_NOTHING,
        related_name="forms",
        db_index=False,
        db_constraint=False,
    )
    title = models.CharField(_("title"), max_length=300)
    description = models.TextField(_("description"), blank=True)
    fields = StoredJson(_("fields"), default=list, blank=True)
    archived = models.BooleanField(_("archived"), default=False)
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)
    erased_at = models.DateTimeField(_("erased at"), null=True, blank=True)

    class Meta:
        db_table = "forms"
        verbose_name = _("form")
        verbose_name_plural = _("forms")
        indexes = [
            # The list by date and by title.
            models.Index(F("created_at").desc(), F("id").desc(), name="forms_live_created", condition=LIVE),
            models.Index(sort_text("title"), F("id"), name="forms_live_title", condition=LIVE),
            # The list of deleted forms, in the same orders.
            models.Index(F("created_at").desc(), F("id").desc(), name="forms_deleted", condition=DELETED),
            models.Index(sort_text("title"), F("id"), name="forms_deleted_title", condition=DELETED),
            # A user's forms by date; all of them, because erasures and exports need the deleted ones too.
            models.Index("user", F("created_at").desc(), F("id").desc(), name="forms_user"),
            # A user's forms in use by date.
            models.Index(
                "user",
                F("created_at").desc(),
                F("id").desc(),
                name="forms_user_in_use",
                condition=LIVE & Q(archived=False),
            ),
            # Search by words of three letters and more, and by shorter ones.
            GinIndex(OpClass(SearchText("title"), "gin_trgm_ops"), name="forms_words"),
            models.Index(OpClass(SearchText("title"), "text_pattern_ops"), name="forms_title_begins"),
        ]

    def __str__(self) -> str:
        return gettext("Erased form") if self.erased_at else self.title
