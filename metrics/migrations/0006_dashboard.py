"""The tables of the dashboard."""

import uuid
from typing import ClassVar

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("metrics", "0003_sampling"),
        ("metrics", "0005_notifications"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="SavedLayout",
            fields=[
                (
                    "person",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("version", models.BigIntegerField()),
                ("body", models.JSONField(null=True)),
                ("updated_at", models.DateTimeField()),
            ],
            options={"db_table": "metrics_layout", "default_permissions": ()},
        ),
        migrations.CreateModel(
            name="SharedLayout",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("name", models.CharField(max_length=80)),
                ("body", models.JSONField()),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "metrics_shared_layout",
                "default_permissions": (),
                "indexes": [models.Index("owner", "name", name="metrics_shared_layout_owner")],
            },
        ),
    ]
