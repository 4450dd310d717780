"""The database draws a new epoch when the log has another location: restored, promoted, copied."""

from django.db import migrations

from events import sql

FORWARD = ["epoch_place.sql", "place.function.sql", "current_epoch.function.sql"]

BACKWARD = """
drop function events_current_epoch, events_place;
alter table events_epoch drop column place;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0003_parking")]
    operations = [
        migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD),
        migrations.RunSQL("update events_epoch set place = events_place()", migrations.RunSQL.noop),
    ]
