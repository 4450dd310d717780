"""Rebuilds count the unreadable events that they skip."""

from django.db import migrations

from events import sql

FORWARD = ["rebuild_unreadable.sql"]

BACKWARD = "alter table events_rebuild drop column unreadable"


class Migration(migrations.Migration):
    dependencies = [("events", "0010_head_of_primary")]
    operations = [migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD)]
