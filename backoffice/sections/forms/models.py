"""The read table of forms."""

from __future__ import annotations

import uuid

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F
from django.db.models.functions import Upper
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backoffice.read_table import Record
from backoffice.text import Composed
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
            models.Index(F("created_at").desc(), F("id").desc(), name="forms_created"),
            models.Index("user", "created_at", name="forms_user_created"),
            models.Index("title", "id", name="forms_title"),
            GinIndex(OpClass(Upper(Composed("title")), "gin_trgm_ops"), name="forms_search"),
        ]

    def __str__(self) -> str:
        return gettext("Erased form") if self.erased_at else self.title
