"""The read table of submissions."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models import F
from django.utils.translation import gettext_lazy as _

from backoffice.read_table import DELETED, LIVE, Record
from backoffice.sections.submissions import domain
from events import errors, types
from events.models import StoredJson


class Submission(Record):
    """A submission to a form; `answers` maps field ids to values, `completion_time` is in seconds."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    form = models.ForeignKey(
        "backoffice.Form",
        verbose_name=_("form"),
        on_delete=models.DO_NOTHING,
        related_name="submissions",
        db_index=False,
        db_constraint=False,
    )
    answers = StoredJson(_("answers"), default=dict)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    completion_time = models.FloatField(_("completion time"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)

    class Meta:
        db_table = "submissions"
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        indexes = [
            # The list by date.
            models.Index(F("created_at").desc(), F("id").desc(), name="submissions_live_created", condition=LIVE),
            # The list of deleted submissions.
            models.Index(
                F("created_at").desc(),
                F("id").desc(),
                name="submissions_deleted",
                condition=DELETED,
            ),
            # A form's submissions by date: however many were deleted, a page reads no deleted one.
            models.Index(
                "form",
                F("created_at").desc(),
                F("id").desc(),
                name="submissions_form_live",
                condition=LIVE,
            ),
            # All submissions of a form: erasures and imports need the deleted ones too.
            models.Index("form", "id", name="submissions_form_all"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @classmethod
    def form_of(cls, key: str) -> Any:
        """Returns the form of a submission whose events do not name it, from its row.

        Raises `UnreadableEvent` if the row does not name it either, because the key of the answers is then unknown.
        """
        found = cls._default_manager.filter(pk=key).values_list("form_id", flat=True).first()
        if found is None:
            raise errors.UnreadableEvent("not_json", types.stream_name("submission", key))
        return found

    @property
    def is_erased(self) -> bool:
        return bool(self.answers == domain.NO_ANSWERS)
