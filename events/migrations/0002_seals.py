"""Seals: Merkle roots over ranges of the log, chained."""

from django.db import migrations, models

from events import sql

FORWARD = ["seal.table.sql", "seal_follows.function.sql", "seal_triggers.sql"]

BACKWARD = """
drop table events_seal;
drop function events_seal_follows;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0001_initial")]
    operations = [
        migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD),
        migrations.CreateModel(
            name="Seal",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("epoch", models.UUIDField()),
                ("after", models.BigIntegerField()),
                ("upto", models.BigIntegerField()),
                ("count", models.BigIntegerField()),
                ("sealed_at", models.DateTimeField()),
                ("root", models.BinaryField()),
                ("previous", models.BinaryField()),
                ("hash", models.BinaryField()),
            ],
            options={
                "verbose_name": "seal",
                "verbose_name_plural": "seals",
                "db_table": "events_seal",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
