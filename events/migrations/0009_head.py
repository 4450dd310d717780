"""The safe head in one round trip."""

from django.db import migrations

from events import sql


class Migration(migrations.Migration):
    dependencies = [("events", "0008_discard_copies")]
    operations = [migrations.RunSQL(sql.read("head.function.sql"), "drop function events_head")]
