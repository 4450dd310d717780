"""Forms belong to users, submissions to forms."""

from django.db import migrations

from backoffice import sql


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0001_initial"), ("events", "0001_initial")]
    operations = [
        migrations.RunSQL(
            sql.read("owners.constraint.sql"),
            "alter table forms drop constraint forms_user_id_exists;"
            "alter table submissions drop constraint submissions_form_id_exists",
        )
    ]
