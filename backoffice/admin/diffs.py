"""Differences between two states of a record, in words: what history, compare and conflict pages show."""

from __future__ import annotations

import difflib
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
from backoffice.admin.resources import RESOURCES, Resource
from backoffice.domain import submissions
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
    return [line for change in found if (line := _line(resource, change, old, new))]


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


def _line(resource: Resource, change: conflicts.Change, old: Mapping[str, Any], new: Mapping[str, Any]) -> Line | None:
    path = values.steps(change.path)
    label = label_of(resource, path, old, new)
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
        words=tuple(_words(before or "", after or "")) if long else (),
        block="\n" in f"{before}{after}",
    )


def label_of(resource: Resource, path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """``fields[q3].label`` as “Question “How old are you?” › label”."""
    if path[0] != "fields" or len(path) == 1:
        return " › ".join([resource.label(path[0]), *path[1:]])
    items = [*new.get("fields", ()), *old.get("fields", ())]
    found = next((item for item in items if isinstance(item, dict) and item.get("id") == path[1]), {})
    question = _("Question “%(label)s”") % {"label": found.get("label") or path[1]}
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


def _words(before: str, after: str) -> list[tuple[str, str]]:
    """A text as runs of words that stayed, went and came."""
    old, new = re.findall(r"\s+|\w+|[^\w\s]", before), re.findall(r"\s+|\w+|[^\w\s]", after)
    found: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            found.append(("same", "".join(old[a:b])))
            continue
        if a != b:
            found.append(("gone", "".join(old[a:b])))
        if c != d:
            found.append(("came", "".join(new[c:d])))
    return found
