"""The SQL function that search compares text by: without accents, upper case, composed."""

from django.contrib.postgres.operations import UnaccentExtension
from django.db import migrations

from backoffice import sql


class Migration(migrations.Migration):
    dependencies = [("backoffice", "0007_rules")]
    operations = [
        UnaccentExtension(),
        migrations.RunSQL(sql.read("search_fold.function.sql"), "drop function search_fold"),
        migrations.RunSQL(sql.read("search_text.function.sql"), "drop function search_text"),
    ]
