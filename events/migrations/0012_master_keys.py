"""A witness for each master key proves that it is the key used under its id before."""

from django.db import migrations

from events import sql

FORWARD = ["master_key.table.sql"]


class Migration(migrations.Migration):
    dependencies = [("events", "0011_rebuild_unreadable")]
    operations = [migrations.RunSQL([sql.read(name) for name in FORWARD], "drop table events_master_key")]
