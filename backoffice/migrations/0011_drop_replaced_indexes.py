"""Drop the indexes that those of 0009 and 0010 replace."""

from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("backoffice", "0010_live_indexes")]
    operations = [
        # users_words, forms_words
        RemoveIndexConcurrently("user", "users_search"),
        RemoveIndexConcurrently("form", "forms_search"),
        # users_live_created, users_live_plan, users_live_email, users_live_last_login
        RemoveIndexConcurrently("user", "users_created"),
        RemoveIndexConcurrently("user", "users_plan_created"),
        RemoveIndexConcurrently("user", "users_email"),
        RemoveIndexConcurrently("user", "users_last_login"),
        # forms_live_created, forms_user, forms_live_title
        RemoveIndexConcurrently("form", "forms_created"),
        RemoveIndexConcurrently("form", "forms_user_created"),
        RemoveIndexConcurrently("form", "forms_title"),
        # submissions_live_created
        RemoveIndexConcurrently("submission", "submissions_created"),
    ]
