"""A person's decisions about a conflict: the conflicting places, the choices so far, and a preview of the result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import access, error_messages, section
from backoffice.section import Kind
from backoffice.sections.conflicts import inbox, situations
from backoffice.web import actors, diffs
from events import conflicts, errors, store, strict_json, types
from events.conflicts import FieldConflict, sequences, values

LONG: Final = 80

NOTES: Final = {
    "both_changed": gettext_lazy("Changed on both sides."),
    "deleted_here": gettext_lazy("Removed on one side, changed on the other."),
    "deleted_there": gettext_lazy("Changed on one side, removed on the other."),
    "order": gettext_lazy("Both sides moved the same questions to different positions."),
    "group": gettext_lazy("These fields belong together and were changed on both sides."),
    "illegal_transition": gettext_lazy("This change is not possible from the status they chose."),
    "duplicate": gettext_lazy("After the merge, two items would have the same name."),
    "dangling": gettext_lazy("After the merge, this would refer to a question that no longer exists."),
    "cycle": gettext_lazy("After the merge, these questions would contain each other."),
    "whole": gettext_lazy("The record changed since this was requested. Apply it anyway?"),
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """One conflicting place.

    `there`: the sides that have a value. `entry`: the type of its input (text, long, choice, yes_no, json, none).
    `choice`: the chosen side. `typed`: the content of the input. `regions`: the parts of a long text, side by side.
    """

    number: int
    path: str
    label: str
    note: Any
    base: str
    theirs: str
    mine: str
    there: frozenset[str]
    entry: str
    raw: Mapping[str, str]
    options: Sequence[tuple[str, Any]]
    locked: bool
    choice: str
    typed: str
    complaint: str = ""
    who: str = ""
    when: Any = None
    why: str | None = None
    regions: Sequence[sequences.Region] = ()


@dataclass
class Answers:
    """The choices and inputs from the form; `complaints` are errors in the inputs."""

    choices: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def chosen(self) -> dict[str, Any]:
        usable = {name: choice for name, choice in self.choices.items() if choice != "value" or name in self.values}
        return inbox.as_choices(usable, {name: self.values[name] for name in usable if usable[name] == "value"})


def _entry(kind: Kind, place: FieldConflict) -> str:
    """Returns the type of input for values of this place."""
    if place.path == situations.WHOLE:
        return "none"
    known = [side for side in (place.base, place.theirs, place.mine) if side is not conflicts.UNSET]
    if known and all(isinstance(value, bool) for value in known):
        return "yes_no"
    if not all(isinstance(value, str) for value in known) or place.kind in ("order", "group"):
        return "json"
    if kind.choice_label(place.path, known[0]) is not None:
        return "choice"
    return "long" if any("\n" in value or len(value) > LONG for value in known) else "text"


def _options(kind: Kind, path: str, entry: str) -> Sequence[tuple[str, Any]]:
    if entry == "yes_no":
        return [("true", _("yes")), ("false", _("no"))]
    known = {each.name: each for each in kind.model._meta.get_fields()}.get(path)
    return list(getattr(known, "choices", None) or ()) if entry == "choice" else ()


def _raw(entry: str, value: Any) -> str:
    """Formats a value for its input."""
    if value is conflicts.UNSET:
        return ""
    if entry in ("text", "long", "choice"):
        return str(value)
    return json.dumps(value, ensure_ascii=False, indent=2)


def _parsed(entry: str, typed: str) -> Any:
    """Parses the input as a value. Raises `errors.InvalidJson`."""
    if entry in ("text", "long", "choice"):
        return typed.replace("\r\n", "\n")
    return strict_json.loads(typed)


def _shown(kind: Kind, place: FieldConflict, value: Any, labels: Mapping[str, str]) -> str:
    if value is conflicts.UNSET:
        return ""
    if place.kind == "order":
        wanted = set(place.fields) or set(value)
        return "\n".join(f"{number}. {labels.get(key, key)}" for number, key in enumerate(value, 1) if key in wanted)
    if isinstance(value, dict) and {"id", "type"} <= value.keys():
        named = {name: each for name, each in value.items() if name != "id"}
        return "\n".join(f"{name}: {diffs.shown(kind, name, each, whole=True)}" for name, each in named.items())
    return diffs.shown(kind, values.steps(place.path)[-1], value, whole=True)


def places(now: situations.Situation, answers: Answers, staff: Any, complaints: Mapping[str, str]) -> list[Place]:
    """Returns the conflicting places that this person may see, with their choices so far."""
    category = types.category_of(now.filed.stream)
    kind, role = section.kind(category), access.role_of(staff)
    between = store.read_stream(now.filed.stream, now.filed.base_version, upto=now.version)
    latest = {name: event for event in between for name in event.data}  # who changed each field last
    locked = access.read_only_fields(staff, category)
    labels = diffs.item_labels(kind, now.mine, now.theirs, now.base)
    names = diffs.item_labels(kind, now.theirs, now.mine)
    found: list[Place] = []
    for place in now.open_places:
        if access.role_sees(role, category, place.path):
            head = values.steps(place.path)[0]
            author = latest.get(head) or (between[-1] if between else None)
            label = (
                diffs.label_of(kind, values.steps(place.path), names) if place.path != situations.WHOLE else _whole(now)
            )
            found.append(_place(kind, place, answers, complaints, author, len(found), head in locked, label, labels))
    return found


def _place(
    kind: Kind,
    place: FieldConflict,
    answers: Answers,
    complaints: Mapping[str, str],
    author: types.RecordedEvent | None,
    number: int,
    locked: bool,
    label: str,
    labels: Mapping[str, str],
) -> Place:
    entry = _entry(kind, place)
    sides = {"base": place.base, "theirs": place.theirs, "mine": place.mine}
    shown = {name: _shown(kind, place, value, labels) for name, value in sides.items()}
    raw = {name: _raw(entry, value) for name, value in sides.items()}
    lines = [sequences.split_lines(raw[side]) for side in ("base", "theirs", "mine")] if entry == "long" else []
    return Place(
        number=number,
        path=place.path,
        label=label,
        note=NOTES.get(place.code or place.kind, NOTES["both_changed"]),
        base=shown["base"],
        theirs=shown["theirs"],
        mine=shown["mine"],
        there=frozenset(side for side, value in sides.items() if value is not conflicts.UNSET),
        entry=entry,
        raw=raw,
        options=_options(kind, place.path, entry),
        locked=locked,
        choice=answers.choices.get(place.path, ""),
        typed=answers.typed.get(place.path, raw["mine"] or raw["theirs"]),
        complaint=complaints.get(place.path, "") or complaints.get(values.steps(place.path)[0], ""),
        who=actors.author(author).name if author else "",
        when=author.recorded_at if author else None,
        why=author.reason if author else None,
        regions=sequences.regions(*lines) if lines else (),
    )


def _whole(now: situations.Situation) -> str:
    words = {"delete": _("Delete the record"), "remove": _("Remove the setting"), "create": _("Add the record")}
    kind: str = now.filed.command["type"]
    return words.get(kind.partition(".")[2], kind)


def answers_of(request: HttpRequest, now: situations.Situation) -> Answers:
    """Reads the form by path, because the numbers on the page may be outdated."""
    found = Answers(reason=request.POST.get("reason", "").strip() or None)
    kind = section.kind(types.category_of(now.filed.stream))
    places = {place.path: place for place in now.open_places}
    for name, where in request.POST.items():
        number = name.removeprefix("path-")
        if number == name or where not in places:
            continue
        entry = _entry(kind, places[where])
        choice, typed = request.POST.get(f"choice-{number}", ""), request.POST.get(f"value-{number}", "")
        found.typed[where] = typed
        if choice in ("theirs", "mine", "value"):
            found.choices[where] = choice
        if choice == "value":
            try:
                found.values[where] = _parsed(entry, typed)
            except errors.InvalidJson as error:
                found.complaints[where] = error_messages.translate(error.message)
    return found


def preview(now: situations.Situation, answers: Answers, staff: Any) -> dict[str, Any]:
    """Returns the changes to the record, the errors, and the number of undecided places."""
    category = types.category_of(now.filed.stream)
    undecided = [place.path for place in now.open_places if place.path not in answers.choices]
    found: dict[str, Any] = {"left": len(undecided), "lines": [], "wrong": [], "ready": False}
    if undecided:
        return found
    try:
        if answers.complaints:
            raise errors.InvalidCommand(fields=answers.complaints)
        after = now.previewed(answers.chosen())
        found |= {"lines": diffs.rows(category, now.theirs, after, staff), "ready": True}
        found["gone"] = bool(after.get("deleted_at")) and not now.theirs.get("deleted_at")
    except errors.EventsError as error:
        complaints = getattr(error, "fields", {}) or {"": error.message}
        kind = section.kind(category)
        names = diffs.item_labels(kind, now.theirs, now.mine)
        for where, message in complaints.items():
            label = diffs.label_of(kind, values.steps(where), names) if where else ""
            found["wrong"].append((label, error_messages.translate(message)))
    return found
