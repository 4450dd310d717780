"""Keep the end of each epoch, know on a standby how far the log is complete, and share the schedule of tasks."""

from django.db import migrations

from events import sql

FORWARD = [
    "epoch_history.table.sql",
    "known_head.function.sql",
    "current_epoch_lineage.function.sql",
    "rewound_epoch.function.sql",
    "guard_epoch.function.sql",
    "schedule.table.sql",
]
# The functions that earlier releases call are replaced by ones that work for them too.
BACKWARD = """
drop function events_rewound_epoch, events_known_head;
drop table events_schedule, events_epoch_history;
"""


def _again(name: str) -> str:
    """The function of an earlier migration, to put it back."""
    return sql.read(f"{name}.function.sql").replace("create function", "create or replace function", 1)


class Migration(migrations.Migration):
    dependencies = [("events", "0015_growth")]
    operations = [
        *(migrations.RunSQL(sql.read(name), migrations.RunSQL.noop) for name in FORWARD),
        migrations.RunSQL(
            migrations.RunSQL.noop,
            [_again("guard"), _again("current_epoch"), BACKWARD],
        ),
    ]
