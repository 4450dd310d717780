"""Declarations of lists: sorts, filters and searched columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db.models import Model

from backoffice.listing.filters import Filter


@dataclass(frozen=True, slots=True)
class Through:
    """Another table that has the column of a sort.

    Its unique column `key` has the primary key of the list's row. Pages are read along its index on (column, key).
    """

    model: type[Model]
    key: str


@dataclass(frozen=True, slots=True)
class ForeignColumn:
    """A column of another table, read together with the rows of a list; `default` if that table has no row."""

    through: Through
    name: str
    default: Any = None


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of a list. The table has an index on the columns that ends in the primary key.

    column     the first column; `then` are the following ones
    nullable   rows without a value come last in both directions, as do rows without a row in the table of `through`
    parse      reads the column's value back from a cursor
    is_text    names or a title: all columns are compared as `text.sort_text`, in the index too
    through    another table that has the column
    """

    column: str
    nullable: bool = False
    parse: Callable[[str], Any] = str
    then: tuple[str, ...] = ()
    is_text: bool = False
    through: Through | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """The sorts, filters and searched columns of one list. Columns in `search` have indexes on `text.SearchText`."""

    name: str
    model: type[Model]
    sorts: Mapping[str, Sort]
    default_sort: str
    filters: Mapping[str, Filter] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    category: str = ""

    @property
    def pk(self) -> str:
        """The name of the primary key's attribute on the list's rows."""
        return str(self.model._meta.pk.attname)


CREATED: Final = Sort("created_at", parse=datetime.fromisoformat)

# Name -> list. Filled from the declarations in `ready()`.
SPECS: Final[dict[str, Spec]] = {}


def named(spec: str | Spec) -> Spec:
    return SPECS[spec] if isinstance(spec, str) else spec
