"""Archived partitions, and the creation of partitions in steps that a restore needs too."""

from django.db import migrations

from events import sql

FORWARD = [
    "archive.table.sql",
    "here.function.sql",
    "partition_table.function.sql",
    "partition_attach.function.sql",
    "partition_room.function.sql",
]

# events_partition goes on using its parts: they stay.
BACKWARD = """
drop function events_here;
drop table events_archive;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0005_place")]
    operations = [migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD)]
