"""Personal-data exports that a worker makes, and their parts."""

import uuid

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0013_drop_form_created")]
    operations = [
        migrations.CreateModel(
            name="PersonExport",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("user_id", models.UUIDField()),
                ("requested_at", models.DateTimeField()),
                ("requested_by", models.CharField(max_length=200)),
                ("key_id", models.TextField()),
                ("secret", models.BinaryField()),
                ("place", models.JSONField(null=True)),
                ("parts", models.IntegerField(default=0)),
                ("records", models.BigIntegerField(default=0)),
                ("expected", models.BigIntegerField(default=0)),
                ("bytes", models.BigIntegerField(default=0)),
                ("updated_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                ("error", models.CharField(blank=True, max_length=200)),
            ],
            options={
                "db_table": "person_exports",
                "indexes": [
                    models.Index("user_id", models.F("requested_at").desc(), name="person_exports_user"),
                ],
            },
        ),
        migrations.CreateModel(
            name="PersonExportPart",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("number", models.IntegerField()),
                ("content", models.BinaryField()),
                (
                    "export",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="backoffice.personexport",
                    ),
                ),
            ],
            options={
                "db_table": "person_export_parts",
                "constraints": [
                    models.UniqueConstraint(fields=("export", "number"), name="person_export_parts_once"),
                ],
            },
        ),
    ]
