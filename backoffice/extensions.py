"""What sections add to the kinds of others (`Section.extends`), as one person may see it.

Values are loaded once for all rows of a page, never row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from backoffice import access, section
from backoffice.section import Column, Extension, Kind

Values = dict[Any, dict[str, Any]]  # key of a row -> values by field


def columns(kind: Kind, staff: Any) -> list[Column]:
    """The columns after the kind's own."""
    hidden = access.hidden_fields(staff, kind.category)
    return [
        column for more in section.extensions(kind.category) for column in more.columns if column.value not in hidden
    ]


def cells(kind: Kind, items: Sequence[Any], staff: Any) -> Values:
    """The values of the columns after the kind's own."""
    return _values(kind, items, staff, lambda more: [column.value for column in more.columns])


def api_values(kind: Kind, items: Sequence[Any], staff: Any, *, in_record: bool = False) -> Values:
    """The API fields beside the kind's own: of a list's items, or of one record."""
    return _values(kind, items, staff, lambda more: more.api_fields if more.in_record or not in_record else ())


def fed_by(kind: Kind) -> list[str]:
    """The subscriptions that keep values of the list."""
    return list(dict.fromkeys(name for more in section.extensions(kind.category) for name in more.fed_by))


def panels(kind: Kind, row: Any, staff: Any) -> list[dict[str, Any]]:
    """The panels of a record's page after the kind's own, as template and context."""
    hidden = access.hidden_fields(staff, kind.category)
    return [
        {"template": panel.template, "context": panel.context(row, staff)}
        for more in section.extensions(kind.category)
        for panel in more.panels
        if panel.field not in hidden
    ]


def _values(kind: Kind, items: Sequence[Any], staff: Any, names_of: Callable[[Extension], Iterable[str]]) -> Values:
    """The values of these fields that the person may see; an extension with none of them is not asked."""
    hidden = access.hidden_fields(staff, kind.category)
    keys = [item.pk for item in items]
    found: Values = {}
    for more in section.extensions(kind.category):
        names = {name for name in names_of(more) if name not in hidden}
        for key, values in (more.load(keys, staff) if names and keys else {}).items():
            found.setdefault(key, {}).update(_chosen(values, names))
    return found


def _chosen(values: Any, names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}
