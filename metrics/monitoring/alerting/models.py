"""The read tables of rules, silences, alerts and their episodes."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from backoffice.read_table import Record
from backoffice.text import Composed
from events.models import StoredJson


class Severity(models.TextChoices):
    WARNING = "warning", _("Warning")
    CRITICAL = "critical", _("Critical")


class Rule(Record):
    """A rule, as `rules.Rule` describes it."""

    class Comparison(models.TextChoices):
        ABOVE = "above", _("Above the level")
        BELOW = "below", _("Below the level")

    class OnMissing(models.TextChoices):
        KEEP = "keep", _("Change nothing")
        RAISE = "raise", _("Raise an alert")
        RESOLVE = "resolve", _("Resolve the alert")

    class Origin(models.TextChoices):
        DEFAULT = "default", _("Default")
        PERSON = "person", _("Edited")

    id = models.CharField(_("id"), max_length=63, primary_key=True)
    title = models.CharField(_("title"), max_length=300)
    metric = models.CharField(_("metric"), max_length=100)
    target = models.CharField(_("target"), max_length=100, blank=True)
    comparison = models.CharField(_("comparison"), max_length=10, choices=Comparison.choices)
    warn = models.FloatField(_("warning level"), null=True, blank=True)
    critical = models.FloatField(_("critical level"), null=True, blank=True)
    clear = models.FloatField(_("clear level"), null=True, blank=True)
    for_seconds = models.IntegerField(_("seconds beyond the level"))
    critical_for_seconds = models.IntegerField(_("seconds beyond the critical level"), null=True, blank=True)
    keep_seconds = models.IntegerField(_("calm seconds until resolved"))
    on_missing = models.CharField(_("without values"), max_length=10, choices=OnMissing.choices)
    missing_seconds = models.IntegerField(_("seconds without values"))
    per = models.CharField(_("share of"), max_length=100, blank=True)
    over_seconds = models.IntegerField(_("seconds of the share"))
    channels = StoredJson(_("channels"), default=list)
    escalation = StoredJson(_("escalation"), default=list)
    enabled = models.BooleanField(_("enabled"))
    origin = models.CharField(_("origin"), max_length=10, choices=Origin.choices)
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)

    class Meta:
        db_table = "metrics_rule"
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")
        default_permissions = ()
        indexes = [
            models.Index("title", "id", name="metrics_rule_title"),
            GinIndex(OpClass(Upper(Composed("title")), "gin_trgm_ops"), name="metrics_rule_search"),
        ]

    def __str__(self) -> str:
        return self.title


class Silence(Record):
    """A silence, as `silences.Silence` describes it."""

    class Which(models.TextChoices):
        ANY = "any", _("All alerts")
        WARNING = "warning", _("Only warnings")

    class Repeat(models.TextChoices):
        ONCE = "once", _("Once")
        DAILY = "daily", _("Every day")
        WEEKLY = "weekly", _("On weekdays")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    title = models.CharField(_("purpose"), max_length=300)
    rules = StoredJson(_("rules"), default=list)
    targets = StoredJson(_("targets"), default=list)
    severity = models.CharField(_("severity"), max_length=10, choices=Which.choices)
    repeat = models.CharField(_("repeat"), max_length=10, choices=Repeat.choices)
    weekdays = StoredJson(_("weekdays"), default=list)
    starts_at = models.DateTimeField(_("begins at"), null=True, blank=True)
    ends_at = models.DateTimeField(_("ends at"), null=True, blank=True)
    from_time = models.CharField(_("from"), max_length=5, blank=True)
    to_time = models.CharField(_("to"), max_length=5, blank=True)
    zone = models.CharField(_("time zone"), max_length=100)
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)

    class Meta:
        db_table = "metrics_silence"
        verbose_name = _("silence")
        verbose_name_plural = _("silences")
        default_permissions = ()
        indexes = [
            models.Index(F("created_at").desc(), F("id").desc(), name="metrics_silence_created"),
            GinIndex(OpClass(Upper(Composed("title")), "gin_trgm_ops"), name="metrics_silence_search"),
        ]

    def __str__(self) -> str:
        return self.title


class Alert(Record):
    """An alert as it is now. `id`: the key of its stream; `folded`: the state that the next events change."""

    class State(models.TextChoices):
        QUIET = "quiet", _("Resolved")
        FIRING = "firing", _("Firing")
        ACKNOWLEDGED = "acknowledged", _("Acknowledged")
        CLOSED = "closed", _("Closed")

    id = models.CharField(_("id"), max_length=200, primary_key=True)
    rule_id = models.CharField(_("rule"), max_length=63)
    target = models.CharField(_("target"), max_length=100, blank=True)
    state = models.CharField(_("state"), max_length=20, choices=State.choices)
    severity = models.CharField(_("severity"), max_length=10, choices=Severity.choices)
    reason = models.CharField(_("reason"), max_length=20)
    episode = models.IntegerField(_("episode"))
    value = models.FloatField(_("value"), null=True)
    since = models.DateTimeField(_("since"), null=True)
    raised_at = models.DateTimeField(_("raised at"), null=True)
    resolved_at = models.DateTimeField(_("resolved at"), null=True)
    why = models.CharField(_("why"), max_length=20, null=True)  # noqa: DJ001 - the state has None
    owner = models.CharField(_("owner"), max_length=200, null=True)  # noqa: DJ001 - the state has None
    note = models.TextField(_("note"), blank=True)
    acknowledged_until = models.DateTimeField(_("acknowledged until"), null=True)
    step = models.IntegerField(_("escalation step"))
    flapping = models.BooleanField(_("flapping"))
    slot = models.BigIntegerField(_("slot"))
    folded = models.JSONField()

    class Meta:
        db_table = "metrics_alert"
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        default_permissions = ()
        indexes = [models.Index("state", F("raised_at").desc(), name="metrics_alert_state")]

    def __str__(self) -> str:
        return self.id

    @property
    def is_open(self) -> bool:
        return self.state != self.State.QUIET


class Episode(models.Model):
    """One episode of an alert, from raised to resolved. `severity` is the highest that it reached."""

    id = models.CharField(max_length=220, primary_key=True)
    alert = models.CharField(_("alert"), max_length=200)
    episode = models.IntegerField(_("episode"))
    severity = models.CharField(_("severity"), max_length=10, choices=Severity.choices)
    raised_at = models.DateTimeField(_("raised at"))
    resolved_at = models.DateTimeField(_("resolved at"), null=True)
    why = models.CharField(_("why"), max_length=20, null=True)  # noqa: DJ001 - the state has None

    class Meta:
        db_table = "metrics_alert_episode"
        default_permissions = ()
        indexes = [
            models.Index("alert", F("raised_at").desc(), name="metrics_episode_alert"),
            models.Index(F("raised_at").desc(), F("id").desc(), name="metrics_episode_raised"),
        ]

    def __str__(self) -> str:
        return self.id


def by_id(rows: Any) -> dict[Any, Any]:
    """Rows by their primary key."""
    return {row.pk: row for row in rows}
