"""Tables of notifications: channels, deliveries, attempts."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import events.types


class Migration(migrations.Migration):
    dependencies = [
        ("metrics", "0004_alerting"),
    ]

    operations = [
        migrations.CreateModel(
            name="Channel",
            fields=[
                (
                    "id",
                    models.UUIDField(default=events.types.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("name", models.CharField(max_length=80, verbose_name="name")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("email", "E-mail"),
                            ("webhook", "Signed webhook"),
                            ("slack", "Slack or Mattermost"),
                            ("teams", "Microsoft Teams"),
                            ("ntfy", "ntfy"),
                            ("matrix", "Matrix"),
                        ],
                        max_length=10,
                        verbose_name="kind",
                    ),
                ),
                ("target", models.TextField(db_default="", verbose_name="destination")),
                (
                    "recipients",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.EmailField(max_length=254),
                        blank=True,
                        default=list,
                        size=None,
                        verbose_name="recipients",
                    ),
                ),
                ("secret", models.BinaryField(null=True)),
                (
                    "language",
                    models.CharField(
                        choices=[("en", "English"), ("fr", "French")],
                        default="en",
                        max_length=2,
                        verbose_name="language",
                    ),
                ),
                (
                    "min_severity",
                    models.CharField(
                        choices=[("warning", "Warnings and critical alerts"), ("critical", "Critical alerts only")],
                        default="warning",
                        max_length=10,
                        verbose_name="messages",
                    ),
                ),
                ("quiet_from", models.TimeField(blank=True, null=True, verbose_name="quiet from")),
                ("quiet_until", models.TimeField(blank=True, null=True, verbose_name="quiet until")),
                ("zone", models.CharField(default="UTC", max_length=64, verbose_name="time zone")),
                ("paused_at", models.DateTimeField(editable=False, null=True, verbose_name="paused at")),
                ("paused_why", models.CharField(db_default="", editable=False, max_length=20)),
                ("failures", models.IntegerField(db_default=0, editable=False)),
                ("group_until", models.DateTimeField(editable=False, null=True)),
                ("urgent_until", models.DateTimeField(editable=False, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="created"
                    ),
                ),
                ("deleted_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "notification channel",
                "verbose_name_plural": "notification channels",
                "db_table": "metrics_channel",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("deleted_at", None)),
                        fields=("name",),
                        name="metrics_channel_name",
                        violation_error_message="There is a channel of this name already.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("quiet_from", None), ("quiet_until", None)),
                            models.Q(
                                ("quiet_from__isnull", False),
                                ("quiet_until__isnull", False),
                                models.Q(("quiet_from", models.F("quiet_until")), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="metrics_channel_quiet",
                        violation_error_message="Enter both ends of the quiet hours, and different ones.",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("message_id", models.UUIDField(default=events.types.new_id, unique=True, verbose_name="message id")),
                ("alert", models.TextField(verbose_name="alert")),
                ("episode", models.IntegerField(verbose_name="episode")),
                ("cause", models.TextField()),
                ("kind", models.CharField(max_length=12, verbose_name="kind")),
                ("severity", models.CharField(max_length=10, verbose_name="severity")),
                ("facts", models.JSONField(default=dict)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("muted", "Muted"),
                            ("delivered", "Delivered"),
                            ("dropped", "Not needed"),
                            ("failed", "Failed"),
                        ],
                        db_default="waiting",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("why", models.CharField(db_default="", max_length=80)),
                ("late", models.BooleanField(db_default=False)),
                (
                    "decided_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="decided at"
                    ),
                ),
                ("due", models.DateTimeField(verbose_name="due at")),
                ("expires_at", models.DateTimeField()),
                ("leased_until", models.DateTimeField(null=True)),
                ("attempts", models.IntegerField(db_default=0, verbose_name="attempts")),
                ("batch", models.UUIDField(null=True)),
                ("delivered_at", models.DateTimeField(null=True, verbose_name="delivered at")),
                ("finished_at", models.DateTimeField(null=True)),
                ("answer", models.CharField(db_default="", max_length=200, verbose_name="answer")),
                (
                    "channel",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="metrics.channel", verbose_name="channel"
                    ),
                ),
            ],
            options={
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
                "db_table": "metrics_delivery",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("number", models.IntegerField()),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                            ("unknown", "No answer: it may have arrived"),
                        ],
                        db_default="",
                        max_length=10,
                    ),
                ),
                ("answer", models.CharField(db_default="", max_length=200)),
                ("sender", models.CharField(db_default="", max_length=80)),
                (
                    "delivery",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="tries", to="metrics.delivery"
                    ),
                ),
            ],
            options={
                "db_table": "metrics_attempt",
                "default_permissions": (),
            },
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(condition=models.Q(("state", "waiting")), fields=["due"], name="metrics_delivery_due"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state__in", ["waiting", "muted"])), fields=["state"], name="metrics_delivery_open"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["channel", "-decided_at"], name="metrics_delivery_channel"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["-decided_at"], name="metrics_delivery_decided"),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                fields=("alert", "episode", "cause", "channel"), name="metrics_delivery_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["waiting", "muted", "delivered", "dropped", "failed"])),
                name="metrics_delivery_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(fields=("delivery", "number"), name="metrics_attempt_once"),
        ),
    ]
