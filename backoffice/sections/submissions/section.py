"""Submissions: the answers of people to forms."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from backoffice import listing, models, navigation
from backoffice.section import DELETED_CHOICE, Column, Kind, Narrowing, Section, commands, ingested
from backoffice.sections.submissions import domain, pages, projection, shapes
from backoffice.templatetags import display
from events import conflicts, errors

SUBMISSION = Kind(
    category="submission",
    name="submissions",
    model=models.Submission,
    aggregate=domain.AGGREGATE,
    projection=projection.submissions,
    # in words
    icon="submissions",
    singular=_("Submission"),
    empty=_("Submissions appear here as they come in."),
    searchable=_("Search by form title or id"),
    created_label=_("Received"),
    labels={"form_id": _("form")},
    title=pages.title,
    owner=pages.owner,
    owner_related=("form__user",),
    # who may do what
    rights={
        "manager": frozenset({"view", "receive", "delete"}),
        "agent": frozenset({"view"}),
        "viewer": frozenset({"view"}),
        "dpo": frozenset({"view", "delete", "erase"}),
    },
    # What respondents did: their answers, when they began and how long it took. The time of receipt is no secret: ids,
    # positions in the log and live updates reveal it to everybody who sees the submission.
    hidden={"viewer": frozenset({"answers", "started_at", "completion_time"})},
    # commands
    delete="submission.delete",
    erase="submission.erase",
    # the list
    columns=(
        Column(label=_("Submission")),
        Column(label=_("Answers"), number=True, field="answers", wide=True),
        Column(label=_("Time taken"), number=True, field="completion_time", wide=True),
        Column(label=_("Received"), sort="-created_at"),
    ),
    filters={"form": listing.by_uuid("form_id"), **listing.CREATED_FILTERS},
    filter_defaults=listing.LIVING,
    search=("form__title",),
    related=("form",),
    heavy=("answers", "form__description", "form__fields"),
    choices=(DELETED_CHOICE,),
    narrowings={"form": Narrowing(category="form", label=_("Form: %(title)s"))},
    row_context=pages.row_context,
    on_overview=True,
    found_by_id_only=True,  # by words they are found through their form
    # the record's page
    panels=pages.panels,
    # fields
    references=("form_id",),
    automatic=("started_at",),
    formats={"answers": pages.format_answers},
    summaries={"completion_time": display.seconds},
    compared={"answers": conflicts.JSON},
    # live
    follows=("form",),
    show=pages.show,
    # API
    shape=shapes.Submission,
    ingested=ingested("submission", "receive", "correct", "delete", "erase"),
    routine=commands("submission", "receive", "delete"),
)

_NO_FORM = "There is no such form."

SECTION = Section(
    name="submissions",
    kinds=(SUBMISSION,),
    navigation=(navigation.of_kind(SUBMISSION, key="s"),),
    before={"submission": projection.demand_open_form},
    constraints={
        "submissions_form_id_exists": lambda: errors.Rejected(_NO_FORM, {"form_id": _NO_FORM}),
        "submissions_form_living": domain.FormDeleted,
        "submissions_form_open": domain.FormArchived,
    },
)
