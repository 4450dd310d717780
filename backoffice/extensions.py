"""Columns, API fields and panels of extensions (`Section.extends`), limited to those that one person may see.

Values are loaded once for all rows of a page, never row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from backoffice import access, section
from backoffice.listing import ForeignColumn
from backoffice.section import Column, Extension, Kind

Values = dict[Any, dict[str, Any]]  # key of a row -> values by field


def columns(kind: Kind, staff: Any) -> list[Column]:
    """Returns the columns of extensions, shown after the kind's own."""
    hidden = access.hidden_fields(staff, kind.category)
    return [
        column for more in section.extensions(kind.category) for column in more.columns if column.value not in hidden
    ]


def cells(kind: Kind, items: Sequence[Any], staff: Any) -> Values:
    """Returns the values of the columns of extensions."""
    return _values(kind, [item.pk for item in items], staff, lambda more: [column.value for column in more.columns])


def api_values(kind: Kind, keys: Sequence[Any], staff: Any) -> Values:
    """Returns the API fields of extensions for one record."""
    return _values(kind, keys, staff, lambda more: more.api_fields if more.in_record else ())


def api_columns(kind: Kind, staff: Any) -> dict[str, ForeignColumn]:
    """Returns the API fields of a list's items that are read in the same statement as the rows."""
    hidden = access.hidden_fields(staff, kind.category)
    found = section.extensions(kind.category)
    return {name: column for more in found for name, column in more.api_columns.items() if name not in hidden}


def api_item_values(kind: Kind, keys: Sequence[Any], staff: Any) -> Values:
    """Returns the API fields of extensions for the items of a list, without the `api_columns`."""
    return _values(kind, keys, staff, lambda more: [name for name in more.api_fields if name not in more.api_columns])


def fed_by(kind: Kind, *, in_record: bool = False) -> list[str]:
    """Returns the subscriptions that update the values of extensions, in lists or in a single record."""
    found = [more for more in section.extensions(kind.category) if more.in_record or not in_record]
    return list(dict.fromkeys(name for more in found for name in more.fed_by))


def panels(kind: Kind, row: Any, staff: Any) -> list[dict[str, Any]]:
    """Returns template and context of each panel of extensions, shown after the kind's own."""
    hidden = access.hidden_fields(staff, kind.category)
    return [
        {"template": panel.template, "context": panel.context(row, staff)}
        for more in section.extensions(kind.category)
        for panel in more.panels
        if panel.field not in hidden
    ]


def _values(kind: Kind, keys: Sequence[Any], staff: Any, names_of: Callable[[Extension], Iterable[str]]) -> Values:
    """Returns the values of the visible ones of these fields; does not load extensions that have none."""
    hidden = access.hidden_fields(staff, kind.category)
    found: Values = {}
    for more in section.extensions(kind.category):
        names = {name for name in names_of(more) if name not in hidden}
        for key, values in (more.load(keys, staff) if names and keys else {}).items():
            found.setdefault(key, {}).update(_chosen(values, names))
    return found


def _chosen(values: Any, names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}
