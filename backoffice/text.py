"""Normalises text inside the database for searching."""

from __future__ import annotations

from django.db.models import Func, TextField


class Composed(Func):
    """Text in Unicode's composed form (NFC), normalised by PostgreSQL, so that equal letters compare equal."""

    function = "normalize"
    template = "%(function)s(%(expressions)s, NFC)"
    arity = 1
    output_field = TextField()
