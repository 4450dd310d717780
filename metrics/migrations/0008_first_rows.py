"""Rows of the counters for records that are older than the counters, so that lists sorted by counts have all records.

Their counts are null until the first seed. Once the subscription has run, every record has a row.
"""

from django.db import migrations, models

# The log of an installation whose subscription `counters` has never run. Otherwise each record has a row.
FIRST_ROWS = [
    """
insert into metrics_user_stats (user_id, form_count, submission_count, recent)
select id, null, null, null from users where not exists (select 1 from events_checkpoint where name = 'counters')
on conflict do nothing
""",
    """
insert into metrics_form_stats (form_id, submissions)
select id, null from forms where not exists (select 1 from events_checkpoint where name = 'counters')
on conflict do nothing
""",
]

NO_ROWS = [
    "delete from metrics_user_stats where form_count is null",
    "delete from metrics_form_stats where submissions is null",
]


class Migration(migrations.Migration):
    dependencies = [
        ("metrics", "0007_list_indexes"),
        ("backoffice", "0014_person_exports"),
        ("events", "0016_several_hosts"),
    ]
    operations = [
        migrations.AlterField("formstats", "submissions", models.BigIntegerField(db_default=0, null=True)),
        migrations.AlterField("userstats", "form_count", models.BigIntegerField(db_default=0, null=True)),
        migrations.AlterField("userstats", "submission_count", models.BigIntegerField(db_default=0, null=True)),
        migrations.AlterField("userstats", "recent", models.BigIntegerField(db_default=0, null=True)),
        migrations.RunSQL(FIRST_ROWS, NO_ROWS),
    ]
