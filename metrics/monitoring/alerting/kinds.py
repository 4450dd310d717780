"""The declarations of the two kinds of record: rules and silences."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backoffice import listing
from backoffice.listing import Sort
from backoffice.section import DELETED_CHOICE, Choice, Column, Kind
from events import errors
from metrics.monitoring.alerting import forms, models, projection, rules, shapes, silences

_EVERYBODY: Final = ("manager", "agent", "viewer", "dpo")

# Admins may do everything. Everybody on the staff sees alerts, rules and silences.
ALERT_RIGHTS: Final = {
    **dict.fromkeys(_EVERYBODY, frozenset({"view"})),
    "manager": frozenset({"view", "acknowledge", "comment", "close", "escalate"}),
}


def _rule_key(key: str) -> str:
    if not rules.KEY.fullmatch(key):
        raise errors.InvalidCommand(fields={"key": "Use lower-case letters, digits and underscores."})
    return key


def _steps(value: Any, _whole: bool) -> str:
    return "; ".join(f"{step['minutes']} min: {', '.join(step['channels']) or '–'}" for step in value) or "–"


def _rule_title(row: Any, _staff: Any) -> str:
    """The title of a rule, translated where it is that of a default rule."""
    return gettext(row.title)


RULE: Final = Kind(
    category=rules.CATEGORY,
    name="rules",
    model=models.Rule,
    aggregate=rules.AGGREGATE,
    projection=projection.write_rules,
    key=_rule_key,
    key_help="The rule's id.",
    # in words
    icon="rule",
    title=_rule_title,
    singular=_("Alert rule"),
    add_label=_("New alert rule"),
    empty=_("No rules yet: the sampler writes the default rules when it starts."),
    searchable=_("Search by title"),
    # who may do what
    rights=dict.fromkeys(_EVERYBODY, frozenset({"view"})),
    # commands
    create="rule.create",
    update="rule.update",
    delete="rule.delete",
    restore="rule.restore",
    is_posted=True,
    # the list
    columns=(
        Column(label=_("Rule"), sort="title"),
        Column(label=_("Metric"), value="metric"),
        Column(label=_("Warning level"), value="warn", number=True, wide=True),
        Column(label=_("Critical level"), value="critical", number=True, wide=True),
        Column(label=_("Enabled"), value="enabled"),
        Column(label=_("Origin"), value="origin", wide=True),
    ),
    sorts={"title": Sort("title")},
    default_sort="title",
    filters={"enabled": listing.flag("enabled"), **listing.CREATED_FILTERS},
    filter_defaults=listing.LIVING,
    search=("title",),
    choices=(
        Choice(
            name="enabled",
            label=_("Enabled"),
            values=(("", _("Enabled or not")), ("true", _("Enabled")), ("false", _("Disabled"))),
        ),
        DELETED_CHOICE,
    ),
    # the record's page
    form=forms.RuleForm,
    add_form=forms.NewRuleForm,
    # fields
    automatic=("origin",),
    formats={"escalation": _steps},
    record_topic="rule",
    shape=shapes.Rule,
)

SILENCE: Final = Kind(
    category=silences.CATEGORY,
    name="silences",
    model=models.Silence,
    aggregate=silences.AGGREGATE,
    projection=projection.write_silences,
    # in words
    icon="silence",
    singular=_("Silence"),
    add_label=_("New silence"),
    empty=_("No silences: every alert is notified."),
    searchable=_("Search by purpose"),
    # who may do what
    rights={
        **dict.fromkeys(_EVERYBODY, frozenset({"view"})),
        "manager": frozenset({"view", "create", "update", "delete", "restore"}),
    },
    # commands
    create="silence.create",
    update="silence.update",
    delete="silence.delete",
    restore="silence.restore",
    is_posted=True,
    # the list
    columns=(
        Column(label=_("Purpose")),
        Column(label=_("Repeat"), value="repeat"),
        Column(label=_("Begins at"), value="starts_at", wide=True),
        Column(label=_("Ends at"), value="ends_at"),
        Column(label=_("Created"), sort="-created_at", value="created_at", wide=True),
    ),
    filters=listing.CREATED_FILTERS,
    filter_defaults=listing.LIVING,
    search=("title",),
    choices=(DELETED_CHOICE,),
    # the record's page
    form=forms.SilenceForm,
    add_form=forms.SilenceForm,
    prefilled=("title", "rules", "targets"),
    record_topic="silence",
    shape=shapes.Silence,
)
