"""The tables of the dashboard: the layout of each person, and the copies that people share."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models


class SavedLayout(models.Model):
    """The layout of one person. Without a row, or without a body, the default of the role applies.

    A reset keeps the row, so that a version never occurs twice: an old tab cannot mistake a new layout for its own.
    """

    person = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True)
    version = models.BigIntegerField()
    body = models.JSONField(null=True)
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "metrics_layout"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.person_id} v{self.version}"


class SharedLayout(models.Model):
    """A named copy of a layout. Everybody who has its address sees it with their own rights."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=80)
    body = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        db_table = "metrics_shared_layout"
        default_permissions = ()
        indexes = [models.Index("owner", "name", name="metrics_shared_layout_owner")]

    def __str__(self) -> str:
        return self.name
