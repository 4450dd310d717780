"""Mailboxes of older addresses, search in composed text, and what owners must be like for new records."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations, models
from django.db.models.functions import Upper

from backoffice import sql, text, values

CHUNK = 1_000

# Only these can have another normal form than the one they were stored in.
SUSPECT = """
select id, email from users where (email ~ '[^[:ascii:]]' or email like '%%xn--%%') and id > %s order by id limit %s
"""
FIRST = "00000000-0000-0000-0000-000000000000"


def fill_mailboxes(apps, schema_editor):  # noqa: ARG001
    """Note the normal form of each address that was stored in another one."""
    with schema_editor.connection.cursor() as cursor:
        last = FIRST
        while True:
            cursor.execute(SUSPECT, [last, CHUNK])
            rows = cursor.fetchall()
            if not rows:
                return
            last = rows[-1][0]
            changed = [(mailbox, key) for key, email in rows if (mailbox := values.mailbox(email)) != email]
            if changed:
                cursor.executemany("update users set mailbox = %s where id = %s", changed)


def searched(*columns):
    return [OpClass(Upper(text.Composed(column)), "gin_trgm_ops") for column in columns]


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0006_sign_in")]
    operations = [
        migrations.AddField(
            model_name="user",
            name="mailbox",
            field=models.TextField(blank=True, editable=False, null=True, verbose_name="mailbox"),
        ),
        migrations.RunPython(fill_mailboxes, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name="user",
            index=models.Index("mailbox", name="users_mailbox", condition=models.Q(mailbox__isnull=False)),
        ),
        migrations.RunSQL(sql.read("mailbox_free.function.sql"), "drop function backoffice_mailbox_free"),
        migrations.RunSQL(sql.read("owner_living.function.sql"), "drop function backoffice_owner_living"),
        migrations.RunSQL(sql.read("form_open.function.sql"), "drop function backoffice_form_open"),
        migrations.RemoveIndex(model_name="user", name="users_search"),
        migrations.RemoveIndex(model_name="form", name="forms_search"),
        migrations.AddIndex(
            model_name="user",
            index=GinIndex(*searched("email", "first_name", "last_name"), name="users_search"),
        ),
        migrations.AddIndex(model_name="form", index=GinIndex(*searched("title"), name="forms_search")),
    ]
