"""The two records that the product is declared with: `Section`, one capability, and `Kind`, one kind of record.

Each folder under `sections/` declares itself once, in `section.py`, as `SECTION`. The settings list the modules
(`SECTIONS`) and the shell reads the declarations in loops: site, addresses, rights, topics, API, projections. They are
imported in `AppConfig.ready()`; nothing reads them at import time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import msgspec
from django.conf import settings
from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import Model
from django.urls import URLPattern
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from backoffice import listing
from events import errors
from events.aggregate import Aggregate
from events.conflicts import Policy
from events.extension import Projection, Purger
from events.rebuild.read_tables import ReadTable
from events.types import Command, JsonDict, RecordedEvent
from realtime.auth import Revocation
from realtime.topics import Topic

Text = str | Promise
# role -> what it may do, or the fields that this is about. `admin` and superusers may do everything and are not listed.
Roles = Mapping[str, frozenset[str]]
Redaction = Callable[[str | None, Mapping[str, Any]], dict[str, Any]]


# -- parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class NavItem:
    """An entry of the navigation.

    group    one of `site.GROUPS`; entries of a group stand in the order of the sections, then by `order`
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


def uuid_key(key: str) -> str:
    """A UUID in its canonical spelling: another spelling would be another stream. Raises `InvalidCommand`."""
    try:
        return str(uuid.UUID(key))
    except ValueError:
        raise errors.InvalidCommand(fields={"key": "The key of this record must be a UUID."}) from None


# -- a kind of record -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """One kind of record, in everything that is asked of it."""

    # -- what it is
    category: str  # first part of its streams and commands: ``user``
    name: str  # in addresses, scopes and topics: ``users``
    model: type[Model]
    aggregate: Aggregate
    projection: Projection  # keeps its read table, inside the transaction that writes the events
    key: Callable[[str], str] = uuid_key  # a key as its stream spells it; raises `InvalidCommand`
    key_help: str = "The record's UUID."

    # -- in words
    icon: str = "forms"
    singular: Text = ""
    add_label: Text = ""
    empty: Text = ""
    searchable: Text = ""
    labels: Mapping[str, Text] = field(default_factory=dict)  # of fields; else the model says
    title: Callable[[Any, Any], str] = plain_title  # (row, staff) -> what the record is called

    # -- who may do what
    rights: Roles = field(default_factory=dict)  # role -> actions: view, and the parts of its commands after the dot
    hidden: Roles = field(default_factory=dict)  # role -> fields it never sees: no page, history, export or frame
    read_only: Roles = field(default_factory=dict)  # role -> fields it sees and may not change

    # -- its commands by what they do; None: not by hand
    create: str | None = None
    update: str | None = None  # the same as `create` where one command does both
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
    search: tuple[str, ...] = ()  # columns with a trigram index on their upper case
    related: tuple[str, ...] = ()  # what rows are read together with
    heavy: tuple[str, ...] = ()  # columns left unread where only the record's title is wanted
    choices: tuple[Choice, ...] = ()
    narrowings: Mapping[str, Narrowing] = field(default_factory=dict)  # filter -> the record it is about
    row_context: Callable[[Any, Any], dict[str, Any]] = nothing_beside  # (row, staff) -> more for a row's template
    on_overview: bool = False
    found_by_id_only: bool = False  # the search over all kinds leaves its words out

    # -- the record's page
    form: type[Any] | None = None  # a `web.forms.RecordForm`
    add_form: type[Any] | None = None
    prefilled: tuple[str, ...] = ()  # fields that an address may fill in on the form of a new record
    taken: Text = ""  # said where `create` is `update` and there is such a record
    facts: tuple[str, ...] = ()  # fields shown to readers; without it those of the form
    panels: Callable[[Any, Any], dict[str, Any]] = nothing_beside  # (row, staff) -> what stands beside the record
    offline: bool = False  # its pages are kept by browsers and edited without a network

    # -- fields in history, differences and events
    references: tuple[str, ...] = ()  # keys of other records, shown beside instead of in a change
    automatic: tuple[str, ...] = ()  # set by the product, not by people: in no summary, and not restored
    personal: tuple[str, ...] = ()  # fields that say "erased" once the record is
    formats: Mapping[str, Callable[[Any, bool], str | None]] = field(default_factory=dict)
    # ^ field -> (value, whole) -> its text; None: as any other
    summaries: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)  # field -> its text in an event's line
    items: Mapping[str, Text] = field(default_factory=dict)  # list field -> how an item is called, by its ``%(label)s``
    compared: Mapping[str, Policy] = field(default_factory=dict)  # how fields without a merge policy are compared

    # -- live
    record_topic: str | None = None  # each record has a topic of its own: ``user:<key>``
    follows: tuple[str, ...] = ()  # categories whose events its topic carries too
    show: Callable[[RecordedEvent, str], JsonDict | None] | None = None  # (event, role) -> as the topic shows it

    # -- API
    shape: type[msgspec.Struct] | None = None  # None: not readable through the API
    item_shape: type[msgspec.Struct] | None = None  # of a list's items, where `add_to_items` gives them more
    add_to_items: Callable[[Sequence[dict[str, Any]]], None] | None = None
    filter_help: Mapping[str, str] = field(default_factory=dict)
    ingested: Mapping[str, str] = field(default_factory=dict)  # what happened at FormEase -> the command it stands for
    routine: frozenset[str] = frozenset()  # commands for which the scope of `ingest/` is enough

    @cached_property
    def spec(self) -> listing.Spec:
        """What its list can be asked."""
        return listing.Spec(
            name=self.name,
            category=self.category,
            model=self.model,
            sorts=self.sorts,
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
        """The topic of one record: its own, else that of all."""
        return f"{self.record_topic}:{key}" if self.record_topic else self.topic

    @property
    def plural(self) -> str:
        return str(self.model._meta.verbose_name_plural)

    @property
    def is_uuid_keyed(self) -> bool:
        return self.model._meta.pk.get_internal_type() == "UUIDField"

    @property
    def row(self) -> tuple[str, str]:
        """Templates of a list's row, the first that there is."""
        return f"admin/backoffice/{self.category}/row.html", "admin/backoffice/kind/row.html"

    @property
    def related_template(self) -> tuple[str, str]:
        return f"admin/backoffice/{self.category}/related.html", "admin/backoffice/kind/related.html"

    def url(self, view: str) -> str:
        return f"admin:backoffice_{self.category}_{view}"

    def __getattr__(self, name: str) -> str:
        """``resource.url_history`` in a template is the name of that address."""
        if name.startswith("url_"):
            return self.url({"url_list": "changelist"}.get(name, name.removeprefix("url_")))
        raise AttributeError(name)

    def label(self, name: str) -> str:
        """A field of the record in words."""
        if name in self.labels:
            return str(self.labels[name])
        known = {field.name: field for field in self.model._meta.get_fields()}.get(name.removesuffix("_id"))
        return str(getattr(known, "verbose_name", name.replace("_", " ")))

    def choice_label(self, name: str, value: Any) -> str | None:
        """A stored choice in words, None when the field has no choices."""
        known = {field.name: field for field in self.model._meta.get_fields()}.get(name)
        choices = dict(getattr(known, "choices", None) or ())
        return str(choices[value]) if value in choices else None


# -- a section --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Section:
    """One capability of the product. Whatever it has nothing of is left out.

    `extends` is the place for what one section adds to another's kinds (columns, sorts, panels, API fields) without
    being imported by it; nothing reads it yet.
    """

    name: str
    kinds: tuple[Kind, ...] = ()

    # -- pages
    navigation: tuple[NavItem, ...] = ()
    admins: Mapping[type[Model], type[ModelAdmin[Any]]] = field(default_factory=dict)
    admin_urls: Callable[[AdminSite], Sequence[URLPattern]] | None = None  # beside those of its models
    record_pages: tuple[type[Any], ...] = ()  # pages of every record: `web.kind_admin.RecordPages`

    # -- API: a module whose `urlpatterns` are under ``v1/``. A string, so that only the web process imports views
    api_urls: str = ""

    # -- who may do what with categories that are no kinds: ``event``, ``system``
    rights: Mapping[str, Roles] = field(default_factory=dict)
    # category -> (role, data) -> data of its events without what the role may not see
    redactions: Mapping[str, Redaction] = field(default_factory=dict)

    # -- live
    topics: tuple[Topic, ...] = ()
    widgets: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)  # see `topics.WIDGETS`
    revocations: Mapping[str, Callable[[RecordedEvent], Revocation | None]] = field(default_factory=dict)

    # -- events: aggregates and read tables that belong to no kind, and what happens in the transaction of an event.
    # A rebuild runs the projections of read tables only
    aggregates: tuple[Aggregate, ...] = ()
    read_tables: tuple[ReadTable, ...] = ()
    before: Mapping[str, Projection] = field(default_factory=dict)  # category -> run before the read tables
    after: Mapping[str, Projection] = field(default_factory=dict)  # category -> run after the read tables
    constraints: Mapping[str, Callable[[], errors.EventsError]] = field(
        default_factory=dict
    )  # name -> the error for the caller
    purgers: Mapping[str, Purger] = field(default_factory=dict)
    inbox: Inbox | None = None

    tasks: tuple[Any, ...] = ()  # Celery's, which it knows by their names; the schedule is in the settings

    extends: tuple[Any, ...] = ()
    ready: Callable[[], None] | None = None  # called once, after everything else is in place


# -- all of them ------------------------------------------------------------------------------------------------------

_sections: dict[str, Section] = {}
_kinds: dict[str, Kind] = {}
_rights: dict[str, Roles] = {}
_redactions: dict[str, Redaction] = {}


def load() -> None:
    """Import the sections that the settings name. Called from `ready()`; calling it again changes nothing."""
    for name in settings.SECTIONS:
        if name not in _sections:
            add(name, import_module(name).SECTION)


def add(name: str, section: Section) -> None:
    _sections[name] = section
    for kind in section.kinds:
        _kinds[kind.category] = kind
        _rights[kind.category] = kind.rights
    _rights.update(section.rights)
    _redactions.update(section.redactions)


def sections() -> list[Section]:
    """All sections, in the order of the settings."""
    return list(_sections.values())


def kinds() -> list[Kind]:
    """All kinds of record, in the order of their sections."""
    return list(_kinds.values())


def kind(category: str) -> Kind:
    """Raises `KeyError` for a category that is no kind of record."""
    return _kinds[category]


def find(category: str) -> Kind | None:
    return _kinds.get(category)


def rights(category: str) -> Roles:
    """role -> what it may do with this category."""
    return _rights.get(category, {})


def redaction(category: str) -> Redaction | None:
    """What redacts the data of a category's events, where hidden fields are not all."""
    return _redactions.get(category)


def inbox() -> Inbox | None:
    return next((section.inbox for section in sections() if section.inbox), None)
