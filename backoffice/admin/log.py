"""The event browser: the log newest first, filtered, and one event in full. For roles that may view events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from backoffice import access, models
from backoffice.admin import diffs, people, stamps, trail
from backoffice.admin.resources import RESOURCES, Resource
from backoffice.templatetags import look
from events import head, store, types
from events.types import RecordedEvent

PAGE: Final = 50
# Positions looked through for one page where no index helps (type, actor): then the page says how far it came.
WINDOW: Final = 50_000
PARAMETERS: Final = ("stream", "type", "actor", "correlation", "since", "until")

# With a stream or a correlation an index finds the rows, whatever the distance; else the window bounds the work.
FIND = f"""
select {store.COLUMNS} from events_event
 where position <= %(upto)s and position > %(down)s
   and (%(stream)s::text is null or stream = %(stream)s::text)
   and (%(type)s::text is null or type = %(type)s::text)
   and (%(actor)s::text is null or actor = %(actor)s::text)
   and (%(correlation)s::uuid is null or correlation_id = %(correlation)s::uuid)
   and (%(since)s::timestamptz is null or recorded_at >= %(since)s::timestamptz)
   and (%(until)s::timestamptz is null or recorded_at < %(until)s::timestamptz)
   and (%(categories)s::text[] is null or split_part(stream, '-', 1) = any(%(categories)s::text[]))
 order by position desc limit %(limit)s
"""  # noqa: S608 - COLUMNS is a constant

ONE = f"select {store.COLUMNS} from events_event where position = %s"  # noqa: S608


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """An event as a row: what it did, to which record, by whom, its data as this person may see it."""

    event: RecordedEvent
    actor: people.Actor
    verb: Any
    icon: str
    kind: Any
    link: str | None
    data: dict[str, Any]
    name: str
    brief: str


@dataclass(frozen=True, slots=True)
class Found:
    """Events, newest first. `reached` is the position down to which the log was looked through; `end` whether that
    was all of it."""

    events: list[RecordedEvent]
    reached: int
    end: bool


class EventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Read-only pages over the log."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(partial(index, self)), name="events_storedevent_changelist"),
            path("<int:position>/", wrap(partial(one, self)), name="events_storedevent_change"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.may(request.user, "view", "event")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def index(room: EventAdmin, request: HttpRequest) -> HttpResponse:
    """The log, newest first, down from `?before=`."""
    if not room.has_view_permission(request):
        raise PermissionDenied
    stamp = stamps.now()
    asked, wrong = _asked(request.GET)
    before = request.GET.get("before", "")
    upto = int(before) - 1 if before.isdecimal() and len(before) < 19 else stamp.position
    found = find(asked, upto=min(upto, stamp.position), limit=PAGE)
    context = {
        **room.admin_site.each_context(request),
        "title": _("Events"),
        "rows": all_shown(found.events, request.user),
        "asked": {name: request.GET.get(name, "") for name in PARAMETERS},
        "wrong": wrong,
        "is_asked": any(asked.values()),
        "is_first": not before,
        "before": None if found.end else found.reached + 1,
        "reached": found.reached,
        "stopped_short": not found.end and len(found.events) < PAGE,
        "types": [kind.name for kind in types.event_types()],
        "stamp": stamp,
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/events.html", context)


def one(room: EventAdmin, request: HttpRequest, position: int) -> HttpResponse:
    """One event in full, with what the same request did besides."""
    if not room.has_view_permission(request):
        raise PermissionDenied
    rows = store.query(ONE, (position,)) if position <= head.safe() else []
    if not rows:
        raise Http404
    event = store.row_to_event(rows[0])
    siblings: Sequence[RecordedEvent] = []
    if event.correlation_id:
        same = find({"correlation": event.correlation_id}, upto=head.safe(), limit=PAGE).events
        siblings = [other for other in same if other.position != position]
    seen = all_shown([event], request.user)[0]
    context = {
        **room.admin_site.each_context(request),
        "title": _("Event %(position)d") % {"position": position},
        "row": seen,
        "event": event,
        "data": json.dumps(seen.data, ensure_ascii=False, indent=2),
        "siblings": all_shown(siblings, request.user),
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/event.html", context)


def find(asked: Mapping[str, Any], *, upto: int, limit: int, categories: Sequence[str] | None = None) -> Found:
    """Events at or below `upto` that answer, newest first."""
    indexed = asked.get("stream") or asked.get("correlation")
    free = not any(asked.values()) and categories is None
    down = 0 if indexed or free else max(0, upto - WINDOW)
    parameters = {name: asked.get(name) or None for name in PARAMETERS}
    more = {"upto": upto, "down": down, "limit": limit, "categories": list(categories) if categories else None}
    events = [store.row_to_event(row) for row in store.query(FIND, parameters | more)]
    full = len(events) == limit
    reached = events[-1].position - 1 if full else down
    return Found(events, reached, end=reached <= 0)


def latest(staff: Any, limit: int) -> list[Shown]:
    """The newest events about records this person may see, for the overview."""
    categories = [category for category in RESOURCES if access.may(staff, "view", category)]
    found = find({}, upto=head.safe(), limit=limit, categories=categories)
    return all_shown(found.events, staff)


def all_shown(events: Sequence[RecordedEvent], staff: Any) -> list[Shown]:
    """Events as this person may see them, with the names of the records they are about, looked up together."""
    names = names_of(events, staff)
    return [_shown(event, staff, names.get(event.stream, "")) for event in events]


def _shown(event: RecordedEvent, staff: Any, name: str) -> Shown:
    resource = RESOURCES.get(event.category)
    data = access.redact(staff, event.category, event.data)
    verb, icon = trail.verb_of(event.type)
    link = None
    if resource and access.may(staff, "view", event.category):
        link = reverse(resource.url("history"), args=[event.key])
    return Shown(
        event=event,
        actor=people.author(event),
        verb=verb,
        icon=icon,
        kind=resource.singular if resource else event.category,
        link=link,
        data=data,
        name=name,
        brief=_brief(resource, data),
    )


def names_of(events: Sequence[Any], staff: Any) -> dict[str, str]:
    """stream -> what the record is called: a person, a form, the form that was answered. Takes events, or whatever has
    `stream`, `category` and `key`."""
    keys: dict[str, set[str]] = {}
    for event in events:
        keys.setdefault(event.category, set()).add(event.key)
    names = {f"setting-{key}": key for key in keys.get("setting", ())}
    for user in models.User.objects.filter(pk__in=keys.get("user", ())):
        names[f"user-{user.pk}"] = people.user_label(user, staff)
    for form in models.Form.objects.filter(pk__in=keys.get("form", ())).only("title"):
        names[f"form-{form.pk}"] = form.title
    answered = models.Submission.objects.filter(pk__in=keys.get("submission", ()))
    for pk, title in answered.values_list("pk", "form__title"):
        names[f"submission-{pk}"] = title or ""
    return names


_NOT_TOLD: Final = frozenset({"created_at", "deleted_at", "started_at", "user_id", "form_id", "last_login"})


def _brief(resource: Resource | None, data: Mapping[str, Any]) -> str:
    """The data in a line, without what the line says already."""
    parts = []
    for name, value in data.items():
        if name == "completion_time" and value is not None:
            parts.append(look.seconds(value))
        elif name not in _NOT_TOLD and value not in (None, ""):
            label = resource.label(name) if resource else name.replace("_", " ")
            words = diffs.shown(resource, name, value)[:60]
            parts.append(words if isinstance(value, list | dict) and name != "value" else f"{label} {words}")
    return ", ".join(parts)[:200]


def _asked(query: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The filters of the address, and the names of those that make no sense."""
    asked: dict[str, Any] = {}
    wrong = []
    for name in PARAMETERS:
        text = query.get(name, "").strip()[:300]
        try:
            asked[name] = _PARSERS.get(name, str)(text) if text else None
        except ValueError:
            wrong.append(name)
    return asked, wrong


def _instant(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None and (day := parse_date(text)):
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if moment is None:
        raise ValueError(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_PARSERS: Final[Mapping[str, Any]] = {"correlation": uuid.UUID, "since": _instant, "until": _instant}
