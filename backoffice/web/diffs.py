"""Differences between two states of a record as text, for history, compare and conflict pages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from backoffice import access, section
from backoffice.section import Kind
from backoffice.web import text_diff
from events import conflicts
from events.conflicts import values
from events.types import ERASED

WORDS_FROM: Final = 40  # longer texts are compared word by word
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffRow:
    """One difference. `kind` is added, removed, changed or moved; `words` pairs of (kind, text) for a long text."""

    label: str
    kind: str
    before: str | None = None
    after: str | None = None
    words: tuple[tuple[str, str], ...] = ()
    block: bool = False


def rows(category: str, before: Mapping[str, Any], after: Mapping[str, Any], staff: Any) -> list[DiffRow]:
    """Returns the differences between two states that this person may see."""
    kind = section.kind(category)
    old, new = (access.redact(staff, category, _unset(side)) for side in (before, after))
    found = conflicts.diff(old, new, {**kind.compared, **kind.aggregate.policies})
    labels, budget = item_labels(kind, new, old), text_diff.Budget()
    return [_row(kind, change, labels, budget) for change in found]


def initial_rows(category: str, state: Mapping[str, Any], staff: Any) -> list[DiffRow]:
    """Returns the fields set at creation, except creation time and owner, which the page shows separately."""
    kind = section.kind(category)
    seen = access.redact(staff, category, _unset(state))
    beside = {"created_at", *kind.references}
    given = {
        name: value for name, value in seen.items() if value not in (None, "", [], {}, False) and name not in beside
    }
    return [
        DiffRow(label=kind.label(name), kind="added", after=shown(kind, name, value)) for name, value in given.items()
    ]


def _unset(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if value is not conflicts.UNSET}


def _row(kind: Kind, change: conflicts.Change, labels: Mapping[str, str], budget: text_diff.Budget) -> DiffRow:
    path = values.steps(change.path)
    label = label_of(kind, path, labels)
    if change.kind == "moved":
        return DiffRow(label=label, kind="moved", before=str(change.before + 1), after=str(change.after + 1))
    before = None if change.before is conflicts.UNSET else shown(kind, path[-1], change.before, whole=True)
    after = None if change.after is conflicts.UNSET else shown(kind, path[-1], change.after, whole=True)
    long = isinstance(change.before, str) and isinstance(change.after, str) and len(before or "") >= WORDS_FROM
    return DiffRow(
        label=label,
        kind=change.kind,
        before=before,
        after=after,
        words=tuple(text_diff.compare(before or "", after or "", budget)) if long else (),
        block="\n" in f"{before}{after}",
    )


def item_labels(kind: Kind, *states: Mapping[str, Any]) -> dict[str, str]:
    """Returns the labels of list items (such as a form's questions) by id, from the first state that has them."""
    found: dict[str, str] = {}
    for state in states:
        for item in (item for name in kind.items for item in state.get(name) or ()):
            if isinstance(item, dict) and isinstance(item.get("id"), str):
                found.setdefault(item["id"], str(item.get("label") or item["id"]))
    return found


def label_of(kind: Kind, path: tuple[str, ...], labels: Mapping[str, str]) -> str:
    """Formats ``fields[q3].label`` as “Question “How old are you?” › label”; `labels` are those of `item_labels`."""
    if path[0] not in kind.items or len(path) == 1:
        return " › ".join([kind.label(path[0]), *path[1:]])
    item = str(kind.items[path[0]]) % {"label": labels.get(path[1], path[1])}
    return " › ".join([item, *(step.replace("_", " ") for step in path[2:])])


def shown(kind: Kind | None, name: str, value: Any, *, whole: bool = False) -> str:
    """Formats a value of a record as text."""
    if value in (None, "", ERASED):
        return _("empty") if value in (None, "") else _("erased")
    if kind and (text := _by_kind(kind, name, value, whole)) is not None:
        return text
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, str):
        moment = parse_datetime(value) if _INSTANT.fullmatch(value) else None
        return date_format(timezone.localtime(moment), "DATETIME_FORMAT") if moment else value
    return _structure(value) if isinstance(value, list | dict) else str(value)


def _by_kind(kind: Kind, name: str, value: Any, whole: bool) -> str | None:
    """Formats a value by the kind's own format, or by the label of a choice."""
    if name in kind.formats:
        return kind.formats[name](value, whole)
    return kind.choice_label(name, value) if isinstance(value, str) else None


def _structure(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(map(str, value)) or _("empty")
    return json.dumps(value, ensure_ascii=False, indent=2)
