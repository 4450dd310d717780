"""Tables of the counters; storage parameters that Django cannot express are in `metrics/sql`."""

import django.db.models.deletion
from django.db import migrations, models

import metrics.counters.models
from metrics import sql


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="DayOwner",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "day", "user_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("day", models.DateField()),
                ("user_id", models.UUIDField()),
            ],
            options={
                "db_table": "metrics_day_owners",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="DayStats",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("users_created", models.BigIntegerField(db_default=0)),
                ("forms_created", models.BigIntegerField(db_default=0)),
                ("unique_users", models.BigIntegerField(db_default=0)),
                ("submissions", models.BigIntegerField(db_default=0)),
                ("timed", models.BigIntegerField(db_default=0)),
                ("seconds", metrics.counters.models.Numeric(db_default=0)),
            ],
            options={
                "db_table": "metrics_day_stats",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Reconciliation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("position", models.BigIntegerField()),
                ("everything", models.BooleanField()),
                ("state", models.TextField()),
                ("note", models.TextField(db_default="")),
                ("upto", models.UUIDField(null=True)),
                ("checked", models.BigIntegerField(db_default=0)),
                ("uncounted", models.BigIntegerField(db_default=0)),
                ("seconds", models.FloatField()),
            ],
            options={
                "db_table": "metrics_reconciliation",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="SkippedPosition",
            fields=[
                ("position", models.BigIntegerField(primary_key=True, serialize=False)),
            ],
            options={
                "db_table": "metrics_counters_skip",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="CountersState",
            fields=[
                ("id", models.SmallIntegerField(db_default=1, primary_key=True, serialize=False)),
                ("recent_from", models.DateTimeField()),
                ("kept_from", models.DateTimeField()),
                ("user_count", models.BigIntegerField(db_default=0)),
                ("form_count", models.BigIntegerField(db_default=0)),
                ("submission_count", models.BigIntegerField(db_default=0)),
                ("seeded_position", models.BigIntegerField(null=True)),
                ("seeded_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "metrics_counters_state",
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="metrics_counters_state_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="FormHour",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "form_id", "hour", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("form_id", models.UUIDField()),
                ("hour", models.DateTimeField()),
                ("n", models.BigIntegerField()),
            ],
            options={
                "db_table": "metrics_form_hours",
                "default_permissions": (),
                "indexes": [models.Index(models.F("hour"), name="metrics_form_hours_hour")],
            },
        ),
        migrations.CreateModel(
            name="FormStats",
            fields=[
                ("form_id", models.UUIDField(primary_key=True, serialize=False)),
                ("user_id", models.UUIDField(null=True)),
                ("alive", models.BooleanField(db_default=True)),
                ("submissions", models.BigIntegerField(db_default=0)),
                ("last_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "metrics_form_stats",
                "default_permissions": (),
                "indexes": [
                    models.Index(models.F("user_id"), name="metrics_form_stats_user"),
                    models.Index(
                        models.OrderBy(models.F("submissions"), descending=True),
                        models.OrderBy(models.F("form_id"), descending=True),
                        name="metrics_form_submissions",
                    ),
                    models.Index(models.F("last_at"), models.F("form_id"), name="metrics_form_last"),
                ],
            },
        ),
        migrations.CreateModel(
            name="ReconciliationDifference",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.TextField()),
                ("field", models.TextField()),
                ("counted", models.TextField(null=True)),
                ("expected", models.TextField(null=True)),
                (
                    "reconciliation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="differences",
                        to="metrics.reconciliation",
                    ),
                ),
            ],
            options={
                "db_table": "metrics_reconciliation_difference",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="UserStats",
            fields=[
                ("user_id", models.UUIDField(primary_key=True, serialize=False)),
                ("alive", models.BooleanField(null=True)),
                ("form_count", models.BigIntegerField(db_default=0)),
                ("submission_count", models.BigIntegerField(db_default=0)),
                ("recent", models.BigIntegerField(db_default=0)),
                ("last_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "metrics_user_stats",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        models.OrderBy(models.F("form_count"), descending=True),
                        models.OrderBy(models.F("user_id"), descending=True),
                        name="metrics_user_forms",
                    ),
                    models.Index(
                        models.OrderBy(models.F("submission_count"), descending=True),
                        models.OrderBy(models.F("user_id"), descending=True),
                        name="metrics_user_submissions",
                    ),
                    models.Index(
                        models.OrderBy(models.F("recent"), descending=True),
                        models.OrderBy(models.F("user_id"), descending=True),
                        name="metrics_user_recent",
                    ),
                ],
            },
        ),
        migrations.RunSQL(sql.read("form_stats.storage.sql"), migrations.RunSQL.noop),
        migrations.RunSQL(sql.read("form_hours.storage.sql"), migrations.RunSQL.noop),
        migrations.RunSQL(sql.read("user_stats.storage.sql"), migrations.RunSQL.noop),
        migrations.RunSQL(sql.read("day_stats.storage.sql"), migrations.RunSQL.noop),
        migrations.RunSQL(sql.read("counters_state.storage.sql"), migrations.RunSQL.noop),
    ]
