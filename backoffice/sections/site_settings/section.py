"""System settings: any JSON value under a name."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from backoffice import models, navigation
from backoffice.listing import Sort
from backoffice.section import Column, Kind, Section
from backoffice.sections.site_settings import domain, forms, projection, shapes
from events import errors


def _key(key: str) -> str:
    if not domain.KEY.fullmatch(key):
        message = "Use lower-case letters, digits, dots, dashes and underscores, beginning with a letter."
        raise errors.InvalidCommand(fields={"key": message})
    return key


SETTING = Kind(
    category="setting",
    name="settings",
    model=models.Setting,
    aggregate=domain.AGGREGATE,
    projection=projection.settings,
    key=_key,
    key_help="The setting's name.",
    # in words
    icon="settings",
    singular=_("Setting"),
    add_label=_("New setting"),
    empty=_("No settings yet: all values are defaults."),
    searchable=_("Search by name"),
    # who may do what
    rights={"manager": frozenset({"view"}), "dpo": frozenset({"view"})},
    # commands
    create="setting.set",
    update="setting.set",
    delete="setting.remove",
    # the list
    columns=(
        Column(label=_("Name"), sort="key"),
        Column(label=_("Value")),
        Column(label=_("Changed"), wide=True),
    ),
    sorts={"key": Sort("key")},
    default_sort="key",
    search=("key",),
    # the record's page
    fact_templates={"value": "admin/backoffice/setting/value_fact.html"},
    form=forms.SettingForm,
    add_form=forms.NewSettingForm,
    prefilled=("key",),
    taken=_("A setting with this name already exists."),
    offline=True,
    # API
    shape=shapes.Setting,
    ingested={"setting.changed": "setting.set", "setting.removed": "setting.remove"},
)

SECTION = Section(
    name="site_settings",
    kinds=(SETTING,),
    navigation=(navigation.of_kind(SETTING, key="t", group="running"),),
)
