"""The tables of samples and their history, and the functions that create and drop their partitions."""

from typing import ClassVar

from django.db import migrations

from metrics import sql


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metrics", "0002_materialized")]

    operations: ClassVar = [
        migrations.RunSQL(sql.read("sample.table.sql"), "drop table metrics_sample"),
        migrations.RunSQL(
            sql.read("tiers.table.sql"),
            "drop table metrics_minute, metrics_hour, metrics_histogram, metrics_histogram_hour, metrics_rollup",
        ),
        migrations.RunSQL(sql.read("process.table.sql"), "drop table metrics_process, metrics_counter, metrics_lease"),
        migrations.RunSQL(sql.read("history_partition.function.sql"), "drop function metrics_history_partition"),
        migrations.RunSQL(sql.read("history_partitions.function.sql"), "drop function metrics_history_partitions"),
        migrations.RunSQL(sql.read("history_retain.function.sql"), "drop function metrics_history_retain"),
    ]
