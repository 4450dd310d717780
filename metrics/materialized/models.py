"""The freshness of the materialized views."""

from __future__ import annotations

from django.db import models


class ViewFreshness(models.Model):
    """One row for each view, written in the transaction of its refresh.

    refreshed_at  the instant that the content describes; `position`: every event up to it is in the content
    checked_at    the last time that the content was known to be current: refreshed, or found unchanged
    number        counts refreshes, so that a cached answer can name the one it was made from
    differences   days on which the view and the counters differed; null when they were not compared
    error         of the last attempt, null after a success
    """

    name = models.TextField(primary_key=True)
    refreshed_at = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True)
    position = models.BigIntegerField(default=0)
    ms = models.FloatField(null=True)
    rows = models.BigIntegerField(null=True)
    number = models.BigIntegerField(default=0)
    differences = models.IntegerField(null=True)
    error = models.TextField(null=True)  # noqa: DJ001 - no error and an empty one differ
    failed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "metrics_view"
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
