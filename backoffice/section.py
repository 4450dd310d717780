"""Declarations of the product: a `Section` is one capability, a `Kind` is one kind of record.

Each folder under `sections/` declares one `SECTION` in its `section.py`. The settings list these modules (`SECTIONS`).
`AppConfig.ready()` imports them; then the shell builds site, URLs, permissions, topics, API and projections from them.
No module reads the declarations at import time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import msgspec
from django.conf import settings
from django.contrib.admin import AdminSite, ModelAdmin
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.urls import URLPattern
from django.utils.translation import gettext_lazy as _

from backoffice import listing
from backoffice.parts import (
    DELETED_CHOICE,
    Choice,
    Column,
    Extension,
    HeaderItem,
    Inbox,
    IndexPage,
    Narrowing,
    NavItem,
    Panel,
    Redaction,
    Roles,
    Text,
    commands,
    ingested,
    no_context,
    nobody,
    plain_title,
    uuid_key,
)
from events import errors
from events.aggregate import Aggregate
from events.conflicts import Policy
from events.extension import Projection, Purger
from events.rebuild.read_tables import ReadTable
from events.types import JsonDict, RecordedEvent
from realtime.auth import Revocation
from realtime.topics import Topic

__all__ = [
    "DELETED_CHOICE",
    "Choice",
    "Column",
    "Extension",
    "HeaderItem",
    "Inbox",
    "IndexPage",
    "Kind",
    "Narrowing",
    "NavItem",
    "Panel",
    "Roles",
    "Section",
    "Text",
    "commands",
    "ingested",
    "uuid_key",
]

CREATED: Text = _("Created")


# -- a kind of record -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """One kind of record: its pages, permissions, commands, list, history, live topic and API."""

    # -- identity
    category: str  # first part of stream names and command names: ``user``
    name: str  # in URLs, scopes and topics: ``users``
    model: type[Model]
    aggregate: Aggregate
    projection: Projection  # updates the read table, inside the transaction that writes the events
    key: Callable[[str], str] = uuid_key  # normalises a key; raises `InvalidCommand`
    key_help: str = "The record's UUID."  # description of the key in the API

    # -- labels and messages
    icon: str = "forms"  # a symbol of static/backoffice/icons.svg
    singular: Text = ""
    add_label: Text = ""  # button that opens the form of a new record
    empty: Text = ""  # message of a list without records
    searchable: Text = ""  # placeholder of the list's search
    created_label: Text = CREATED
    labels: Mapping[str, Text] = field(default_factory=dict)  # field -> label; default: the model's verbose name
    title: Callable[[Any, Any], str] = plain_title  # (row, staff) -> name of the record
    owner: Callable[[Any, Any], str] = nobody  # (row, staff) -> name of the user whom the record belongs to
    owner_related: tuple[str, ...] = ()  # relations read with the rows for `owner`, besides `related`

    # -- permissions. Administrators may do everything and are not listed
    rights: Roles = field(default_factory=dict)  # role -> actions: ``view``, and command names after the dot
    hidden: Roles = field(default_factory=dict)  # role -> fields left out of pages, history, API, export and frames
    read_only: Roles = field(default_factory=dict)  # role -> fields that it sees but cannot change

    # -- names of the commands behind the buttons and the API's methods; None: there is no button
    create: str | None = None
    update: str | None = None  # the same as `create` when one command does both
    delete: str | None = None
    restore: str | None = None
    erase: str | None = None
    export: str | None = None

    # -- the list
    columns: tuple[Column, ...] = ()
    sorts: Mapping[str, listing.Sort] = field(default_factory=lambda: {"created_at": listing.CREATED})
    default_sort: str = "-created_at"
    filters: Mapping[str, listing.Filter] = field(default_factory=dict)
    filter_defaults: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()  # columns with indexes on `text.SearchText`
    related: tuple[str, ...] = ()  # relations loaded with each row (`select_related`)
    heavy: tuple[str, ...] = ()  # large columns, not loaded when only the record's title is needed
    choices: tuple[Choice, ...] = ()  # menus above the list; each belongs to one of `filters`
    narrowings: Mapping[str, Narrowing] = field(default_factory=dict)  # filter -> the record that it filters by
    row_context: Callable[[Any, Any], dict[str, Any]] = no_context  # (row, staff) -> context of a row's template
    on_overview: bool = False  # the overview shows the number of records
    found_by_id_only: bool = False  # the search over all kinds finds its records by id, not by text

    # -- the record's page
    form: type[Any] | None = None  # a `web.forms.RecordForm`; None: the page is read-only
    add_form: type[Any] | None = None
    prefilled: tuple[str, ...] = ()  # fields that the query string may set in the form of a new record
    taken: Text = ""  # error when `create` is also `update` and the record exists
    fact_templates: Mapping[str, str] = field(default_factory=dict)  # field -> template for people who may not edit
    facts: tuple[str, ...] = ()  # fields shown to people who may not edit; default: the fields of the form
    panels: Callable[[Any, Any], dict[str, Any]] = no_context  # (row, staff) -> context of the templates of its page
    offline: bool = False  # browsers cache its pages, and people can edit them without a network

    # -- fields in history, comparisons and events
    references: tuple[str, ...] = ()  # keys of other records, shown as links and not as changes
    automatic: tuple[str, ...] = ()  # set by the product: left out of summaries and never restored
    personal: tuple[str, ...] = ()  # shown as "erased" after an erasure
    formats: Mapping[str, Callable[[Any, bool], str | None]] = field(default_factory=dict)
    # ^ field -> function (value, whole) -> text; None: formatted by its type
    summaries: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)  # field -> text in an event's summary
    items: Mapping[str, Text] = field(default_factory=dict)  # list field -> name of an item, with ``%(label)s``
    compared: Mapping[str, Policy] = field(default_factory=dict)  # comparison of fields without a merge policy

    # -- live
    record_topic: str | None = None  # each record has its own topic ``user:<key>``; None: only the kind has one
    follows: tuple[str, ...] = ()  # other categories whose events its topic includes
    show: Callable[[RecordedEvent, str], JsonDict | None] | None = None  # (event, role) -> frame; None: `topics.show`

    # -- API
    shape: type[msgspec.Struct] | None = None  # None: not readable through the API
    is_posted: bool = False  # a POST to its list creates a record too, as `commands/` does
    filter_help: Mapping[str, str] = field(default_factory=dict)  # filter -> its description in the API
    ingested: Mapping[str, str] = field(default_factory=dict)  # type of a CloudEvent -> command
    routine: frozenset[str] = frozenset()  # commands for which an API key needs only the scope of `ingest/`

    @cached_property
    def spec(self) -> listing.Spec:
        """The list's filters, sorts and search, with the sorts of extensions. Complete once all sections are loaded."""
        added = {name: sort for more in extensions(self.category) for name, sort in more.sorts.items()}
        return listing.Spec(
            name=self.name,
            category=self.category,
            model=self.model,
            sorts={**self.sorts, **added},
            default_sort=self.default_sort,
            filters=self.filters,
            defaults=self.filter_defaults,
            search=self.search,
            related=self.related,
        )

    @property
    def read_table(self) -> ReadTable:
        return ReadTable(name=self.model._meta.db_table, category=self.category, project=self.projection)

    @property
    def topic(self) -> str:
        return self.name

    def topic_of(self, key: Any) -> str:
        """The topic of one record; without its own, the topic of the kind."""
        return f"{self.record_topic}:{key}" if self.record_topic else self.topic

    @property
    def plural(self) -> str:
        return str(self.model._meta.verbose_name_plural)

    @property
    def is_uuid_keyed(self) -> bool:
        return self.model._meta.pk.get_internal_type() == "UUIDField"

    def templates(self, part: str) -> tuple[str, str]:
        """Candidate templates for a part of a page: row, related, icon, badges, facts or detail. The first wins."""
        return f"admin/backoffice/{self.category}/{part}.html", f"admin/backoffice/kind/{part}.html"

    def url(self, view: str) -> str:
        return f"admin:backoffice_{self.category}_{view}"

    def __getattr__(self, name: str) -> Any:
        """Resolves names in templates: ``resource.url_history`` is a URL name, ``resource.template_row`` a template."""
        if name.startswith("url_"):
            return self.url({"url_list": "changelist"}.get(name, name.removeprefix("url_")))
        if name.startswith("template_"):
            return self.templates(name.removeprefix("template_"))
        raise AttributeError(name)

    def label(self, name: str) -> str:
        """Returns the label of a field."""
        if name in self.labels:
            return str(self.labels[name])
        known = {field.name: field for field in self.model._meta.get_fields()}.get(name.removesuffix("_id"))
        return str(getattr(known, "verbose_name", name.replace("_", " ")))

    def choice_label(self, name: str, value: Any) -> str | None:
        """Returns the label of a stored choice; None for other values and for fields without choices."""
        known = {field.name: field for field in self.model._meta.get_fields()}.get(name)
        choices = dict(getattr(known, "choices", None) or ())
        return str(choices[value]) if value in choices else None


# -- a section --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One capability of the product. All parts but the name are optional."""

    name: str
    kinds: tuple[Kind, ...] = ()

    # -- pages
    navigation: tuple[NavItem, ...] = ()
    admins: Mapping[type[Model], type[ModelAdmin[Any]]] = field(default_factory=dict)
    admin_urls: Callable[[AdminSite], Sequence[URLPattern]] | None = None  # pages that belong to no model
    record_pages: tuple[type[Any], ...] = ()  # pages of every record: `web.kind_admin.RecordPages`
    extends: tuple[Extension, ...] = ()  # columns, sorts, API fields and panels for kinds of other sections
    header: tuple[HeaderItem, ...] = ()  # items in the header of every page
    index: IndexPage | None = None  # replaces the overview; at most one section declares it
    # static style sheets and JavaScript modules of every page; their folders are kept for pages without a network
    styles: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    # -- API: a module whose `urlpatterns` are under ``v1/``. A string, so that only the web process imports views
    api_urls: str = ""
    api_shapes: str | tuple[str, ...] = ()  # modules of structs for the API's description
    scopes: tuple[str, ...] = ()  # of API keys, beside those of its kinds: `alerts` means `alerts:read` and so on

    # -- permissions for categories without a kind, such as ``event`` and ``system``
    rights: Mapping[str, Roles] = field(default_factory=dict)
    # category -> function (role, data) -> event data without the parts that the role must not see
    redactions: Mapping[str, Redaction] = field(default_factory=dict)

    # -- live
    topics: tuple[Topic, ...] = ()
    widgets: Mapping[str, tuple[str, str, str] | None] = field(default_factory=dict)  # see `topics.WIDGETS`
    revocations: Mapping[str, Callable[[RecordedEvent], Revocation | None]] = field(default_factory=dict)

    # -- events: aggregates and read tables without a kind, and functions that run in the transaction of an event.
    # A rebuild runs only the projections of read tables
    aggregates: tuple[Aggregate, ...] = ()
    read_tables: tuple[ReadTable, ...] = ()
    before: Mapping[str, Projection] = field(default_factory=dict)  # category -> run before the read tables
    after: Mapping[str, Projection] = field(default_factory=dict)  # category -> run after the read tables
    # name of a database constraint -> the error for the caller
    constraints: Mapping[str, Callable[[], errors.EventsError]] = field(default_factory=dict)
    purgers: Mapping[str, Purger] = field(default_factory=dict)
    inbox: Inbox | None = None

    tasks: tuple[Any, ...] = ()  # Celery tasks, registered by name; the settings contain their schedule

    ready: Callable[[], None] | None = None  # called once, after everything else is registered


# -- all of them ------------------------------------------------------------------------------------------------------

_sections: dict[str, Section] = {}
_kinds: dict[str, Kind] = {}
_rights: dict[str, Roles] = {}
_redactions: dict[str, Redaction] = {}
_extensions: dict[str, list[Extension]] = {}


def load() -> None:
    """Imports the sections that the settings list; `ready()` calls it, and repeated calls change nothing.

    Raises `ImproperlyConfigured` for declarations that contradict each other.
    """
    for name in settings.SECTIONS:
        if name not in _sections:
            add(name, import_module(name).SECTION)
    _check_index()
    for category, added in _extensions.items():
        _check_extensions(category, added)


def add(name: str, section: Section) -> None:
    _sections[name] = section
    for kind in section.kinds:
        _kinds[kind.category] = kind
        _rights[kind.category] = kind.rights
    _rights.update(section.rights)
    _redactions.update(section.redactions)
    for more in section.extends:
        _extensions.setdefault(more.category, []).append(more)


def _check_index() -> None:
    found = [one.name for one in sections() if one.index]
    if len(found) > 1:
        raise ImproperlyConfigured(f"Only one section may declare an index page, these do: {', '.join(found)}.")


def _check_extensions(category: str, added: Sequence[Extension]) -> None:
    """Checks that the kind exists, that no name is used twice, and that `api_columns` are API fields."""
    if category not in _kinds:
        raise ImproperlyConfigured(f"An extension names {category!r}, which is no kind of record.")
    kind = _kinds[category]
    taken = {*kind.sorts, *(field.name for field in kind.model._meta.get_fields())}
    for more in added:
        if twice := taken & more.names:
            raise ImproperlyConfigured(f"An extension of {category!r} has names in use: {', '.join(sorted(twice))}.")
        if unknown := more.api_columns.keys() - set(more.api_fields):
            listed = ", ".join(sorted(unknown))
            raise ImproperlyConfigured(f"An extension of {category!r} reads columns that are no API fields: {listed}.")
        taken |= more.names


def sections() -> list[Section]:
    """All sections, in the order of the settings."""
    return list(_sections.values())


def kinds() -> list[Kind]:
    """All kinds of record, in the order of their sections."""
    return list(_kinds.values())


def kind(category: str) -> Kind:
    """Returns the kind of record of this category. Raises `KeyError` for other categories."""
    return _kinds[category]


def find(category: str) -> Kind | None:
    return _kinds.get(category)


def rights(category: str) -> Roles:
    """Returns the rights to a category: role -> permitted actions."""
    return _rights.get(category, {})


def redaction(category: str) -> Redaction | None:
    """The function that redacts events of a category beyond hidden fields; None if there is none."""
    return _redactions.get(category)


def extensions(category: str) -> Sequence[Extension]:
    """The extensions of this kind of record, in the order of the settings."""
    return _extensions.get(category, ())


def hidden(role: str, category: str) -> frozenset[str]:
    """Returns the fields of a kind and its extensions that the role never sees; empty for other categories."""
    if category not in _kinds:
        return frozenset()
    found = _kinds[category].hidden.get(role, frozenset())
    for more in extensions(category):
        found |= more.hidden.get(role, frozenset())
    return found


def inbox() -> Inbox | None:
    return next((section.inbox for section in sections() if section.inbox), None)


def index() -> IndexPage | None:
    return next((section.index for section in sections() if section.index), None)
