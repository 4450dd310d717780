"""The read table of settings."""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.utils.translation import gettext_lazy as _

from backoffice.read_table import Record
from backoffice.text import SearchText
from events.models import StoredJson


class Setting(Record):
    """A system setting: any JSON value under a name."""

    key = models.CharField(_("name"), max_length=100, primary_key=True)
    value = StoredJson(_("value"), null=True)

    class Meta:
        db_table = "settings"
        verbose_name = _("setting")
        verbose_name_plural = _("settings")
        ordering = ["key"]
        indexes = [
            # Search by words of three letters and more, and by shorter ones.
            GinIndex(OpClass(SearchText("key"), "gin_trgm_ops"), name="settings_words"),
            models.Index(OpClass(SearchText("key"), "text_pattern_ops"), name="settings_begins"),
        ]

    def __str__(self) -> str:
        return self.key
