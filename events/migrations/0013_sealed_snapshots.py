"""Encrypts existing snapshots that hold personal data; new ones are written encrypted.

One transaction per thousand, so an interrupted run resumes. `events.tasks.snapshot` and every erasure do the same with
snapshots that processes of the previous release write during the rollout.
"""

from typing import Any

from django.db import migrations, transaction

from events import snapshots, sql, store

FORWARD = ["snapshot_subject.index.sql"]


def seal(_apps: Any, _schema_editor: Any) -> None:
    if not store.query("select 1 from events_snapshot limit 1"):
        return
    sealed = 1
    while sealed:
        with transaction.atomic():
            sealed = snapshots.encrypt_plain(1_000)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0012_master_keys")]
    operations = [
        migrations.RunSQL([sql.read(name) for name in FORWARD], "drop index events_snapshot_subject"),
        migrations.RunPython(seal, migrations.RunPython.noop),
    ]
