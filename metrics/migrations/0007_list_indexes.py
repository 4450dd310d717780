"""Indexes of the lists of rules and silences: living and deleted ones, and the search."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations, models
from django.db.models import F, Q

from backoffice.text import SearchText

LIVE = Q(deleted_at=None)
DELETED = Q(deleted_at__isnull=False)


def by_date(name, condition):
    return models.Index(F("created_at").desc(), F("id").desc(), name=name, condition=condition)


def by_title(name, condition):
    return models.Index(F("title"), F("id"), name=name, condition=condition)


def words(name):
    return GinIndex(OpClass(SearchText("title"), "gin_trgm_ops"), name=name)


def begins(name):
    return models.Index(OpClass(SearchText("title"), "text_pattern_ops"), name=name)


class Migration(migrations.Migration):
    dependencies = [("metrics", "0006_dashboard"), ("backoffice", "0008_search_text")]
    operations = [
        # rules/, rules/?deleted=true, rules/?search=…
        migrations.AddIndex("rule", by_title("metrics_rule_live_title", LIVE)),
        migrations.AddIndex("rule", by_title("metrics_rule_deleted", DELETED)),
        migrations.AddIndex("rule", words("metrics_rule_words")),
        migrations.AddIndex("rule", begins("metrics_rule_begins")),
        migrations.RemoveIndex("rule", "metrics_rule_title"),
        migrations.RemoveIndex("rule", "metrics_rule_search"),
        # silences/, silences/?deleted=true, silences/?search=…
        migrations.AddIndex("silence", by_date("metrics_silence_live", LIVE)),
        migrations.AddIndex("silence", by_date("metrics_silence_deleted", DELETED)),
        migrations.AddIndex("silence", words("metrics_silence_words")),
        migrations.AddIndex("silence", begins("metrics_silence_begins")),
        migrations.RemoveIndex("silence", "metrics_silence_created"),
        migrations.RemoveIndex("silence", "metrics_silence_search"),
    ]
