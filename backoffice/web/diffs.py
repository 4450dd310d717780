"""Differences between two states of a record, in words: what history, compare and conflict pages show."""

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
from django.utils.translation import ngettext

from backoffice import access
from backoffice.sections.submissions import domain as submissions
from backoffice.web import text_diff
from backoffice.web.resources import RESOURCES, Resource
from events import aggregate, conflicts
from events.conflicts import values
from events.types import ERASED

# Of a beginning not told again: when, and whose, stand beside it.
_BESIDE: Final = frozenset({"created_at", "user_id", "form_id"})
WORDS_FROM: Final = 40  # texts from this length on are compared word by word
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One difference. `kind` is added, removed, changed or moved; `words` pairs of (kind, text) for a long text."""

    label: str
    kind: str
    before: str | None = None
    after: str | None = None
    words: tuple[tuple[str, str], ...] = ()
    block: bool = False


def lines(category: str, before: Mapping[str, Any], after: Mapping[str, Any], staff: Any) -> list[Line]:
    """What changed between two states as this person may see it."""
    resource = RESOURCES[category]
    old, new = (access.redact(staff, category, _unset(side)) for side in (before, after))
    table = {"fields": conflicts.JSON, "answers": conflicts.JSON, **aggregate.of_category(category).policies}
    found = conflicts.diff(old, new, table)
    labels, budget = question_labels(new, old), text_diff.Budget()
    return [_line(resource, change, labels, budget) for change in found]


def beginning(category: str, state: Mapping[str, Any], staff: Any) -> list[Line]:
    """What a record began with: every field that was given."""
    resource = RESOURCES[category]
    seen = access.redact(staff, category, _unset(state))
    given = {
        name: value for name, value in seen.items() if value not in (None, "", [], {}, False) and name not in _BESIDE
    }
    return [
        Line(label=resource.label(name), kind="added", after=shown(resource, name, value))
        for name, value in given.items()
    ]


def _unset(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if value is not conflicts.UNSET}


def _line(resource: Resource, change: conflicts.Change, labels: Mapping[str, str], budget: text_diff.Budget) -> Line:
    path = values.steps(change.path)
    label = label_of(resource, path, labels)
    if change.kind == "moved":
        return Line(label=label, kind="moved", before=str(change.before + 1), after=str(change.after + 1))
    before = None if change.before is conflicts.UNSET else shown(resource, path[-1], change.before, whole=True)
    after = None if change.after is conflicts.UNSET else shown(resource, path[-1], change.after, whole=True)
    long = isinstance(change.before, str) and isinstance(change.after, str) and len(before or "") >= WORDS_FROM
    return Line(
        label=label,
        kind=change.kind,
        before=before,
        after=after,
        words=tuple(text_diff.compare(before or "", after or "", budget)) if long else (),
        block="\n" in f"{before}{after}",
    )


def question_labels(*states: Mapping[str, Any]) -> dict[str, str]:
    """The labels of questions by id, as the first of these states has them."""
    found: dict[str, str] = {}
    for state in states:
        for item in state.get("fields") or ():
            if isinstance(item, dict) and isinstance(item.get("id"), str):
                found.setdefault(item["id"], str(item.get("label") or item["id"]))
    return found


def label_of(resource: Resource, path: tuple[str, ...], labels: Mapping[str, str]) -> str:
    """``fields[q3].label`` as “Question “How old are you?” › label”; `labels` are those of `question_labels`."""
    if path[0] != "fields" or len(path) == 1:
        return " › ".join([resource.label(path[0]), *path[1:]])
    question = _("Question “%(label)s”") % {"label": labels.get(path[1], path[1])}
    return " › ".join([question, *(step.replace("_", " ") for step in path[2:])])


def shown(resource: Resource | None, name: str, value: Any, *, whole: bool = False) -> str:
    """A value of a record in words."""
    if value in (None, "", ERASED, submissions.NO_ANSWERS):
        return _("empty") if value in (None, "") else _("erased")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if resource and isinstance(value, str) and (label := resource.choice_label(name, value)):
        return label
    if isinstance(value, str) and _INSTANT.fullmatch(value) and (moment := parse_datetime(value)):
        return date_format(timezone.localtime(moment), "DATETIME_FORMAT")
    if isinstance(value, list | dict):
        return _structure(name, value, whole=whole)
    return str(value)


def _structure(name: str, value: Any, *, whole: bool) -> str:
    if name == "fields" and not whole:
        return ngettext("%(n)d question", "%(n)d questions", len(value)) % {"n": len(value)}
    if name == "answers":
        return ngettext("%(n)d answer", "%(n)d answers", len(value)) % {"n": len(value)}
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(map(str, value)) or _("empty")
    return json.dumps(value, ensure_ascii=False, indent=2)
