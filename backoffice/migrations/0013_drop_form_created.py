"""Drop the index that `submissions_form_live` and `submissions_form_all` replace."""

from django.db import migrations

from backoffice.index_operations import DropIndex


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("backoffice", "0012_list_indexes")]
    operations = [DropIndex("submission", "submissions_form_created")]
