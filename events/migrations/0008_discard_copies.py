"""An erasure drops unfinished copies of read tables also where the application owns none of them."""

from django.db import migrations

from events import sql

FORWARD = ["discard_copies.function.sql"]


class Migration(migrations.Migration):
    dependencies = [("events", "0004_subject_keys")]
    operations = [migrations.RunSQL([sql.read(name) for name in FORWARD], "drop function events_discard_copies")]
