"""An index of what one request caused, and how far purges are.

The index is built while the log is written, one partition after the other; an interrupted migration is repeated. It
replaces the index of the correlation id alone, which the previous release needs no more than this one.
"""

from typing import Any

from django.db import migrations

from events import partition_indexes, sql

FORWARD = ["event_correlation.index.sql", "purge.table.sql"]

BACKWARD = """
drop table events_purge;
create index if not exists events_event_correlation on events_event (correlation_id) where correlation_id is not null;
drop index events_event_request;
"""


def forward(_apps: Any, _schema_editor: Any) -> None:
    for name in FORWARD:
        partition_indexes.patiently(sql.read(name))
    partition_indexes.build("events_event_request", "_request")
    partition_indexes.patiently("drop index if exists events_event_correlation")


def backward(_apps: Any, schema_editor: Any) -> None:
    schema_editor.execute(BACKWARD)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0014_command_subjects")]
    operations = [migrations.RunPython(forward, backward)]
