"""Limits for signing in, failed attempts on their way to the log, and a trigger that records changes made by SQL."""

import django.contrib.postgres.fields
from django.db import migrations, models

from backoffice import sql


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0005_import_suppressions"), ("events", "0009_head")]
    operations = [
        migrations.CreateModel(
            name="SignInBudget",
            fields=[
                ("key", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("full_at", models.DateTimeField(db_index=True)),
            ],
            options={"db_table": "sign_in_budgets"},
        ),
        migrations.CreateModel(
            name="SignInFailure",
            fields=[
                ("account", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
                ("attempts", models.IntegerField()),
                ("refused", models.IntegerField()),
                (
                    "addresses",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32), default=list, size=None
                    ),
                ),
            ],
            options={"db_table": "sign_in_failures"},
        ),
        migrations.RunSQL("alter table sign_in_budgets set unlogged", migrations.RunSQL.noop),
        migrations.RunSQL(sql.read("sign_in_take.function.sql"), "drop function sign_in_take"),
        migrations.RunSQL(sql.read("staff_changes.function.sql"), "drop function staff_changes"),
        migrations.RunSQL(sql.read("staff_changes.trigger.sql"), "drop trigger staff_changes on staff"),
    ]
