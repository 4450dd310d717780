"""Removal: an event may be emptied once its removal is recorded."""

from django.db import migrations

from events import sql

FORWARD = ["refuse_change.function.sql", "removal_trigger.sql"]

BACKWARD = """
drop trigger append_only on events_event;
create trigger append_only before update or delete on events_event
    for each row execute function events_refuse();
alter table events_event enable always trigger append_only;
drop function events_refuse_change;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0006_archive")]
    operations = [migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD)]
