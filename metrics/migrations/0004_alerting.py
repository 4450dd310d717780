"""Read tables of alert rules, silences, alerts and their episodes."""

import uuid

import django.contrib.postgres.indexes
import django.db.models.functions.text
from django.db import migrations, models

import backoffice.text


class Migration(migrations.Migration):
    dependencies = [
        ("metrics", "0003_sampling"),
        ("backoffice", "0007_rules"),  # the extension that the search indexes need
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("version", models.BigIntegerField(verbose_name="version")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
                ("id", models.CharField(max_length=200, primary_key=True, serialize=False, verbose_name="id")),
                ("rule_id", models.CharField(max_length=63, verbose_name="rule")),
                ("target", models.CharField(blank=True, max_length=100, verbose_name="target")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("quiet", "Resolved"),
                            ("firing", "Firing"),
                            ("acknowledged", "Acknowledged"),
                            ("closed", "Closed"),
                        ],
                        max_length=20,
                        verbose_name="state",
                    ),
                ),
                (
                    "severity",
                    models.CharField(
                        choices=[("warning", "Warning"), ("critical", "Critical")],
                        max_length=10,
                        verbose_name="severity",
                    ),
                ),
                ("reason", models.CharField(max_length=20, verbose_name="reason")),
                ("episode", models.IntegerField(verbose_name="episode")),
                ("value", models.FloatField(null=True, verbose_name="value")),
                ("since", models.DateTimeField(null=True, verbose_name="since")),
                ("raised_at", models.DateTimeField(null=True, verbose_name="raised at")),
                ("resolved_at", models.DateTimeField(null=True, verbose_name="resolved at")),
                ("why", models.CharField(max_length=20, null=True, verbose_name="why")),
                ("owner", models.CharField(max_length=200, null=True, verbose_name="owner")),
                ("note", models.TextField(blank=True, verbose_name="note")),
                ("acknowledged_until", models.DateTimeField(null=True, verbose_name="acknowledged until")),
                ("step", models.IntegerField(verbose_name="escalation step")),
                ("flapping", models.BooleanField(verbose_name="flapping")),
                ("slot", models.BigIntegerField(verbose_name="slot")),
                ("folded", models.JSONField()),
            ],
            options={
                "verbose_name": "alert",
                "verbose_name_plural": "alerts",
                "db_table": "metrics_alert",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        models.F("state"),
                        models.OrderBy(models.F("raised_at"), descending=True),
                        name="metrics_alert_state",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Episode",
            fields=[
                ("id", models.CharField(max_length=220, primary_key=True, serialize=False)),
                ("alert", models.CharField(max_length=200, verbose_name="alert")),
                ("episode", models.IntegerField(verbose_name="episode")),
                (
                    "severity",
                    models.CharField(
                        choices=[("warning", "Warning"), ("critical", "Critical")],
                        max_length=10,
                        verbose_name="severity",
                    ),
                ),
                ("raised_at", models.DateTimeField(verbose_name="raised at")),
                ("resolved_at", models.DateTimeField(null=True, verbose_name="resolved at")),
                ("why", models.CharField(max_length=20, null=True, verbose_name="why")),
            ],
            options={
                "db_table": "metrics_alert_episode",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        models.F("alert"),
                        models.OrderBy(models.F("raised_at"), descending=True),
                        name="metrics_episode_alert",
                    ),
                    models.Index(
                        models.OrderBy(models.F("raised_at"), descending=True),
                        models.OrderBy(models.F("id"), descending=True),
                        name="metrics_episode_raised",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Rule",
            fields=[
                ("version", models.BigIntegerField(verbose_name="version")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
                ("id", models.CharField(max_length=63, primary_key=True, serialize=False, verbose_name="id")),
                ("title", models.CharField(max_length=300, verbose_name="title")),
                ("metric", models.CharField(max_length=100, verbose_name="metric")),
                ("target", models.CharField(blank=True, max_length=100, verbose_name="target")),
                (
                    "comparison",
                    models.CharField(
                        choices=[("above", "Above the level"), ("below", "Below the level")],
                        max_length=10,
                        verbose_name="comparison",
                    ),
                ),
                ("warn", models.FloatField(blank=True, null=True, verbose_name="warning level")),
                ("critical", models.FloatField(blank=True, null=True, verbose_name="critical level")),
                ("clear", models.FloatField(blank=True, null=True, verbose_name="clear level")),
                ("for_seconds", models.IntegerField(verbose_name="seconds beyond the level")),
                (
                    "critical_for_seconds",
                    models.IntegerField(blank=True, null=True, verbose_name="seconds beyond the critical level"),
                ),
                ("keep_seconds", models.IntegerField(verbose_name="calm seconds until resolved")),
                (
                    "on_missing",
                    models.CharField(
                        choices=[
                            ("keep", "Change nothing"),
                            ("raise", "Raise an alert"),
                            ("resolve", "Resolve the alert"),
                        ],
                        max_length=10,
                        verbose_name="without values",
                    ),
                ),
                ("missing_seconds", models.IntegerField(verbose_name="seconds without values")),
                ("per", models.CharField(blank=True, max_length=100, verbose_name="share of")),
                ("over_seconds", models.IntegerField(verbose_name="seconds of the share")),
                ("channels", models.JSONField(default=list, verbose_name="channels")),
                ("escalation", models.JSONField(default=list, verbose_name="escalation")),
                ("enabled", models.BooleanField(verbose_name="enabled")),
                (
                    "origin",
                    models.CharField(
                        choices=[("default", "Default"), ("person", "Edited")], max_length=10, verbose_name="origin"
                    ),
                ),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                ("deleted_at", models.DateTimeField(blank=True, null=True, verbose_name="deleted at")),
            ],
            options={
                "verbose_name": "alert rule",
                "verbose_name_plural": "alert rules",
                "db_table": "metrics_rule",
                "default_permissions": (),
                "indexes": [
                    models.Index(models.F("title"), models.F("id"), name="metrics_rule_title"),
                    django.contrib.postgres.indexes.GinIndex(
                        django.contrib.postgres.indexes.OpClass(
                            django.db.models.functions.text.Upper(backoffice.text.Composed("title")), "gin_trgm_ops"
                        ),
                        name="metrics_rule_search",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Silence",
            fields=[
                ("version", models.BigIntegerField(verbose_name="version")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("title", models.CharField(max_length=300, verbose_name="purpose")),
                ("rules", models.JSONField(default=list, verbose_name="rules")),
                ("targets", models.JSONField(default=list, verbose_name="targets")),
                (
                    "severity",
                    models.CharField(
                        choices=[("any", "All alerts"), ("warning", "Only warnings")],
                        max_length=10,
                        verbose_name="severity",
                    ),
                ),
                (
                    "repeat",
                    models.CharField(
                        choices=[("once", "Once"), ("daily", "Every day"), ("weekly", "On weekdays")],
                        max_length=10,
                        verbose_name="repeat",
                    ),
                ),
                ("weekdays", models.JSONField(default=list, verbose_name="weekdays")),
                ("starts_at", models.DateTimeField(blank=True, null=True, verbose_name="begins at")),
                ("ends_at", models.DateTimeField(blank=True, null=True, verbose_name="ends at")),
                ("from_time", models.CharField(blank=True, max_length=5, verbose_name="from")),
                ("to_time", models.CharField(blank=True, max_length=5, verbose_name="to")),
                ("zone", models.CharField(max_length=100, verbose_name="time zone")),
                ("created_at", models.DateTimeField(verbose_name="created at")),
                ("deleted_at", models.DateTimeField(blank=True, null=True, verbose_name="deleted at")),
            ],
            options={
                "verbose_name": "silence",
                "verbose_name_plural": "silences",
                "db_table": "metrics_silence",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        models.OrderBy(models.F("created_at"), descending=True),
                        models.OrderBy(models.F("id"), descending=True),
                        name="metrics_silence_created",
                    ),
                    django.contrib.postgres.indexes.GinIndex(
                        django.contrib.postgres.indexes.OpClass(
                            django.db.models.functions.text.Upper(backoffice.text.Composed("title")), "gin_trgm_ops"
                        ),
                        name="metrics_silence_search",
                    ),
                ],
            },
        ),
    ]
