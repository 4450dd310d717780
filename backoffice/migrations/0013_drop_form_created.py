"""Drop the index that `submissions_form_live` and `submissions_form_all` replace."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("backoffice", "0012_list_indexes")]
    operations = [RemoveIndexConcurrently("submission", "submissions_form_created")]
