"""Keys of subjects, and the counter of erasures."""

from django.db import migrations, models

from events import sql

FORWARD = ["subject_key.table.sql", "shredding.table.sql", "keys.function.sql", "hold.function.sql"]

BACKWARD = """
drop function events_hold, events_keys;
drop table events_subject_key, events_shredding;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0007_removal")]
    operations = [
        migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD),
        migrations.CreateModel(
            name="SubjectKey",
            fields=[
                ("subject", models.TextField(primary_key=True, serialize=False)),
                ("key_id", models.TextField(null=True)),
                ("secret", models.BinaryField(null=True)),
                ("created_at", models.DateTimeField()),
                ("erased_at", models.DateTimeField(null=True)),
                ("purged_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "key of a subject",
                "verbose_name_plural": "keys of subjects",
                "db_table": "events_subject_key",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
