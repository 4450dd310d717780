"""Search in lists: turns words of any length into conditions that an index answers.

Words and columns pass through the same SQL function (`text.SearchText`): accents and case do not count. A word with
three letters or digits in a row is found anywhere in a column, by a trigram index. Shorter words have no trigram: a
search of only such words finds them at the beginning of a column, by a B-tree index; beside a longer word they are
found anywhere.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.db.models import BooleanField, Func, Q, TextField, Value

from backoffice import text
from backoffice.listing.refusals import InvalidFilter
from backoffice.listing.spec import Spec
from events.db import replica

MAX_SEARCH: Final = 200
MAX_WORDS: Final = 8

# Words as they are compared, and whether they have a trigram. PostgreSQL decides that with the same classes of
# characters with which pg_trgm takes trigrams out of a text.
FOLD: Final = """
select folded, folded ~ '[[:alnum:]]{3}'
  from unnest(%s::text[]) with ordinality as asked (word, place), search_text(word) as folded
 where folded <> '' order by place
"""


class Contains(Func):
    """`column like pattern`, which a trigram index answers."""

    template = "%(expressions)s"
    arg_joiner = " like "
    output_field = BooleanField()


class Begins(Contains):
    """`column ^@ text`, which a B-tree answers; for a short word a trigram index would read half of itself."""

    arg_joiner = " ^@ "


def words(search: str) -> str:
    """Returns the search without surrounding space. Raises `InvalidFilter` if it is too long."""
    found = search.strip()
    if len(found) > MAX_SEARCH:
        raise InvalidFilter(f"A search has at most {MAX_SEARCH} characters.", "search")
    return found


def whole_key(spec: Spec, asked: str) -> Any:
    """Returns the primary key if the search is a UUID and the list's keys are UUIDs, otherwise None."""
    if spec.model._meta.pk.get_internal_type() != "UUIDField":
        return None
    try:
        return uuid.UUID(asked)
    except ValueError:
        return None


def condition(spec: Spec, asked: str, hidden: frozenset[str]) -> Q | None:
    """Returns the condition that each word is in one of the searchable columns; None if nothing can match."""
    columns = [text.SearchText(name) for name in spec.search if name not in hidden]
    folded = _fold(asked.split()[:MAX_WORDS])
    if not columns or not folded:
        return None
    anywhere = any(has_trigram for _, has_trigram in folded)
    found = Q()
    for word, _ in folded:
        any_column = Q()
        for column in columns:
            any_column |= Q(Contains(column, _text(f"%{escaped(word)}%")) if anywhere else Begins(column, _text(word)))
        found &= any_column
    return found


def escaped(word: str) -> str:
    """Returns a word as a LIKE pattern that matches its characters literally."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _text(value: str) -> Value:
    return Value(value, output_field=TextField())


def _fold(found: list[str]) -> list[tuple[str, bool]]:
    with replica.database().cursor() as cursor:
        cursor.execute(FOLD, [found])
        return list(cursor.fetchall())
