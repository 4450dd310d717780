"""Indexes of the lists: of living records, and of deleted ones. Built while the tables are written."""

from django.db import migrations, models
from django.db.models import F, Q

from backoffice.index_operations import BuildIndex
from backoffice.text import sort_text

LIVE = Q(deleted_at=None)
DELETED = Q(deleted_at__isnull=False)


def by_date(name, *columns, condition=None):
    return models.Index(*columns, F("created_at").desc(), F("id").desc(), name=name, condition=condition)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("backoffice", "0009_search_indexes")]
    operations = [
        # users/ (the default order), and the overview's new users of a day
        BuildIndex("user", by_date("users_live_created", condition=LIVE)),
        # users/?plan=…
        BuildIndex("user", by_date("users_live_plan", F("plan"), condition=LIVE)),
        # users/?role=…
        BuildIndex("user", by_date("users_live_role", F("role"), condition=LIVE)),
        # users/?sort=email
        BuildIndex("user", models.Index(F("email"), F("id"), name="users_live_email", condition=LIVE)),
        # users/?sort=name
        BuildIndex(
            "user",
            models.Index(
                sort_text("last_name"),
                sort_text("first_name"),
                F("id"),
                name="users_live_name",
                condition=LIVE,
            ),
        ),
        # users/?sort=last_login
        BuildIndex("user", models.Index(F("last_login"), F("id"), name="users_live_last_login", condition=LIVE)),
        # users/?deleted=true
        BuildIndex("user", by_date("users_deleted", condition=DELETED)),
        # forms/
        BuildIndex("form", by_date("forms_live_created", condition=LIVE)),
        # forms/?sort=title
        BuildIndex("form", models.Index(sort_text("title"), F("id"), name="forms_live_title", condition=LIVE)),
        # forms/?deleted=true
        BuildIndex("form", by_date("forms_deleted", condition=DELETED)),
        # forms/?user=…, and all forms of a person for an erasure or an export
        BuildIndex("form", by_date("forms_user", F("user"))),
        # forms/?user=…&archived=false
        BuildIndex("form", by_date("forms_user_in_use", F("user"), condition=LIVE & Q(archived=False))),
        # submissions/
        BuildIndex("submission", by_date("submissions_live_created", condition=LIVE)),
        # submissions/?deleted=true
        BuildIndex("submission", by_date("submissions_deleted", condition=DELETED)),
    ]
