"""Indexes of the search, built while the tables are written."""

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations, models

from backoffice.index_operations import BuildIndex
from backoffice.text import SearchText


def words(name, *columns):
    return GinIndex(*(OpClass(SearchText(column), "gin_trgm_ops") for column in columns), name=name)


def begins(name, column):
    return models.Index(OpClass(SearchText(column), "text_pattern_ops"), name=name)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("backoffice", "0008_search_text")]
    operations = [
        # users/?search=… with words of three letters and more
        BuildIndex("user", words("users_words", "email", "first_name", "last_name")),
        # forms/?search=… and submissions/?search=… with words of three letters and more
        BuildIndex("form", words("forms_words", "title")),
        # users/?search=… with one or two letters
        BuildIndex("user", begins("users_email_begins", "email")),
        BuildIndex("user", begins("users_first_name_begins", "first_name")),
        BuildIndex("user", begins("users_last_name_begins", "last_name")),
        # forms/?search=… and submissions/?search=… with one or two letters
        BuildIndex("form", begins("forms_title_begins", "title")),
    ]
