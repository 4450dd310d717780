"""Lengths of notes: an extension of another section's kind, and an item in the header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from msgspec import UNSET, UnsetType

from backoffice import access, section
from backoffice.listing import Sort
from backoffice.section import Column, Extension, HeaderItem, Panel, Section

TEMPLATES = "admin/backoffice/note_lengths"


class Length(msgspec.Struct, frozen=True, kw_only=True):
    """The field that the extension adds to a note in the API."""

    length: int | UnsetType = UNSET


def load(keys: Sequence[UUID], _staff: Any) -> Mapping[UUID, Mapping[str, Any]]:
    notes = section.kind("note").model._default_manager.filter(pk__in=keys)
    return {key: {"length": 1000 + len(text), "nothing": None} for key, text in notes.values_list("pk", "text")}


def panel(row: Any, _staff: Any) -> dict[str, Any]:
    return {"characters": len(row.text)}


def header(request: HttpRequest) -> dict[str, Any]:
    return {"path": request.path}


SECTION = Section(
    name="note_lengths",
    extends=(
        Extension(
            category="note",
            columns=(
                Column(label=_("Length"), value="length", number=True, sort="-length"),
                Column(label=_("Nothing"), value="nothing", wide=True),
            ),
            sorts={"length": Sort("title")},
            load=load,
            item_fields=Length,
            in_record=True,
            panels=(Panel(template=f"{TEMPLATES}/panel.html", context=panel, field="length"),),
            hidden={"viewer": frozenset({"length"})},
        ),
    ),
    header=(HeaderItem(template=f"{TEMPLATES}/header.html", context=header, visible=access.is_admin),),
)
