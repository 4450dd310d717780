"""Parked events of subscriptions, and the state of rebuilds."""

from django.db import migrations

from events import sql

FORWARD = ["parked.table.sql", "rebuild.table.sql"]

BACKWARD = "drop table events_parked, events_rebuild"


class Migration(migrations.Migration):
    dependencies = [("events", "0002_seals")]
    operations = [migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD)]
