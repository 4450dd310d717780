"""Text in the database as it is searched."""

from __future__ import annotations

from django.db.models import Func, TextField


class Composed(Func):
    """Text in Unicode's composed form (NFC), as PostgreSQL normalises it: the same letters are the same text."""

    function = "normalize"
    template = "%(function)s(%(expressions)s, NFC)"
    arity = 1
    output_field = TextField()
