"""Keyed digests that keep erased submissions from coming back with the next export."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0004_erasure")]
    operations = [
        migrations.CreateModel(
            name="ImportSuppression",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("form_id", models.UUIDField()),
                ("digest", models.BinaryField()),
                ("fields", models.JSONField(default=list)),
                ("created_at", models.DateTimeField()),
            ],
            options={
                "db_table": "import_suppressions",
                "constraints": [
                    models.UniqueConstraint(fields=("form_id", "digest"), name="import_suppressions_once"),
                ],
            },
        ),
    ]
