"""The two records that the product is declared with: `Section`, one capability, and `Kind`, one kind of record.

Each folder under `sections/` declares itself once, in `section.py`, as `SECTION`. The settings list the modules
(`SECTIONS`) and the shell reads the declarations in loops: site, addresses, rights, topics, API, projections. They are
imported in `AppConfig.ready()`; nothing reads them at import time.
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
    nothing_beside,
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
    created_label: Text = CREATED
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
    search: tuple[str, ...] = ()  # columns with indexes on `text.SearchText`
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
    fact_templates: Mapping[str, str] = field(default_factory=dict)  # field -> the template that shows it to readers
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
    filter_help: Mapping[str, str] = field(default_factory=dict)
    ingested: Mapping[str, str] = field(default_factory=dict)  # what happened at FormEase -> the command it stands for
    routine: frozenset[str] = frozenset()  # commands for which the scope of `ingest/` is enough

    @cached_property
    def spec(self) -> listing.Spec:
        """What its list can be asked, with the sorts that other sections add. Read it after all sections are loaded."""
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
        """The topic of one record: its own, else that of all."""
        return f"{self.record_topic}:{key}" if self.record_topic else self.topic

    @property
    def plural(self) -> str:
        return str(self.model._meta.verbose_name_plural)

    @property
    def is_uuid_keyed(self) -> bool:
        return self.model._meta.pk.get_internal_type() == "UUIDField"

    def templates(self, part: str) -> tuple[str, str]:
        """The templates of a part of its pages (row, related, icon, badges, facts, detail): the first that exists."""
        return f"admin/backoffice/{self.category}/{part}.html", f"admin/backoffice/kind/{part}.html"

    def url(self, view: str) -> str:
        return f"admin:backoffice_{self.category}_{view}"

    def __getattr__(self, name: str) -> Any:
        """For templates: ``resource.url_history`` is the name of that address, ``resource.template_row`` a template."""
        if name.startswith("url_"):
            return self.url({"url_list": "changelist"}.get(name, name.removeprefix("url_")))
        if name.startswith("template_"):
            return self.templates(name.removeprefix("template_"))
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
    """One capability of the product. Whatever it has nothing of is left out."""

    name: str
    kinds: tuple[Kind, ...] = ()

    # -- pages
    navigation: tuple[NavItem, ...] = ()
    admins: Mapping[type[Model], type[ModelAdmin[Any]]] = field(default_factory=dict)
    admin_urls: Callable[[AdminSite], Sequence[URLPattern]] | None = None  # beside those of its models
    record_pages: tuple[type[Any], ...] = ()  # pages of every record: `web.kind_admin.RecordPages`
    extends: tuple[Extension, ...] = ()  # what it adds to kinds of other sections
    header: tuple[HeaderItem, ...] = ()  # items in the header of every page
    index: IndexPage | None = None  # in place of the overview; at most one section has one
    styles: tuple[str, ...] = ()  # static style sheets of every page
    modules: tuple[str, ...] = ()  # static JavaScript modules of every page

    # -- API: a module whose `urlpatterns` are under ``v1/``. A string, so that only the web process imports views
    api_urls: str = ""
    api_shapes: str | tuple[str, ...] = ()  # modules of structs that the description of the API has

    # -- who may do what with categories that are no kinds: ``event``, ``system``
    rights: Mapping[str, Roles] = field(default_factory=dict)
    # category -> (role, data) -> data of its events without what the role may not see
    redactions: Mapping[str, Redaction] = field(default_factory=dict)

    # -- live
    topics: tuple[Topic, ...] = ()
    widgets: Mapping[str, tuple[str, str, str] | None] = field(default_factory=dict)  # see `topics.WIDGETS`
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

    ready: Callable[[], None] | None = None  # called once, after everything else is in place


# -- all of them ------------------------------------------------------------------------------------------------------

_sections: dict[str, Section] = {}
_kinds: dict[str, Kind] = {}
_rights: dict[str, Roles] = {}
_redactions: dict[str, Redaction] = {}
_extensions: dict[str, list[Extension]] = {}


def load() -> None:
    """Import the sections that the settings name. Called from `ready()`; calling it again changes nothing.

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
    """An extension needs a kind, and names that neither the kind nor another extension has."""
    if category not in _kinds:
        raise ImproperlyConfigured(f"An extension is for {category!r}, which is no kind of record.")
    kind = _kinds[category]
    taken = {*kind.sorts, *(field.name for field in kind.model._meta.get_fields())}
    for more in added:
        if twice := taken & more.names:
            raise ImproperlyConfigured(f"An extension of {category!r} has names in use: {', '.join(sorted(twice))}.")
        taken |= more.names


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


def extensions(category: str) -> Sequence[Extension]:
    """What other sections add to this kind of record, in the order of the settings."""
    return _extensions.get(category, ())


def hidden(role: str, category: str) -> frozenset[str]:
    """The fields of a kind, and of its extensions, that the role never sees. None for a category that is no kind."""
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
