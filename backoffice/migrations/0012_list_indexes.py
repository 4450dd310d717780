"""Indexes of lists: deleted records in every order, a form's living submissions, all conflicts, search for settings."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations, models
from django.db.models import F, Q

from backoffice.index_operations import BuildIndex
from backoffice.text import SearchText, sort_text

LIVE = Q(deleted_at=None)
DELETED = Q(deleted_at__isnull=False)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("backoffice", "0011_drop_replaced_indexes")]
    operations = [
        # users/?deleted=true&sort=email
        BuildIndex("user", models.Index(F("email"), F("id"), name="users_deleted_email", condition=DELETED)),
        # users/?deleted=true&sort=name
        BuildIndex(
            "user",
            models.Index(
                sort_text("last_name"),
                sort_text("first_name"),
                F("id"),
                name="users_deleted_name",
                condition=DELETED,
            ),
        ),
        # users/?deleted=true&sort=last_login
        BuildIndex(
            "user",
            models.Index(F("last_login"), F("id"), name="users_deleted_last_login", condition=DELETED),
        ),
        # forms/?deleted=true&sort=title
        BuildIndex(
            "form",
            models.Index(sort_text("title"), F("id"), name="forms_deleted_title", condition=DELETED),
        ),
        # submissions/?form=…
        BuildIndex(
            "submission",
            models.Index(
                F("form"),
                F("created_at").desc(),
                F("id").desc(),
                name="submissions_form_live",
                condition=LIVE,
            ),
        ),
        # all submissions of a form, for erasures and imports
        BuildIndex("submission", models.Index(F("form"), F("id"), name="submissions_form_all")),
        # conflicts/?status=any
        BuildIndex(
            "conflict",
            models.Index(F("created_at").desc(), F("id").desc(), name="conflicts_created"),
        ),
        # settings/?search=…
        BuildIndex("setting", GinIndex(OpClass(SearchText("key"), "gin_trgm_ops"), name="settings_words")),
        BuildIndex("setting", models.Index(OpClass(SearchText("key"), "text_pattern_ops"), name="settings_begins")),
    ]
