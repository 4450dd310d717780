"""Tables of notifications: channels, deliveries and the attempts to send them."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from events import types

KINDS = (
    ("email", _("E-mail")),
    ("webhook", _("Signed webhook")),
    ("slack", _("Slack or Mattermost")),
    ("teams", _("Microsoft Teams")),
    ("ntfy", "ntfy"),
    ("matrix", "Matrix"),
)
SEVERITIES = (("warning", _("Warnings and critical alerts")), ("critical", _("Critical alerts only")))
LANGUAGES = (("en", _("English")), ("fr", _("French")))
STATES = (
    ("waiting", pgettext_lazy("delivery", "Waiting")),
    ("muted", pgettext_lazy("delivery", "Muted")),
    ("delivered", pgettext_lazy("delivery", "Delivered")),
    ("dropped", pgettext_lazy("delivery", "Not needed")),
    ("failed", pgettext_lazy("delivery", "Failed")),
)
OUTCOMES = (
    ("delivered", pgettext_lazy("delivery", "Delivered")),
    ("failed", pgettext_lazy("delivery", "Failed")),
    ("unknown", pgettext_lazy("delivery", "No answer: it may have arrived")),
)


class Channel(models.Model):
    """A destination of messages. `secret` contains URL and credentials, encrypted; see `secrets`.

    target        what people may see of the destination: addresses, or the host of the URL
    group_until   messages decided before this time wait for it and are sent together
    urgent_until  a critical alert before this time waits too, because one has just been sent
    failures      failed attempts since the last success
    """

    id = models.UUIDField(primary_key=True, default=types.new_id, editable=False)
    name = models.CharField(_("name"), max_length=80)
    kind = models.CharField(_("kind"), max_length=10, choices=KINDS)
    target = models.TextField(_("destination"), db_default="")
    recipients = ArrayField(models.EmailField(), verbose_name=_("recipients"), default=list, blank=True)
    secret = models.BinaryField(null=True, editable=False)
    language = models.CharField(_("language"), max_length=2, choices=LANGUAGES, default="en")
    min_severity = models.CharField(_("messages"), max_length=10, choices=SEVERITIES, default="warning")
    quiet_from = models.TimeField(_("quiet from"), null=True, blank=True)
    quiet_until = models.TimeField(_("quiet until"), null=True, blank=True)
    zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    paused_at = models.DateTimeField(_("paused at"), null=True, editable=False)
    paused_why = models.CharField(max_length=20, db_default="", editable=False)
    failures = models.IntegerField(db_default=0, editable=False)
    group_until = models.DateTimeField(null=True, editable=False)
    urgent_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("created"), db_default=Now(), editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "metrics_channel"
        default_permissions = ()
        verbose_name = _("notification channel")
        verbose_name_plural = _("notification channels")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                condition=Q(deleted_at=None),
                name="metrics_channel_name",
                violation_error_message=_("There is a channel of this name already."),
            ),
            models.CheckConstraint(
                condition=Q(quiet_from=None, quiet_until=None)
                | Q(quiet_from__isnull=False, quiet_until__isnull=False) & ~Q(quiet_from=F("quiet_until")),
                name="metrics_channel_quiet",
                violation_error_message=_("Enter both ends of the quiet hours, and different ones."),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One message to one channel for one cause.

    alert        the alert's key: ``high_cpu``, ``db_lag:replica``; empty for tests and notices about channels
    cause        the version of the event in the alert's stream, or ``late`` (`sweep`), ``test-…``, ``paused-…``
    kind         firing, worsened, reminder, escalated, flapping, resolved; test, notice
    facts        further content of the message: reason, value, since … Never data of customers
    state, why   see `STATES`; the reason of a state in one word
    expires_at   when sending is given up
    leased_until until when the lease of a sender is valid
    batch        `message_id` of the first of the deliveries that are sent in one message
    """

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(_("message id"), unique=True, default=types.new_id)
    channel = models.ForeignKey(Channel, on_delete=models.PROTECT, verbose_name=_("channel"))
    alert = models.TextField(_("alert"))
    episode = models.IntegerField(_("episode"))
    cause = models.TextField()
    kind = models.CharField(_("kind"), max_length=12)
    severity = models.CharField(_("severity"), max_length=10)
    facts = models.JSONField(default=dict)
    state = models.CharField(_("state"), max_length=10, choices=STATES, db_default="waiting")
    why = models.CharField(max_length=80, db_default="")
    late = models.BooleanField(db_default=False)
    decided_at = models.DateTimeField(_("decided at"), db_default=Now())
    due = models.DateTimeField(_("due at"))
    expires_at = models.DateTimeField()
    leased_until = models.DateTimeField(null=True)
    attempts = models.IntegerField(_("attempts"), db_default=0)
    batch = models.UUIDField(null=True)
    delivered_at = models.DateTimeField(_("delivered at"), null=True)
    finished_at = models.DateTimeField(null=True)
    answer = models.CharField(_("answer"), max_length=200, db_default="")

    class Meta:
        db_table = "metrics_delivery"
        default_permissions = ()
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [
            models.UniqueConstraint(fields=["alert", "episode", "cause", "channel"], name="metrics_delivery_once"),
            models.CheckConstraint(
                condition=Q(state__in=[state for state, _label in STATES]), name="metrics_delivery_state"
            ),
        ]
        indexes = [
            models.Index(fields=["due"], condition=Q(state="waiting"), name="metrics_delivery_due"),
            models.Index(fields=["state"], condition=Q(state__in=["waiting", "muted"]), name="metrics_delivery_open"),
            models.Index(fields=["channel", "-decided_at"], name="metrics_delivery_channel"),
            models.Index(fields=["-decided_at"], name="metrics_delivery_decided"),
        ]

    def __str__(self) -> str:
        return f"{self.alert} #{self.episode}" if self.alert else self.kind


class Attempt(models.Model):
    """One attempt to send a delivery, written before the request; without an end, its sender died."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tries")
    number = models.IntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=OUTCOMES, db_default="")
    answer = models.CharField(max_length=200, db_default="")
    sender = models.CharField(max_length=80, db_default="")

    class Meta:
        db_table = "metrics_attempt"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["delivery", "number"], name="metrics_attempt_once")]

    def __str__(self) -> str:
        return f"{self.delivery_id}/{self.number}"
