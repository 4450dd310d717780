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
# role -> what it may do, or the fields that this is about. `admin` and superusers may do everything and are not listed.
Roles = Mapping[str, frozenset[str]]
Redaction = Callable[[str | None, Mapping[str, Any]], dict[str, Any]]


# -- pages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class NavItem:
    """An entry of the navigation.

    group    one of `navigation.GROUPS`; entries of a group stand in the order of the sections, then by `order`
    visible  (staff) -> is it shown to this person?
    key      the key that goes there after `g`
    count    (staff) -> the number beside it
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
    """A column of a list. `sort` is one of the kind's sorts; `field` must not be hidden; phones leave out `wide` ones.

    `value` is the field that a list without a template of its own shows.
    """

    label: Text
    sort: str | None = None
    field: str | None = None
    wide: bool = False
    number: bool = False
    value: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A filter of a list as a menu of values; the first, empty one leaves it out."""

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
    """A filter of a list by another record. `label` shows its ``%(name)s`` or ``%(title)s``."""

    category: str
    label: Text


@dataclass(frozen=True, kw_only=True, slots=True)
class Inbox:
    """Where commands go that could not be carried out unseen. All of it happens outside the command's transaction.

    file    (command, conflict, source) -> the conflict's id; the same one for the same command
    review  (command, seen, base_version, source) -> files a change that is too old, as the `errors.Conflict` to raise
    recall  (command) raises the `errors.Conflict` that this command was answered with before
    page    the name of the address of a conflict's page
    """

    file: Callable[[Command, errors.Conflict, Any], str]
    review: Callable[[Command, Any, int, Any], errors.Conflict]
    recall: Callable[[Command], None]
    page: str


def plain_title(row: Any, _staff: Any) -> str:
    """A record is called what its model says."""
    return str(row)


def nothing_beside(_row: Any, _staff: Any) -> dict[str, Any]:
    return {}


def ingested(category: str, *actions: str) -> dict[str, str]:
    """Names of what happened at FormEase and the commands for it: ``user.created`` is ``user.create``."""
    past = {action: f"{action}d" if action.endswith("e") else f"{action}ed" for action in actions}
    return {f"{category}.{past[action]}": f"{category}.{action}" for action in actions}


def commands(category: str, *actions: str) -> frozenset[str]:
    """The names of commands: ``user.create``."""
    return frozenset(f"{category}.{action}" for action in actions)


def uuid_key(key: str) -> str:
    """A UUID in its canonical spelling: another spelling would be another stream. Raises `InvalidCommand`."""
    try:
        return str(uuid.UUID(key))
    except ValueError:
        raise errors.InvalidCommand(fields={"key": "The key of this record must be a UUID."}) from None


# -- what one section adds to the kinds of another --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A panel in the main column of a record's page.

    template  finds the result of `context` as ``panel``
    context   (row, staff) -> the values it shows
    field     its name in `Extension.hidden`
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
    """What a section adds to a kind of record of another section, which does not import it.

    category     the kind
    columns      shown after the kind's own; `Column.value` names the field that a cell shows
    sorts        added to those of the kind, for ``sort=``
    load         reads the values of a page's rows, all at once; a row without values has dashes and no API fields
    item_fields  fields of the API's list items, as a struct whose own fields are added to the kind's shape
    in_record    whether a single record has the fields too. They change without its version, so 304 is not answered
    panels       shown on the record's page after the kind's own
    hidden       role -> names of fields: it gets no column, sort, API field or panel of these names
    fed_by       subscriptions that keep the values: ``consistent=1`` waits for them
    """

    category: str
    columns: tuple[Column, ...] = ()
    sorts: Mapping[str, listing.Sort] = field(default_factory=dict)
    load: Load = load_nothing
    item_fields: type[msgspec.Struct] | None = None
    in_record: bool = False
    panels: tuple[Panel, ...] = ()
    hidden: Mapping[str, frozenset[str]] = field(default_factory=dict)
    fed_by: tuple[str, ...] = ()

    @property
    def api_fields(self) -> tuple[str, ...]:
        return self.item_fields.__struct_fields__ if self.item_fields else ()

    @property
    def names(self) -> frozenset[str]:
        """All names that it adds; none of them may be one of the kind's own."""
        columns, panels = (column.value for column in self.columns), (panel.field for panel in self.panels)
        return frozenset((*columns, *self.sorts, *self.api_fields, *panels)) - {""}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderItem:
    """An item in the header of every page; its template finds the result of `context` as ``header_item``."""

    template: str
    context: Callable[[HttpRequest], dict[str, Any]]
    visible: Callable[[Any], bool]  # (staff) -> is it shown to this person?


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexPage:
    """The view that answers the site's index in place of the overview. At most one section declares it."""

    view: Callable[[AdminSite, HttpRequest], HttpResponse]
