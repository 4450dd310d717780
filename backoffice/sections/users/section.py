"""Users: FormEase customers."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from backoffice import listing, models, navigation
from backoffice.listing import Sort
from backoffice.section import DELETED_CHOICE, Choice, Column, Kind, Section, commands, ingested
from backoffice.sections.users import domain, forms, pages, projection, shapes
from events import errors

ACTIVE_DAYS = 30


def _active(value: str) -> Q:
    """Matches users who signed in during the last 30 days (true), or did not (false)."""
    since = Q(last_login__gte=timezone.now() - timedelta(days=ACTIVE_DAYS))
    return since if listing.boolean(value) else ~since | Q(last_login=None)


USER = Kind(
    category="user",
    name="users",
    model=models.User,
    aggregate=domain.AGGREGATE,
    projection=projection.users,
    # in words
    icon="users",
    singular=_("User"),
    add_label=_("New user"),
    empty=_("Users appear here as soon as someone signs up."),
    searchable=_("Search by name or email"),
    title=pages.title,
    # who may do what
    rights={
        "manager": frozenset({"view", "create", "update", "delete", "restore"}),
        "agent": frozenset({"view", "update"}),
        "viewer": frozenset({"view"}),
        "dpo": frozenset({"view", "delete", "restore", "erase", "export"}),
    },
    hidden={"viewer": frozenset({"email"})},
    read_only={"agent": frozenset({"plan", "role"})},
    # commands
    create="user.create",
    update="user.update",
    delete="user.delete",
    restore="user.restore",
    erase="user.erase",
    export="user.export",
    # the list
    columns=(
        Column(label=_("User"), sort="email", field="email"),
        Column(label=_("Plan")),
        Column(label=_("Role"), wide=True),
        Column(label=_("Last login"), sort="-last_login", wide=True),
        Column(label=_("Created"), sort="-created_at"),
    ),
    sorts={
        "created_at": listing.CREATED,
        "email": Sort("email"),
        "name": Sort("last_name", then=("first_name",), is_text=True),
        "last_login": Sort("last_login", nullable=True, parse=datetime.fromisoformat),
    },
    filters={
        "plan": listing.choice("plan", models.User.Plan),
        "role": listing.choice("role", models.User.Role),
        "active": _active,
        **listing.CREATED_FILTERS,
    },
    filter_defaults=listing.LIVING,
    search=("email", "first_name", "last_name"),
    choices=(
        Choice(name="plan", label=_("Plan"), values=(("", _("All plans")), *models.User.Plan.choices)),
        Choice(name="role", label=_("Role"), values=(("", _("All roles")), *models.User.Role.choices)),
        Choice(
            name="active",
            label=_("Activity"),
            values=(("", _("Any activity")), ("true", _("Active in the last 30 days")), ("false", _("Not active"))),
        ),
        DELETED_CHOICE,
    ),
    on_overview=True,
    # the record's page
    form=forms.UserForm,
    add_form=forms.UserForm,
    panels=pages.panels,
    offline=True,
    # fields
    automatic=("last_login",),
    personal=domain.PERSONAL,
    # live
    record_topic="user",
    # API
    shape=shapes.User,
    filter_help={"active": "Signed in during the last 30 days."},
    ingested=ingested("user", "create", "update", "delete", "restore", "erase"),
    routine=commands("user", "create", "update", "delete", "restore"),
)

_TAKEN = "Another user has this email address."

SECTION = Section(
    name="users",
    kinds=(USER,),
    navigation=(navigation.of_kind(USER, key="u"),),
    before={"user": projection.demand_free_mailbox},
    constraints={
        "users_email_once": lambda: errors.Rejected(_TAKEN, {"email": _TAKEN}),
        "users_mailbox_once": lambda: errors.Rejected(_TAKEN, {"email": _TAKEN}),
    },
)
