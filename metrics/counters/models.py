"""The tables of the counters. Only `applying` writes them, in the transaction that moves the checkpoint.

Readers use `UserStats` and `DayStats`; `FormStats` and `FormHour` contain the numbers for deriving them.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F


class Numeric(models.Field):  # type: ignore[type-arg]
    """PostgreSQL's `numeric` without a limit of digits, which `DecimalField` lacks."""

    def db_type(self, connection: Any) -> str:
        return "numeric"


class FormStats(models.Model):
    """One form: living submissions, and the time of the last one.

    `user_id` is null while `form.created` is parked; `submissions` until the first seed counts an old form.
    """

    form_id = models.UUIDField(primary_key=True)
    user_id = models.UUIDField(null=True)
    alive = models.BooleanField(db_default=True)
    submissions = models.BigIntegerField(null=True, db_default=0)
    last_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "metrics_form_stats"
        default_permissions = ()
        # Forms of a user; the sorts of the list of forms. The latter cost heap-only updates: a tenth of the throughput
        # (`python -m benchmarks counters`).
        indexes = [
            models.Index("user_id", name="metrics_form_stats_user"),
            models.Index(F("submissions").desc(), F("form_id").desc(), name="metrics_form_submissions"),
            models.Index(F("last_at"), F("form_id"), name="metrics_form_last"),
        ]

    def __str__(self) -> str:
        return str(self.form_id)


class FormHour(models.Model):
    """Living submissions of a form within one hour (UTC), from `CountersState.kept_from` on."""

    pk = models.CompositePrimaryKey("form_id", "hour")
    form_id = models.UUIDField()
    hour = models.DateTimeField()
    n = models.BigIntegerField()

    class Meta:
        db_table = "metrics_form_hours"
        default_permissions = ()
        indexes = [models.Index("hour", name="metrics_form_hours_hour")]

    def __str__(self) -> str:
        return f"{self.form_id} {self.hour}"


class UserStats(models.Model):
    """One user: living forms, their living submissions, those since `CountersState.recent_from`, the last one.

    `alive` is null while `user.created` is parked; the counts until the first seed counts an old user.
    """

    user_id = models.UUIDField(primary_key=True)
    alive = models.BooleanField(null=True)
    form_count = models.BigIntegerField(null=True, db_default=0)
    submission_count = models.BigIntegerField(null=True, db_default=0)
    recent = models.BigIntegerField(null=True, db_default=0)
    last_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "metrics_user_stats"
        default_permissions = ()
        # The sorts of the list of users, both directions.
        indexes = [
            models.Index(F("form_count").desc(), F("user_id").desc(), name="metrics_user_forms"),
            models.Index(F("submission_count").desc(), F("user_id").desc(), name="metrics_user_submissions"),
            models.Index(F("recent").desc(), F("user_id").desc(), name="metrics_user_recent"),
        ]

    def __str__(self) -> str:
        return str(self.user_id)


class DayStats(models.Model):
    """One day (UTC). Creations are facts and stay; deleted submissions are subtracted.

    `timed` of the submissions have a completion time, `seconds` in total: `numeric`, because sums of binary fractions
    do not cancel.
    """

    day = models.DateField(primary_key=True)
    users_created = models.BigIntegerField(db_default=0)
    forms_created = models.BigIntegerField(db_default=0)
    unique_users = models.BigIntegerField(db_default=0)
    submissions = models.BigIntegerField(db_default=0)
    timed = models.BigIntegerField(db_default=0)
    seconds = Numeric(db_default=0)

    class Meta:
        db_table = "metrics_day_stats"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.day)


class DayOwner(models.Model):
    """A user who created a form on that day."""

    pk = models.CompositePrimaryKey("day", "user_id")
    day = models.DateField()
    user_id = models.UUIDField()

    class Meta:
        db_table = "metrics_day_owners"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.day} {self.user_id}"


class CountersState(models.Model):
    """The one row that handler, sweep and swap lock first: bounds of the moving windows, and the totals.

    recent_from    a full hour: submissions since then are `UserStats.recent`
    kept_from      a midnight: first hour that `FormHour` keeps
    seeded_position, seeded_at
                   position and time of the last seed, from which on events are folded; null when from the beginning
    """

    id = models.SmallIntegerField(primary_key=True, db_default=1)
    recent_from = models.DateTimeField()
    kept_from = models.DateTimeField()
    user_count = models.BigIntegerField(db_default=0)
    form_count = models.BigIntegerField(db_default=0)
    submission_count = models.BigIntegerField(db_default=0)
    seeded_position = models.BigIntegerField(null=True)
    seeded_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "metrics_counters_state"
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="metrics_counters_state_once")]

    def __str__(self) -> str:
        return f"since {self.recent_from}"


class SkippedPosition(models.Model):
    """An event above the checkpoint that a seed has counted already."""

    position = models.BigIntegerField(primary_key=True)

    class Meta:
        db_table = "metrics_counters_skip"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.position)


class Reconciliation(models.Model):
    """One comparison of the counters with the read tables, clean or not.

    position   the checkpoint compared at
    state      clean, different, or incomplete (`note` says why nothing could be compared)
    upto       last user of the slice; null after the last slice and for all
    checked    users, forms and days compared
    uncounted  parked streams: records that are not counted
    """

    at = models.DateTimeField()
    position = models.BigIntegerField()
    everything = models.BooleanField()
    state = models.TextField()
    note = models.TextField(db_default="")
    upto = models.UUIDField(null=True)
    checked = models.BigIntegerField(db_default=0)
    uncounted = models.BigIntegerField(db_default=0)
    seconds = models.FloatField()

    class Meta:
        db_table = "metrics_reconciliation"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.state} at {self.position}"


class ReconciliationDifference(models.Model):
    """One number that differs: `key` is `user:<id>`, `form:<id>`, `day:<date>` or `total`."""

    reconciliation = models.ForeignKey(Reconciliation, on_delete=models.CASCADE, related_name="differences")
    key = models.TextField()
    field = models.TextField()
    counted = models.TextField(null=True)  # noqa: DJ001 - null: there is no such row
    expected = models.TextField(null=True)  # noqa: DJ001

    class Meta:
        db_table = "metrics_reconciliation_difference"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.key} {self.field}: {self.counted}, not {self.expected}"
