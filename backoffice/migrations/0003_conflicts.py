"""The inbox's read table."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0002_owners")]
    operations = [
        migrations.CreateModel(
            name="Conflict",
            fields=[
                ("version", models.BigIntegerField(verbose_name="version")),
                ("updated_at", models.DateTimeField(verbose_name="updated at")),
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "status",
                    models.CharField(
                        choices=[("open", "Open"), ("resolved", "Resolved"), ("dismissed", "Discarded")],
                        max_length=20,
                        verbose_name="status",
                    ),
                ),
                ("category", models.CharField(max_length=40, verbose_name="kind of record")),
                ("key", models.CharField(max_length=200, verbose_name="record")),
                ("command_type", models.CharField(max_length=80, verbose_name="change")),
                ("why", models.CharField(max_length=20, verbose_name="why")),
                ("paths", models.JSONField(default=list, verbose_name="fields")),
                ("reason", models.CharField(blank=True, max_length=200, verbose_name="reason")),
                ("base_version", models.BigIntegerField(verbose_name="version it was based on")),
                ("author", models.CharField(max_length=200, verbose_name="author")),
                ("author_name", models.CharField(blank=True, max_length=200, verbose_name="author")),
                ("comments", models.IntegerField(default=0, verbose_name="comments")),
                ("created_at", models.DateTimeField(verbose_name="filed at")),
                ("closed_at", models.DateTimeField(null=True, verbose_name="resolved at")),
                (
                    "assignee",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="conflicts",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="assigned to",
                    ),
                ),
            ],
            options={
                "verbose_name": "conflict",
                "verbose_name_plural": "conflicts",
                "db_table": "conflicts",
                "indexes": [
                    models.Index(
                        models.F("status"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        models.OrderBy(models.F("id"), descending=True),
                        name="conflicts_status",
                    ),
                    models.Index(models.F("category"), models.F("key"), name="conflicts_record"),
                    models.Index(
                        models.F("author"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        name="conflicts_author",
                    ),
                ],
            },
        )
    ]
