"""The event store: log, streams, floor trigger, append functions, snapshots, idempotency keys, checkpoints, epoch."""

from django.db import migrations, models

from events import sql

FORWARD = [
    "refuse.function.sql",
    "guard.function.sql",
    "digest.function.sql",
    "chain.aggregate.sql",
    "stream.table.sql",
    "event.table.sql",
    "triggers.sql",
    "partition.function.sql",
    "unexpected.function.sql",
    "append_one.function.sql",
    "append_each.function.sql",
    "append_stream.function.sql",
    "append_many.function.sql",
    "snapshot.table.sql",
    "command.table.sql",
    "begin.function.sql",
    "checkpoint.table.sql",
    "epoch.table.sql",
]

BACKWARD = """
drop table events_epoch, events_checkpoint, events_command, events_snapshot;
drop function events_begin, events_append_many, events_append_stream, events_append_each, events_append_one,
              events_unexpected, events_partition;
drop table events_event, events_stream;
drop aggregate events_chain(bytea, bytea);
drop function events_chain_step, events_digest, events_guard, events_refuse;
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.RunSQL([sql.read(name) for name in FORWARD], BACKWARD),
        migrations.RunSQL("select events_partition(20000000)", migrations.RunSQL.noop),
        migrations.CreateModel(
            name="StoredEvent",
            fields=[
                ("position", models.BigIntegerField(primary_key=True, serialize=False)),
                ("stream", models.TextField()),
                ("version", models.BigIntegerField()),
                ("type", models.TextField()),
                ("schema_version", models.SmallIntegerField()),
                ("data", models.JSONField()),
                ("event_id", models.UUIDField()),
                ("recorded_at", models.DateTimeField()),
                ("actor", models.TextField()),
                ("reason", models.TextField(null=True)),
                ("correlation_id", models.UUIDField(null=True)),
                ("causation_id", models.UUIDField(null=True)),
                ("metadata", models.JSONField()),
                ("hash", models.BinaryField()),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "db_table": "events_event",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[
                ("stream", models.TextField(primary_key=True, serialize=False)),
                ("version", models.BigIntegerField()),
                ("hash", models.BinaryField()),
            ],
            options={
                "verbose_name": "stream",
                "verbose_name_plural": "streams",
                "db_table": "events_stream",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("position", models.BigIntegerField()),
                ("epoch", models.UUIDField()),
                ("fence", models.BigIntegerField()),
                ("owner", models.TextField(null=True)),
                ("leased_until", models.DateTimeField(null=True)),
                ("updated_at", models.DateTimeField()),
                ("error", models.TextField(null=True)),
            ],
            options={
                "verbose_name": "subscription",
                "verbose_name_plural": "subscriptions",
                "db_table": "events_checkpoint",
                "managed": False,
                "default_permissions": ("view", "change"),
            },
        ),
    ]
