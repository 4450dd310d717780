"""The four kinds of record as the pages show them: one visible table of columns, filters, forms and commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Model
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from backoffice import models
from backoffice.web import forms

Text = str | Promise


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a list. `sort` is one of `pages.SPECS`; `field` what must not be hidden; `wide` goes on phones."""

    label: Text
    sort: str | None = None
    field: str | None = None
    wide: bool = False
    number: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A filter of a list as a menu of values; the first, empty one leaves it out."""

    name: str
    label: Text
    values: tuple[tuple[str, Text], ...]


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind of record. Commands that are None are not done by hand; `topic` is its live feed. `offline`: its pages are
    kept by browsers and edited without a network."""

    name: str
    category: str
    model: type[Model]
    icon: str
    singular: Text
    add_label: Text
    empty: Text
    columns: tuple[Column, ...]
    choices: tuple[Choice, ...] = ()
    form: type[forms.RecordForm] | None = None
    add_form: type[forms.RecordForm] | None = None
    create: str | None = None
    update: str | None = None
    delete: str | None = None
    restore: str | None = None
    erase: str | None = None
    export: str | None = None
    record_topic: str | None = None
    searchable: Text = ""
    labels: Mapping[str, Text] = field(default_factory=dict)
    offline: bool = False

    @property
    def topic(self) -> str:
        return self.name

    @property
    def plural(self) -> str:
        return str(self.model._meta.verbose_name_plural)

    @property
    def row(self) -> str:
        return f"admin/backoffice/{self.category}/row.html"

    @property
    def related_template(self) -> str:
        return f"admin/backoffice/{self.category}/related.html"

    def url(self, view: str) -> str:
        return f"admin:backoffice_{self.category}_{view}"

    def __getattr__(self, name: str) -> str:
        """``resource.url_history`` in a template is the name of that address."""
        if name.startswith("url_"):
            return self.url({"url_list": "changelist"}.get(name, name.removeprefix("url_")))
        raise AttributeError(name)

    def action(self, command: str) -> str:
        """The action that `access` asks about: the part of a command's name after the dot."""
        return command.partition(".")[2]

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


_DELETED: Final = Choice(
    name="deleted", label=_("Deleted"), values=(("", _("Not deleted")), ("true", _("Deleted")), ("any", _("All")))
)

USERS: Final = Resource(
    name="users",
    category="user",
    model=models.User,
    icon="users",
    singular=_("User"),
    add_label=_("New user"),
    empty=_("Users appear here as soon as someone signs up."),
    searchable=_("Search by name or email"),
    columns=(
        Column(label=_("User"), sort="email", field="email"),
        Column(label=_("Plan")),
        Column(label=_("Role"), wide=True),
        Column(label=_("Last login"), sort="-last_login", wide=True),
        Column(label=_("Created"), sort="-created_at"),
    ),
    choices=(
        Choice(name="plan", label=_("Plan"), values=(("", _("All plans")), *models.User.Plan.choices)),
        Choice(name="role", label=_("Role"), values=(("", _("All roles")), *models.User.Role.choices)),
        Choice(
            name="active",
            label=_("Activity"),
            values=(("", _("Any activity")), ("true", _("Active in 30 days")), ("false", _("Not active"))),
        ),
        _DELETED,
    ),
    form=forms.UserForm,
    add_form=forms.UserForm,
    create="user.create",
    update="user.update",
    delete="user.delete",
    restore="user.restore",
    erase="user.erase",
    export="user.export",
    record_topic="user",
    offline=True,
)

FORMS: Final = Resource(
    name="forms",
    category="form",
    model=models.Form,
    icon="forms",
    singular=_("Form"),
    add_label=_("New form"),
    empty=_("Forms appear here as soon as a user creates one."),
    searchable=_("Search by title"),
    columns=(
        Column(label=_("Form"), sort="title"),
        Column(label=_("Owner"), wide=True),
        Column(label=_("Fields"), number=True, wide=True),
        Column(label=_("Changed"), wide=True),
        Column(label=_("Created"), sort="-created_at"),
    ),
    choices=(
        Choice(
            name="archived",
            label=_("Archived"),
            values=(("", _("Archived or not")), ("false", _("In use")), ("true", _("Archived"))),
        ),
        _DELETED,
    ),
    form=forms.FormForm,
    add_form=forms.NewFormForm,
    create="form.create",
    update="form.update",
    delete="form.delete",
    restore="form.restore",
    record_topic="form",
    labels={"user_id": _("owner"), "fields": _("questions")},
    offline=True,
)

SUBMISSIONS: Final = Resource(
    name="submissions",
    category="submission",
    model=models.Submission,
    icon="submissions",
    singular=_("Submission"),
    add_label="",
    empty=_("Submissions appear here as they come in."),
    searchable=_("Search by form title or id"),
    columns=(
        Column(label=_("Submission")),
        Column(label=_("Answers"), number=True, field="answers", wide=True),
        Column(label=_("Time taken"), number=True, wide=True),
        Column(label=_("Received"), sort="-created_at"),
    ),
    choices=(_DELETED,),
    delete="submission.delete",
    erase="submission.erase",
    labels={"form_id": _("form")},
)

SETTINGS: Final = Resource(
    name="settings",
    category="setting",
    model=models.Setting,
    icon="settings",
    singular=_("Setting"),
    add_label=_("New setting"),
    empty=_("No settings yet: all values are defaults."),
    searchable=_("Search by name"),
    columns=(
        Column(label=_("Name"), sort="key"),
        Column(label=_("Value")),
        Column(label=_("Changed"), wide=True),
    ),
    form=forms.SettingForm,
    add_form=forms.NewSettingForm,
    create="setting.set",
    update="setting.set",
    delete="setting.remove",
    offline=True,
)

RESOURCES: Final = {resource.category: resource for resource in (USERS, FORMS, SUBMISSIONS, SETTINGS)}
