"""Text in the database: its composed form, the form in which it is searched, and its order for people."""

from __future__ import annotations

from typing import Final

from django.db.models import Func, TextField

# The collation of people's names and of titles: Unicode's default order, under the same name on every PostgreSQL.
# Index, ORDER BY and comparison need the same one, else rows at the borders of pages are skipped or repeated.
HUMAN: Final = "und-x-icu"


class Composed(Func):
    """Text in Unicode's composed form (NFC), as PostgreSQL normalises it: the same letters are the same text."""

    function = "normalize"
    template = "%(function)s(%(expressions)s, NFC)"
    arity = 1
    output_field = TextField()


class SearchText(Func):
    """Text as it is searched: composed, without accents, upper case. Index and query call the same SQL function."""

    function = "search_text"
    arity = 1
    output_field = TextField()
