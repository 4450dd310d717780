"""The conflict inbox and the page on which a person settles one: base, theirs, yours, result. Works without scripts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from backoffice import access, error_messages, listing, models
from backoffice.sections.conflicts import domain, inbox
from backoffice.sections.event_log import event_browser
from backoffice.web import actors, diffs, log_position, records, timeline
from backoffice.web.resources import RESOURCES, Resource
from events import conflicts, errors, store, strict_json, types
from events.conflicts import FieldConflict, sequences, values

MAX_ROWS: Final = 200
LONG: Final = 80

NOTES: Final = {
    "both_changed": gettext_lazy("Changed on both sides."),
    "deleted_here": gettext_lazy("Removed on one side, changed on the other."),
    "deleted_there": gettext_lazy("Changed on one side, removed on the other."),
    "order": gettext_lazy("Both sides moved the same questions to different positions."),
    "group": gettext_lazy("These fields belong together and were changed on both sides."),
    "illegal_transition": gettext_lazy("This step is not possible from the state they chose."),
    "duplicate": gettext_lazy("After the merge, two of them would have the same name."),
    "dangling": gettext_lazy("After the merge, this would refer to a question that no longer exists."),
    "cycle": gettext_lazy("After the merge, these questions would contain each other."),
    "whole": gettext_lazy("The record changed since this was requested. Apply it anyway?"),
}


# -- addresses ------------------------------------------------------------------------------------------------------


class ConflictAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Inbox and conflict page under Django's own names."""

    def get_urls(self) -> list[URLPattern]:
        routes: list[tuple[str, str, Callable[..., HttpResponse]]] = [
            ("", "changelist", index),
            ("rows/", "rows", rows),
            ("count/", "count", count),
            ("bulk/", "bulk", bulk),
            ("<uuid:key>/change/", "change", page),
            ("<uuid:key>/preview/", "preview", preview),
            ("<uuid:key>/act/", "act", act),
        ]
        wrap = self.admin_site.admin_view
        return [
            path(route, wrap(partial(view, self)), name=f"backoffice_conflict_{name}") for route, name, view in routes
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(inbox.categories(request.user))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return inbox.settles(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def waiting(staff: Any) -> int:
    """The number beside the inbox in the navigation."""
    return inbox.count_open(staff)["everybody"]


def _found(request: HttpRequest, key: uuid.UUID) -> models.Conflict:
    row = inbox.visible(request.user).select_related("assignee").filter(pk=key).first()
    if row is None:
        raise Http404
    return row


# -- the inbox ------------------------------------------------------------------------------------------------------


def index(room: ConflictAdmin, request: HttpRequest) -> HttpResponse:
    """The inbox: yours, your team's or everybody's, open or settled, of one kind or of one record, by age."""
    if not room.has_view_permission(request):
        raise PermissionDenied
    stamp = log_position.now()
    asked = _asked(request)
    cursor = request.GET.get("cursor") or None
    try:
        rows = _matching(request, asked).select_related("assignee")
        found = listing.page(inbox.SPEC, sort=asked["sort"] or None, cursor=cursor, queryset=rows)
    except listing.PageError as error:
        messages.warning(request, error_messages.said(error.message))
        return HttpResponseRedirect(request.path)
    context = {
        **room.admin_site.each_context(request),
        "title": _("Conflicts"),
        "rows": decorated(found.items, request.user),
        "page": found,
        "asked": asked,
        "numbers": {**inbox.count_open(request.user), "team": inbox.count_team(request.user)},
        "statuses": [
            ("open", _("Open")),
            ("resolved", _("Resolved")),
            ("dismissed", _("Discarded")),
            ("any", _("All")),
        ],
        "kinds": [(name, RESOURCES[name].plural) for name in inbox.categories(request.user)],
        "record_name": _record_name(asked["record"], request.user),
        "ages": [("", _("Newest first")), ("created_at", _("Oldest first"))],
        "is_first": not cursor and not asked["sort"],
        "can_settle": inbox.settles(request.user),
        "stamp": stamp,
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/conflicts.html", context)


def rows(room: ConflictAdmin, request: HttpRequest) -> HttpResponse:
    """Rows by id for a page that is open, as the lists of records have them (`lists.rows`)."""
    if not room.has_view_permission(request):
        raise PermissionDenied
    stamp = log_position.now()
    try:
        shown, new = (_ids(request.GET.get(name, "").split(",")) for name in ("ids", "new"))
    except ValueError:
        return HttpResponseBadRequest()
    items = inbox.visible(request.user).select_related("assignee").filter(pk__in=shown)
    fresh = _matching(request, _asked(request)).filter(pk__in=new).values_list("pk", flat=True)
    context = {"rows": decorated(list(items), request.user), "can_settle": inbox.settles(request.user)}
    response = TemplateResponse(request, "admin/backoffice/conflict_rows.html", context)
    response["X-New"] = " ".join(map(str, fresh))
    response["X-Position"] = str(stamp.position)
    response["Cache-Control"] = "no-store"
    return response


def count(_room: ConflictAdmin, request: HttpRequest) -> HttpResponse:
    """How many wait, for the number in the navigation."""
    response = JsonResponse(inbox.count_open(request.user))
    response["Cache-Control"] = "no-store"
    return response


def bulk(room: ConflictAdmin, request: HttpRequest) -> HttpResponse:
    """Several at once: put away, or take them on. What cannot be done to one is said and stops no other."""
    back = HttpResponseRedirect(reverse("admin:backoffice_conflict_changelist"))
    if request.method != "POST" or not room.has_change_permission(request):
        raise PermissionDenied
    data = {
        "dismiss": domain.DismissConflict(),
        "take": domain.AssignConflict(assignee=request.user.pk),
    }.get(request.POST.get("do", ""))
    try:
        chosen = _ids(request.POST.getlist("id"))
    except ValueError:
        return HttpResponseBadRequest()
    if data is None or not chosen:
        messages.info(request, _("Select at least one conflict."))
        return back
    done, refused = 0, 0
    for key in inbox.visible(request.user).filter(pk__in=chosen).values_list("pk", flat=True):
        try:
            inbox.act(key, request.user, data, request.POST.get("reason", "").strip() or None)
            done += 1
        except errors.EventsError:
            refused += 1
    if done:
        words = ngettext("%(n)d conflict was changed.", "%(n)d conflicts were changed.", done)
        messages.success(request, words % {"n": done})
    if refused:
        words = ngettext("%(n)d could not be changed.", "%(n)d could not be changed.", refused)
        messages.warning(request, words % {"n": refused})
    return back


def _ids(texts: Sequence[str]) -> list[uuid.UUID]:
    """Raises `ValueError` for an id that is none, and for more than `MAX_ROWS`."""
    found = [uuid.UUID(text) for text in texts[: MAX_ROWS + 1] if text]
    if len(found) > MAX_ROWS:
        raise ValueError(f"at most {MAX_ROWS} ids")
    return found


def _asked(request: HttpRequest) -> dict[str, str]:
    known = {name: request.GET.get(name, "") for name in ("whose", "status", "kind", "record", "sort")}
    if known["status"] not in (*models.Conflict.Status.values, "any"):
        known["status"] = "open"
    if known["whose"] not in inbox.WHOSE:
        known["whose"] = "everybody"
    return known


def _matching(request: HttpRequest, asked: Mapping[str, str]) -> Any:
    found = inbox.visible(request.user)
    if asked["status"] != "any":
        found = found.filter(status=asked["status"])
    found = found.filter(inbox.WHOSE[asked["whose"]](request.user))
    if asked["kind"]:
        found = found.filter(category=asked["kind"])
    if asked["record"]:
        found = found.filter(category=types.category_of(asked["record"]), key=types.key_of(asked["record"]))
    return found


def decorated(items: Sequence[models.Conflict], staff: Any) -> list[dict[str, Any]]:
    """Rows of the inbox as this person may see them."""
    names = event_browser.names_of(items, staff)
    return [
        {
            "item": item,
            "resource": RESOURCES[item.category],
            "name": names.get(item.stream) or item.key,
            "fields": _field_names(item, staff),
            "author": actors.actor(item.author, item.author_name or None),
            "may_settle": inbox.may_settle(staff, item.command_type),
            "url": reverse("admin:backoffice_conflict_change", args=[item.pk]),
        }
        for item in items
    ]


def _field_names(item: models.Conflict, staff: Any) -> str:
    resource, role = RESOURCES[item.category], access.role_of(staff)
    if item.why == "age":
        return _("Queued too long ago to be saved without review")
    heads = [values.steps(place)[0] for place in item.paths if access.role_sees(role, item.category, place)]
    return ", ".join(dict.fromkeys(resource.label(name) for name in heads))


def _record_name(stream: str, staff: Any) -> str:
    category = types.category_of(stream)
    if not stream or category not in inbox.categories(staff):
        return stream
    about = models.Conflict(category=category, key=types.key_of(stream))
    try:
        return event_browser.names_of([about], staff).get(stream, stream)
    except ValidationError:  # out of an address: no id
        return stream


# -- one conflict: what is shown ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """One thing to decide. `there` are the sides that have a value, `entry` is how one is typed (text, long, choice,
    yes_no, json, none), `choice` what is chosen so far, `typed` what stands in the input; `regions` are the lines of a
    long text, side by side."""

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
    """What a person has chosen and typed so far, from the form; `complaints` about what was typed."""

    choices: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def chosen(self) -> dict[str, Any]:
        usable = {name: choice for name, choice in self.choices.items() if choice != "value" or name in self.values}
        return inbox.as_choices(usable, {name: self.values[name] for name in usable if usable[name] == "value"})


def _entry(resource: Resource, place: FieldConflict) -> str:
    """How a value of this place is typed."""
    if place.path == inbox.WHOLE:
        return "none"
    known = [side for side in (place.base, place.theirs, place.mine) if side is not conflicts.UNSET]
    if known and all(isinstance(value, bool) for value in known):
        return "yes_no"
    if not all(isinstance(value, str) for value in known) or place.kind in ("order", "group"):
        return "json"
    if resource.choice_label(place.path, known[0]) is not None:
        return "choice"
    return "long" if any("\n" in value or len(value) > LONG for value in known) else "text"


def _options(resource: Resource, path: str, entry: str) -> Sequence[tuple[str, Any]]:
    if entry == "yes_no":
        return [("true", _("yes")), ("false", _("no"))]
    known = {each.name: each for each in resource.model._meta.get_fields()}.get(path)
    return list(getattr(known, "choices", None) or ()) if entry == "choice" else ()


def _raw(entry: str, value: Any) -> str:
    """A value as its input holds it."""
    if value is conflicts.UNSET:
        return ""
    if entry in ("text", "long", "choice"):
        return str(value)
    return json.dumps(value, ensure_ascii=False, indent=2)


def _parsed(entry: str, typed: str) -> Any:
    """The typed text as a value. Raises `errors.InvalidJson`."""
    if entry in ("text", "long", "choice"):
        return typed.replace("\r\n", "\n")
    return strict_json.loads(typed)


def _shown(resource: Resource, place: FieldConflict, value: Any, labels: Mapping[str, str]) -> str:
    if value is conflicts.UNSET:
        return ""
    if place.kind == "order":
        wanted = set(place.fields) or set(value)
        return "\n".join(f"{number}. {labels.get(key, key)}" for number, key in enumerate(value, 1) if key in wanted)
    if isinstance(value, dict) and {"id", "type"} <= value.keys():
        told = {name: each for name, each in value.items() if name != "id"}
        return "\n".join(f"{name}: {diffs.shown(resource, name, each, whole=True)}" for name, each in told.items())
    return diffs.shown(resource, values.steps(place.path)[-1], value, whole=True)


def _places(now: inbox.Situation, answers: Answers, staff: Any, complaints: Mapping[str, str]) -> list[Place]:
    """What this person sees of what is to be decided, with their choices so far."""
    category = types.category_of(now.filed.stream)
    resource, role = RESOURCES[category], access.role_of(staff)
    between = store.read_stream(now.filed.stream, now.filed.base_version, upto=now.version)
    latest = {name: event for event in between for name in event.data}  # who changed each field last
    locked = access.read_only_fields(staff, category)
    labels, names = _labels(now), diffs.question_labels(now.theirs, now.mine)
    found: list[Place] = []
    for place in now.open_places:
        if access.role_sees(role, category, place.path):
            head = values.steps(place.path)[0]
            author = latest.get(head) or (between[-1] if between else None)
            label = (
                diffs.label_of(resource, values.steps(place.path), names) if place.path != inbox.WHOLE else _whole(now)
            )
            found.append(
                _place(resource, place, answers, complaints, author, len(found), head in locked, label, labels)
            )
    return found


def _place(
    resource: Resource,
    place: FieldConflict,
    answers: Answers,
    complaints: Mapping[str, str],
    author: types.RecordedEvent | None,
    number: int,
    locked: bool,
    label: str,
    labels: Mapping[str, str],
) -> Place:
    entry = _entry(resource, place)
    sides = {"base": place.base, "theirs": place.theirs, "mine": place.mine}
    shown = {name: _shown(resource, place, value, labels) for name, value in sides.items()}
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
        options=_options(resource, place.path, entry),
        locked=locked,
        choice=answers.choices.get(place.path, ""),
        typed=answers.typed.get(place.path, raw["mine"] or raw["theirs"]),
        complaint=complaints.get(place.path, "") or complaints.get(values.steps(place.path)[0], ""),
        who=actors.author(author).name if author else "",
        when=author.recorded_at if author else None,
        why=author.reason if author else None,
        regions=sequences.regions(*lines) if lines else (),
    )


def _whole(now: inbox.Situation) -> str:
    words = {"delete": _("Delete the record"), "remove": _("Remove the setting"), "create": _("Add the record")}
    kind: str = now.filed.command["type"]
    return words.get(kind.partition(".")[2], kind)


def _labels(now: inbox.Situation) -> dict[str, str]:
    """Questions by id, for orders."""
    items = [*now.base.get("fields", ()), *now.theirs.get("fields", ()), *now.mine.get("fields", ())]
    return {item["id"]: item.get("label") or item["id"] for item in items if isinstance(item, dict) and "id" in item}


# -- one conflict: the page -----------------------------------------------------------------------------------------


def page(room: ConflictAdmin, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
    """The conflict page. A POST settles it, or with `preview` shows what would come of it."""
    row = _found(request, key)
    if request.method != "POST" or not inbox.may_settle(request.user, row.command_type):
        if request.method == "POST":
            raise PermissionDenied
        return _page(room, request, row, Answers())
    now = inbox.situation(key)
    answers = _answers(request, now)
    if "preview" in request.POST:
        return _page(room, request, row, answers, previewing=True)
    return _settle(room, request, row, answers)


def _settle(room: ConflictAdmin, request: HttpRequest, row: models.Conflict, answers: Answers) -> HttpResponse:
    """1 what was typed can be read  2 the choices and the change, in one transaction."""
    seen = request.POST.get("version", "")
    try:
        if answers.complaints:
            raise errors.InvalidCommand(fields=answers.complaints)
        settled = inbox.resolve(
            row.pk,
            request.user,
            answers.choices,
            {name: value for name, value in answers.values.items() if answers.choices.get(name) == "value"},
            reason=answers.reason,
            seen=int(seen) if seen.isdecimal() and len(seen) < 19 else None,
        )
    except errors.EventsError as error:
        row.refresh_from_db()
        return _page(room, request, row, answers, error=error, status=error.status)
    if settled.result is None:
        messages.success(request, _("Resolved: the record is unchanged."))
    else:
        messages.success(request, _("Resolved and saved as version %(version)d.") % {"version": settled.version})
    return HttpResponseRedirect(reverse(RESOURCES[row.category].url("change"), args=[row.key]))


def preview(_room: ConflictAdmin, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
    """What would come of the choices so far, for a page with scripts."""
    row = _found(request, key)
    if request.method != "POST" or not inbox.may_settle(request.user, row.command_type):
        raise PermissionDenied
    now = inbox.situation(key)
    context = {"preview": _preview(now, _answers(request, now), request.user)}
    return TemplateResponse(request, "admin/backoffice/conflict_preview.html", context)


def _answers(request: HttpRequest, now: inbox.Situation) -> Answers:
    """The form, by path: numbers on the page may mean other places by now."""
    found = Answers(reason=request.POST.get("reason", "").strip() or None)
    resource = RESOURCES[types.category_of(now.filed.stream)]
    places = {place.path: place for place in now.open_places}
    for name, where in request.POST.items():
        number = name.removeprefix("path-")
        if number == name or where not in places:
            continue
        entry = _entry(resource, places[where])
        choice, typed = request.POST.get(f"choice-{number}", ""), request.POST.get(f"value-{number}", "")
        found.typed[where] = typed
        if choice in ("theirs", "mine", "value"):
            found.choices[where] = choice
        if choice == "value":
            try:
                found.values[where] = _parsed(entry, typed)
            except errors.InvalidJson as error:
                found.complaints[where] = error_messages.said(error.message)
    return found


def _preview(now: inbox.Situation, answers: Answers, staff: Any) -> dict[str, Any]:
    """What would change on the record, what is wrong with it, how much is left to decide."""
    category = types.category_of(now.filed.stream)
    undecided = [place.path for place in now.open_places if place.path not in answers.choices]
    found: dict[str, Any] = {"left": len(undecided), "lines": [], "wrong": [], "ready": False}
    if undecided:
        return found
    try:
        if answers.complaints:
            raise errors.InvalidCommand(fields=answers.complaints)
        after = now.previewed(answers.chosen())
        found |= {"lines": diffs.lines(category, now.theirs, after, staff), "ready": True}
        found["gone"] = bool(after.get("deleted_at")) and not now.theirs.get("deleted_at")
    except errors.EventsError as error:
        complaints = getattr(error, "fields", {}) or {"": error.message}
        resource, names = RESOURCES[category], diffs.question_labels(now.theirs, now.mine)
        for where, message in complaints.items():
            label = diffs.label_of(resource, values.steps(where), names) if where else ""
            found["wrong"].append((label, error_messages.said(message)))
    return found


def _page(
    room: ConflictAdmin,
    request: HttpRequest,
    row: models.Conflict,
    answers: Answers,
    *,
    error: errors.EventsError | None = None,
    previewing: bool = False,
    status: int = 200,
) -> HttpResponse:
    stamp, staff = log_position.now(), request.user
    is_open = row.status == "open"
    now = inbox.situation(row.pk, None if is_open else _judged_at(row))
    resource = RESOURCES[row.category]
    complaints = dict(getattr(error, "fields", {}))
    places = _places(now, answers, staff, complaints)
    hidden = len(now.open_places) - len(places)
    # What belongs to no place of the page is said on top of it.
    shown_at = {place.path for place in places} | {values.steps(place.path)[0] for place in places} | {"reason"}
    on_top = [message for where, message in complaints.items() if where not in shown_at]
    context = {
        **room.admin_site.each_context(request),
        "title": _("Conflict"),
        "row": row,
        "now": now,
        "resource": resource,
        "name": _record_name(row.stream, staff) or row.key,
        "record_url": reverse(resource.url("change"), args=[row.key]) if _exists(resource, row) else None,
        "author": actors.actor(row.author, row.author_name or None),
        "is_mine": row.author == f"staff:{staff.pk}",
        "places": places,
        "hidden": hidden,
        "is_open": is_open,
        "can_settle": is_open and not hidden and inbox.may_settle(staff, row.command_type),
        "can_act": inbox.may_settle(staff, row.command_type),
        "assignable": inbox.assignable(row.command_type) if inbox.may_settle(staff, row.command_type) else [],
        "their_lines": diffs.lines(row.category, now.base, now.theirs, staff) if now.base else [],
        "my_lines": diffs.lines(row.category, now.theirs, now.merge.values, staff) if now.is_edit else [],
        "preview": _preview(now, answers, staff) if is_open else None,
        "previewing": previewing,
        "reason": answers.reason if request.method == "POST" else now.filed.command.get("reason"),
        "reason_complaint": complaints.get("reason", ""),
        "error": error,
        "on_top": on_top,
        "trail": _trail(row, staff),
        "topic": f"{resource.record_topic}:{row.key}" if resource.record_topic else resource.topic,
        "stamp": stamp,
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/conflict.html", context, status=status)


def _judged_at(row: models.Conflict) -> int:
    """The record's version that a settled conflict was decided on."""
    events = store.read_stream(types.stream_name(domain.CATEGORY, row.pk))
    readable = [event for event in events if not event.unreadable]
    last = next((event for event in reversed(readable) if event.type == "conflict.resolved"), None)
    return int(last.data["parents"]["theirs_version"] if last else readable[0].data["version"])


def _exists(resource: Resource, row: models.Conflict) -> bool:
    return resource.model._default_manager.filter(pk=row.key).exists()


# -- what was done about it -----------------------------------------------------------------------------------------

VERBS: Final = {
    "filed": (gettext_lazy("made a conflicting change"), "merge"),
    "assigned": (gettext_lazy("assigned it"), "staff"),
    "commented": (gettext_lazy("commented"), "edit"),
    "resolved": (gettext_lazy("resolved it"), "check"),
    "dismissed": (gettext_lazy("discarded it"), "close"),
    "reopened": (gettext_lazy("reopened it"), "restore"),
}
CHOICES: Final = {
    "theirs": gettext_lazy("theirs"),
    "mine": gettext_lazy("the author's"),
    "value": gettext_lazy("typed"),
}


def _trail(row: models.Conflict, staff: Any) -> list[dict[str, Any]]:
    """Who did what about it, newest first, as this person may see it."""
    events = store.read_stream(types.stream_name(domain.CATEGORY, row.pk))
    names = dict(models.Staff.objects.values_list("pk", "username"))
    found = []
    for event in reversed(events):
        data = access.redact(staff, domain.CATEGORY, event.data)
        word = event.type.partition(".")[2]
        verb, icon = VERBS.get(word) or timeline.verb_of(event.type)
        text = data.get("text", "")
        if word == "assigned":
            text = names.get(data.get("assignee") or 0) or _("nobody")
        if word == "resolved" and not event.unreadable:
            text = ", ".join(_chosen(RESOURCES[row.category], where, how) for where, how in data["choices"].items())
        found.append({"event": event, "actor": actors.author(event), "verb": verb, "icon": icon, "text": text})
    return found


def _chosen(resource: Resource, where: str, how: str) -> str:
    label = "" if where == inbox.WHOLE else diffs.label_of(resource, values.steps(where), {})
    return f"{label} {CHOICES[how]}".strip()


def act(_room: ConflictAdmin, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
    """Assign, comment, put away, take out again."""
    row = _found(request, key)
    back = HttpResponseRedirect(reverse("admin:backoffice_conflict_change", args=[key]))
    if request.method != "POST":
        return back
    sent = request.POST
    assignee = sent.get("assignee", "")
    known: dict[str, types.CommandData] = {
        "assign": domain.AssignConflict(assignee=records.number(assignee)),
        "comment": domain.CommentConflict(text=sent.get("text", "")),
        "dismiss": domain.DismissConflict(),
        "reopen": domain.ReopenConflict(),
    }
    if sent.get("do") not in known:
        return HttpResponseBadRequest()
    try:
        inbox.act(row.pk, request.user, known[sent["do"]], sent.get("reason", "").strip() or None)
    except inbox.Forbidden as error:
        raise PermissionDenied from error
    except errors.EventsError as error:
        messages.error(request, error_messages.in_one_line(error))
    return back
