"""Parts of the declarations of sections and kinds: columns, filters, navigation entries, panels, extensions.

`Section` and `Kind` themselves are in `section.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from backoffice import listing
from events import errors
from events.types import Command

Text = str | Promise
# role -> actions, or names of fields. `admin` and superusers may do everything and are not listed.
Roles = Mapping[str, frozenset[str]]
Redaction = Callable[[str | None, Mapping[str, Any]], dict[str, Any]]


# -- pages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class NavItem:
    """An entry of the navigation.

    group    one of `navigation.GROUPS`; a group is sorted by `order`, then in the order of the sections
    visible  (staff) -> True for people who see the entry
    key      keyboard shortcut: the key after `g`
    count    (staff) -> the number on its badge
    """

    label: Text
    url_name: str
    icon: str
    visible: Callable[[Any], bool]
    group: str = ""
    key: str = ""
    count: Callable[[Any], int] | None = None
    order: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a list.

    sort    the order that a click on its head selects: one of the kind's sorts, with ``-`` for descending
    field   the column is left out for roles from which this field is hidden
    wide    left out on phones
    number  aligned to the right
    value   the field in its cells, unless the kind has its own ``row.html``
    missing text of a cell of an extension without a value, in place of a dash
    """

    label: Text
    sort: str | None = None
    field: str | None = None
    wide: bool = False
    number: bool = False
    value: str = ""
    missing: Text = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A filter of a list as a menu of values. The first value is empty and means: no filter."""

    name: str
    label: Text
    values: tuple[tuple[str, Text], ...]


DELETED_CHOICE = Choice(
    name="deleted",
    label=_("Deleted or not"),
    values=(("", _("Not deleted")), ("true", pgettext_lazy("filter", "Deleted")), ("any", _("All"))),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Narrowing:
    """A filter of a list by another record. `label` may contain that record's ``%(name)s`` or ``%(title)s``."""

    category: str
    label: Text


@dataclass(frozen=True, kw_only=True, slots=True)
class Inbox:
    """The inbox for commands that a person must decide. Its functions run outside the command's transaction.

    file    (command, conflict, source) -> the conflict's id; the same id for the same command
    review  (command, seen, base_version, source) -> files a change that is too old; returns the `errors.Conflict`
    recall  (command) raises the `errors.Conflict` that the command received before
    page    URL name of a conflict's page
    """

    file: Callable[[Command, errors.Conflict, Any], str]
    review: Callable[[Command, Any, int, Any], errors.Conflict]
    recall: Callable[[Command], None]
    page: str


def plain_title(row: Any, _staff: Any) -> str:
    """Returns the title of a row: its `str()`. The default of `Kind.title`."""
    return str(row)


def nobody(_row: Any, _staff: Any) -> str:
    """Returns no owner, for kinds whose records belong to no user. The default of `Kind.owner`."""
    return ""


def no_context(_row: Any, _staff: Any) -> dict[str, Any]:
    return {}


def ingested(category: str, *actions: str) -> dict[str, str]:
    """Maps types of CloudEvents to commands: ``user.created`` to ``user.create``."""
    past = {action: f"{action}d" if action.endswith("e") else f"{action}ed" for action in actions}
    return {f"{category}.{past[action]}": f"{category}.{action}" for action in actions}


def commands(category: str, *actions: str) -> frozenset[str]:
    """The names of commands: ``user.create``."""
    return frozenset(f"{category}.{action}" for action in actions)


def uuid_key(key: str) -> str:
    """Normalises a UUID, because another spelling would name another stream. Raises `InvalidCommand`."""
    try:
        return str(uuid.UUID(key))
    except ValueError:
        raise errors.InvalidCommand(fields={"key": "The key of this record must be a UUID."}) from None


# -- extensions of kinds of other sections ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A panel in the main column of a record's page.

    template  gets the result of `context` as ``panel``
    context   (row, staff) -> values for the template
    field     name of the panel in `Extension.hidden`
    """

    template: str
    context: Callable[[Any, Any], dict[str, Any]]
    field: str = ""


# (keys of rows, staff) -> key -> values by field. Called once for a page of rows.
Load = Callable[[Sequence[Any], Any], Mapping[Any, Mapping[str, Any]]]


def load_nothing(_keys: Sequence[Any], _staff: Any) -> Mapping[Any, Mapping[str, Any]]:
    return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Extension:
    """Columns, sorts, API fields and panels for a kind of record of another section, which need not import this one.

    category     the kind
    columns      shown after the kind's own columns; `Column.value` names the field in a cell
    sorts        added to the kind's sorts, for ``sort=``
    load         loads the values for all rows of a page; a row without values shows dashes and has no API fields
    item_fields  struct whose fields are added to the API's list items
    api_columns  those of them that the list's own statement reads from another table; `load` reads the others
    in_record    adds the fields to the single record too. Then it never answers 304: values change without the version
    panels       shown on the record's page after the kind's own panels
    hidden       role -> names: the role gets no column, sort, API field or panel with such a name
    fed_by       subscriptions that update the values: ``consistent=1`` waits for them
    """

    category: str
    columns: tuple[Column, ...] = ()
    sorts: Mapping[str, listing.Sort] = field(default_factory=dict)
    load: Load = load_nothing
    item_fields: type[msgspec.Struct] | None = None
    api_columns: Mapping[str, listing.ForeignColumn] = field(default_factory=dict)
    in_record: bool = False
    panels: tuple[Panel, ...] = ()
    hidden: Mapping[str, frozenset[str]] = field(default_factory=dict)
    fed_by: tuple[str, ...] = ()

    @property
    def api_fields(self) -> tuple[str, ...]:
        return self.item_fields.__struct_fields__ if self.item_fields else ()

    @property
    def names(self) -> frozenset[str]:
        """All names that the extension adds; none may exist in the kind."""
        columns, panels = (column.value for column in self.columns), (panel.field for panel in self.panels)
        return frozenset((*columns, *self.sorts, *self.api_fields, *panels)) - {""}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderItem:
    """An item in the header of every page. Its template gets the result of `context` as ``header_item``."""

    template: str
    context: Callable[[HttpRequest], dict[str, Any]]
    visible: Callable[[Any], bool]  # (staff) -> True for people who see it


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexPage:
    """The view of the site's index, which replaces the overview. At most one section declares it."""

    view: Callable[[AdminSite, HttpRequest], HttpResponse]
