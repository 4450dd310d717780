"""Text in the database: its composed form, the form in which it is searched, and its order for people."""

from __future__ import annotations

from typing import Any

from django.db.models import Func, TextField
from django.db.models.functions import Collate


class Composed(Func):
    """Text in Unicode's composed form (NFC), normalised by PostgreSQL, so that equal letters compare equal."""

    function = "normalize"
    template = "%(function)s(%(expressions)s, NFC)"
    arity = 1
    output_field = TextField()


class SearchText(Func):
    """Text as it is searched: composed, without accents, upper case. Index and query call the same SQL function."""

    function = "search_text"
    arity = 1
    output_field = TextField()


def sort_text(text: Any) -> Collate:
    """Text as names and titles are sorted: without accents and case, so that Zoé comes after anna.

    The collation is not one of ICU: PostgreSQL can be built without ICU, as the embedded one is, and a newer ICU
    changes the order under an index. `C` compares bytes and never changes.
    """
    return Collate(SearchText(text), "C")
