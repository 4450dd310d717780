"""Notes of the team."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from backoffice import listing, navigation
from backoffice.section import DELETED_CHOICE, Column, Kind, Section
from backoffice.sections.notes import domain, forms, projection, shapes
from backoffice.sections.notes.models import Note

NOTE = Kind(
    category="note",
    name="notes",
    model=Note,
    aggregate=domain.AGGREGATE,
    projection=projection.notes,
    singular=_("Note"),
    add_label=_("New note"),
    empty=_("Nobody has written a note yet."),
    rights={"agent": frozenset({"view", "create", "update"}), "viewer": frozenset({"view"})},
    hidden={"viewer": frozenset({"text"})},
    create="note.create",
    update="note.update",
    delete="note.delete",
    restore="note.restore",
    columns=(
        Column(label=_("Note")),
        Column(label=_("Text"), field="text", value="text"),
        Column(label=_("Pinned"), value="pinned"),
        Column(label=_("Created"), sort="-created_at", value="created_at"),
    ),
    filters={"pinned": listing.flag("pinned"), **listing.CREATED_FILTERS},
    filter_defaults=listing.LIVING,
    search=("title",),
    choices=(DELETED_CHOICE,),
    form=forms.NoteForm,
    add_form=forms.NoteForm,
    record_topic="note",
    shape=shapes.Note,
    ingested={"note.created": "note.create"},
)

SECTION = Section(
    name="notes",
    kinds=(NOTE,),
    navigation=(navigation.of_kind(NOTE),),
)
