"""Fills the read table of every list with rows made from the model's fields, so that a new kind needs nothing here.

A row is a function of its number. Columns are independent of each other: each filter matches a good part of the rows,
a key a few.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any, Final

from django.db import connection, models

from backoffice import listing

ROWS: Final = 20_000
CHILDREN: Final = 10  # rows of one parent, for example forms of one user
COMMON: Final = "common"  # a word in half of all texts
RARE: Final = "seldom"  # a word in `RARE_ROWS` texts
RARE_ROWS: Final = 20
MAX_WORDS: Final = 40  # a shorter column has no room for words


def fill(specs: Iterable[listing.Spec]) -> None:
    """Insert `ROWS` rows into the tables of these lists, and into those that their sorts walk."""
    wanted: dict[type[models.Model], dict[str, str]] = {}
    for spec in specs:
        wanted[spec.model] = {}
        for sort in spec.sorts.values():
            if sort.through:
                key = sort.through.model._meta.get_field(sort.through.key)
                wanted[sort.through.model] = {key.column: _key(spec.model)}
    for model, given in wanted.items():
        _fill(model, given, wanted)
    with connection.cursor() as cursor:
        cursor.execute(CLEAN)
        cursor.execute(f"analyze {', '.join(model._meta.db_table for model in wanted)}")


# Completes the work that a batch of inserts postponed in the indexes of words.
CLEAN: Final = """
select gin_clean_pending_list(i.indexrelid::regclass) from pg_index i join pg_class c on c.oid = i.indexrelid
  join pg_am a on a.oid = c.relam where a.amname = 'gin' and c.relnamespace = current_schema()::regnamespace
"""


def _fill(model: type[models.Model], given: dict[str, str], filled: Iterable[type[models.Model]]) -> None:
    columns = {field.column: _value(field, filled) for field in model._meta.concrete_fields} | given
    statement = f"insert into {model._meta.db_table} ({', '.join(columns)}) select {', '.join(columns.values())}"
    with connection.cursor() as cursor:
        cursor.execute(f"delete from {model._meta.db_table}")
        cursor.execute(f"{statement} from generate_series(1, {ROWS}) n")


def _key(model: type[models.Model], n: str = "n") -> str:
    """The primary key of row `n`."""
    if model._meta.pk.get_internal_type() == "UUIDField":
        return f"md5('{model._meta.db_table}' || {n})::uuid"
    return _words(model._meta.db_table, n)


def _words(name: str, n: str = "n") -> str:
    """A text that begins with a number, so that rows with the same word are spread over a list sorted by it."""
    rare = f"case when {n} % {ROWS // RARE_ROWS} = 7 then '{RARE} ' else '' end"
    return f"({_number(name, n)} || ' ' || {rare} || (array['{COMMON}', 'plain'])[1 + {n} % 2] || ' ' || {n})"


def _number(name: str, n: str = "n") -> str:
    """A number that depends on the row and on the name of its column only."""
    return f"(hashint4({n} + {zlib.crc32(name.encode()) % 1_000_000}) & 2147483647)"


def _value(field: Any, filled: Iterable[type[models.Model]]) -> str:
    """SQL for a column."""
    number = _number(field.column)
    kind = field.get_internal_type()
    if field.primary_key:
        return _key(field.model)
    if field.is_relation:
        related = field.related_model in filled
        return _key(field.related_model, f"(n % {ROWS // CHILDREN} + 1)") if related else "null"
    if field.choices:
        names = ", ".join(f"'{name}'" for name, _ in field.choices)
        return f"(array[{names}])[1 + {number} % {len(field.choices)}]"
    if kind == "DateTimeField":
        moment = f"now() - {number} % 86400 * interval '1 minute'"  # 60 days
        if not field.null:
            return moment
        missing = f"{number} / 7 % 4"  # a quarter is deleted, and a quarter of other columns is empty
        return f"case when {missing} {'=' if field.name == 'deleted_at' else '<>'} 0 then {moment} end"
    if kind in ("CharField", "TextField"):
        if field.null:
            return "null"
        length = field.max_length or MAX_WORDS
        return _words(field.column) if length >= MAX_WORDS else f"left(to_hex({number}), {length})"
    if kind == "UUIDField":
        return f"md5('{field.column}' || {number} % {ROWS // CHILDREN})::uuid"
    if kind == "BooleanField":
        return f"{number} % 2 = 0"
    if kind == "JSONField":
        return f"'{json.dumps(field.get_default() if field.has_default() else None)}'::jsonb"
    if field.null:
        return f"case when {number} / 7 % 4 <> 0 then {number} % 100 end"  # a quarter is not counted yet
    return "1" if field.name == "version" else f"{number} % 100"
