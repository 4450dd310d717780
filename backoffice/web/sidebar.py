"""The panels of a record's page: its facts, its last changes, and those that its kind adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from backoffice import access
from backoffice.section import Kind
from backoffice.web import diffs, timeline
from events import types
from events.types import ERASED

LATEST: Final = 5
FACT: Final = "admin/backoffice/kind/fact.html"


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that is shown and not edited, and the template of its entry in the list of facts."""

    name: str
    label: str
    value: Any
    shown: str
    template: str


def record(kind: Kind, row: Any, staff: Any) -> dict[str, Any]:
    """Returns the context of the panels of a record's page."""
    stream = types.stream_name(kind.category, row.pk)
    hidden = access.hidden_fields(staff, kind.category)
    context: dict[str, Any] = {
        "name": kind.title(row, staff),
        "hidden": hidden,
        "facts": facts(kind, row, staff),
        "latest": timeline.latest(stream, staff, LATEST),
    }
    return context | kind.panels(row, staff)


def facts(kind: Kind, row: Any, staff: Any) -> list[Fact]:
    """Returns the record's own fields, for people who may not edit. Personal fields of erased records are ERASED."""
    names = kind.facts or (kind.form.base_fields if kind.form else ())
    values = {name: getattr(row, name) for name in names}
    if row.is_erased:
        values |= dict.fromkeys(kind.personal, ERASED)
    return state_facts(kind, values, staff)


def state_facts(kind: Kind, state: Mapping[str, Any], staff: Any) -> list[Fact]:
    """Returns the fields of a state as this person may see them."""
    seen = access.redact(staff, kind.category, state)
    return [
        Fact(
            name=name,
            label=kind.label(name),
            value=value,
            shown=diffs.shown(kind, name, value),
            template=kind.fact_templates.get(name, FACT),
        )
        for name, value in seen.items()
    ]
