"""Answers to commands know whose personal data they hold; their fingerprints, and those that are there, are keyed.

A transaction for each five thousand: killed anywhere, it goes on with what is left. `events.tasks.forget_commands` and
every erasure do the same with what a process of the release before writes while this one is being rolled out.
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
