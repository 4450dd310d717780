"""The materialized views, their freshness, and the functions that refresh and replace them."""

from typing import ClassVar

from django.db import migrations, models

from metrics import sql


class Migration(migrations.Migration):
    dependencies: ClassVar = [("metrics", "0001_counters")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="ViewFreshness",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("refreshed_at", models.DateTimeField(null=True)),
                ("checked_at", models.DateTimeField(null=True)),
                ("position", models.BigIntegerField(default=0)),
                ("ms", models.FloatField(null=True)),
                ("rows", models.BigIntegerField(null=True)),
                ("number", models.BigIntegerField(default=0)),
                ("differences", models.IntegerField(null=True)),
                ("error", models.TextField(null=True)),
                ("failed_at", models.DateTimeField(null=True)),
            ],
            options={"db_table": "metrics_view", "default_permissions": ()},
        ),
        migrations.RunSQL(sql.read("daily_metrics.function.sql"), "drop function metrics_daily"),
        migrations.RunSQL(sql.read("daily_metrics.view.sql"), "drop materialized view mv_daily_metrics"),
        migrations.RunSQL(sql.read("user_analytics.function.sql"), "drop function metrics_user_analytics"),
        migrations.RunSQL(sql.read("user_analytics.view.sql"), "drop materialized view mv_user_analytics"),
        migrations.RunSQL(sql.read("refresh_view.function.sql"), "drop function metrics_refresh_view"),
        migrations.RunSQL(sql.read("replace_view.function.sql"), "drop function metrics_replace_view"),
    ]
