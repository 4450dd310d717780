"""The safe head is refused on a standby, where it would be wrong."""

from django.db import migrations

from events import sql

AGAIN = "drop function events_head; " + sql.read("head.function.sql")


class Migration(migrations.Migration):
    dependencies = [("events", "0009_head")]
    operations = [migrations.RunSQL(sql.read("head_of_primary.function.sql"), AGAIN)]
