"""Adds the subject to answers to commands, and keys the fingerprints of existing ones.

One transaction per five thousand, so an interrupted run resumes. `events.tasks.forget_commands` and every erasure do
the same with answers that processes of the previous release write during the rollout.
"""

from typing import Any

from django.db import migrations, transaction

from events import answers, sql

FORWARD = ["command_subject.sql"]

BACKWARD = """
drop index events_command_subject, events_command_unkeyed;
alter table events_command drop column stream, drop column subject
"""


def key(_apps: Any, _schema_editor: Any) -> None:
    keyed = 1
    while keyed:
        with transaction.atomic():
            keyed = answers.key_fingerprints(5_000)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0013_sealed_snapshots")]
    operations = [
        migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD),
        migrations.RunPython(key, migrations.RunPython.noop),
    ]
