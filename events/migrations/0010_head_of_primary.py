"""The safe head is refused on a standby, where it would be wrong."""

from django.db import migrations

from events import sql


class Migration(migrations.Migration):
    dependencies = [("events", "0009_head")]
    # The same function, with one more refusal: earlier releases work with it.
    operations = [migrations.RunSQL(sql.read("head_of_primary.function.sql"), migrations.RunSQL.noop)]
