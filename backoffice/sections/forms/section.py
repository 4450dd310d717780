"""Forms that users made."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from backoffice import listing, models, navigation
from backoffice.listing import Sort
from backoffice.section import DELETED_CHOICE, Choice, Column, Kind, Narrowing, Section, commands, ingested
from backoffice.sections.forms import domain, forms, pages, projection, shapes
from events import errors

FORM = Kind(
    category="form",
    name="forms",
    model=models.Form,
    aggregate=domain.AGGREGATE,
    projection=projection.forms,
    # in words
    icon="forms",
    singular=_("Form"),
    add_label=_("New form"),
    empty=_("Forms appear here as soon as a user creates one."),
    searchable=_("Search by title"),
    labels={"user_id": _("owner"), "fields": _("questions")},
    owner=pages.owner,
    # who may do what
    rights={
        "manager": frozenset({"view", "create", "update", "delete", "restore"}),
        "agent": frozenset({"view", "create", "update"}),
        "viewer": frozenset({"view"}),
        "dpo": frozenset({"view"}),
    },
    # commands
    create="form.create",
    update="form.update",
    delete="form.delete",
    restore="form.restore",
    # the list
    columns=(
        Column(label=_("Form"), sort="title"),
        Column(label=_("Owner"), wide=True),
        Column(label=_("Questions"), number=True, wide=True),
        Column(label=_("Changed"), wide=True),
        Column(label=_("Created"), sort="-created_at"),
    ),
    sorts={"created_at": listing.CREATED, "title": Sort("title", is_text=True)},
    filters={"archived": listing.flag("archived"), "user": listing.by_uuid("user_id"), **listing.CREATED_FILTERS},
    filter_defaults=listing.LIVING,
    search=("title",),
    related=("user",),
    heavy=("description", "fields"),
    choices=(
        Choice(
            name="archived",
            label=_("Archived or not"),
            values=(("", _("Archived or not")), ("false", _("In use")), ("true", pgettext_lazy("filter", "Archived"))),
        ),
        DELETED_CHOICE,
    ),
    narrowings={"user": Narrowing(category="user", label=_("Owner: %(name)s"))},
    row_context=pages.row_context,
    on_overview=True,
    # the record's page
    form=forms.FormForm,
    add_form=forms.NewFormForm,
    prefilled=("user_id",),
    fact_templates={
        "description": "admin/backoffice/kind/wide_fact.html",
        "fields": "admin/backoffice/form/questions_fact.html",
    },
    facts=("title", "description", "archived", "fields"),
    panels=pages.panels,
    offline=True,
    # fields
    references=("user_id",),
    personal=tuple(domain.PERSONAL),
    formats={"fields": pages.format_questions},
    items={"fields": _("Question “%(label)s”")},
    # live
    record_topic="form",
    # API
    shape=shapes.Form,
    ingested=ingested("form", "create", "update", "delete", "restore", "erase"),
    routine=commands("form", "create", "update", "delete", "restore"),
)

_NO_USER = "There is no such user."

SECTION = Section(
    name="forms",
    kinds=(FORM,),
    navigation=(navigation.of_kind(FORM, key="f"),),
    before={"form": projection.demand_living_owner},
    constraints={
        "forms_user_id_exists": lambda: errors.Rejected(_NO_USER, {"user_id": _NO_USER}),
        "forms_owner_living": domain.OwnerDeleted,
    },
)
