"""The event browser: the log newest first, filtered, and one event in full. For roles that may view events."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from backoffice import access, models
from backoffice.templatetags import display
from backoffice.web import actors, causation, diffs, log_position, timeline
from backoffice.web.resources import RESOURCES, Resource
from events import decoding, errors, head, search, store, types
from events.db import timeouts
from events.types import RecordedEvent

PAGE: Final = 50
TOGETHER: Final = 200
PATIENCE: Final = 5.0  # seconds a statement of these pages may take
PARAMETERS: Final = ("stream", "type", "actor", "correlation", "since", "until")

ONE = f"select {decoding.COLUMNS} from events_event where position = %s"  # noqa: S608


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """An event as a row: what it did, to which record, by whom, its data as this person may see it."""

    event: RecordedEvent
    actor: actors.Actor
    verb: Any
    icon: str
    kind: Any
    link: str | None
    record: str | None
    data: dict[str, Any]
    name: str
    brief: str


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
    stamp = log_position.now()
    asked, wrong = _asked(request.GET)
    before = request.GET.get("before", "")
    upto = int(before) - 1 if before.isdecimal() and len(before) < 19 else stamp.position
    found, slow = _found(_wanted(asked), min(upto, stamp.position))
    context = {
        **room.admin_site.each_context(request),
        "title": _("Events"),
        "rows": all_shown(found.events, request.user),
        "asked": {name: request.GET.get(name, "") for name in PARAMETERS},
        "wrong": wrong,
        "slow": slow,
        "is_asked": any(asked.values()),
        "is_first": not before,
        "before": None if found.end else found.reached + 1,
        "reached": found.reached,
        "archived": found.archived if found.end else 0,
        "stopped_short": not found.end and len(found.events) < PAGE,
        "kinds": _kinds(),
        "topics": " ".join(topics_of(request.user)),
        "following": _following(asked, request.GET),
        "stamp": stamp,
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/events.html", context)


def _found(wanted: search.Query, upto: int) -> tuple[search.Page, bool]:
    """What is found, and whether it took so long that nothing was."""
    try:
        with timeouts.at_most(PATIENCE):
            return search.find(wanted, upto=upto, limit=PAGE), False
    except errors.TookTooLong:
        return search.Page(events=[], reached=0, end=True), True


def _kinds() -> list[tuple[str, list[str]]]:
    """Event types by the record they are about: (``user``, [``user.created``, …])."""
    names = [kind.name for kind in types.event_types()]
    return [(kind, list(group)) for kind, group in groupby(names, key=lambda name: name.partition(".")[0])]


def _following(asked: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, str]:
    """The filters that the live feed holds new events against, as attributes."""
    found = {name: query[name].strip() for name in ("stream", "type", "actor", "correlation") if asked.get(name)}
    return found | ({"until": asked["until"].isoformat()} if asked.get("until") else {})


def topics_of(staff: Any) -> list[str]:
    """The live feeds of records that this person may follow."""
    return [resource.topic for resource in RESOURCES.values() if access.may(staff, "view", resource.category)]


def one(room: EventAdmin, request: HttpRequest, position: int) -> HttpResponse:
    """One event in full: what it changed, and all that the same request caused."""
    if not room.has_view_permission(request):
        raise PermissionDenied
    safe = head.safe()
    rows = store.query(ONE, (position,)) if position <= safe else []
    if not rows:
        raise Http404
    event = decoding.events_of(rows)[0]
    seen = all_shown([event], request.user)[0]
    caused = causation.tree(event, upto=safe, limit=TOGETHER)
    entry = _entry(event, request.user)
    context = {
        **room.admin_site.each_context(request),
        "title": _("Event %(position)d") % {"position": position},
        "row": seen,
        "event": event,
        "entry": entry,
        "data": json.dumps(seen.data, ensure_ascii=False, indent=2),
        "caused": caused,
        "conflict": event.key if event.category == "conflict" else None,
        "neighbours": _neighbours(event),
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/event.html", context)


def _entry(event: RecordedEvent, staff: Any) -> timeline.Entry | None:
    """What the event changed in its record, as this person may see it; None where there is no record to compare."""
    if event.category not in RESOURCES or not access.may(staff, "view", event.category):
        return None
    try:
        with timeouts.at_most(PATIENCE):
            found = timeline.entries(event.stream, event.version, staff, limit=1)
    except (errors.TookTooLong, errors.InvalidEvent, errors.Archived):
        return None  # a record that cannot be folded is no reason not to show the event
    return found[0] if found else None


def _neighbours(event: RecordedEvent) -> dict[str, int | None]:
    """Positions of the versions before and after this one in its stream."""
    try:
        around = store.read_stream(event.stream, max(0, event.version - 2), upto=event.version + 1)
    except errors.Archived:
        return {}
    by_version = {other.version: other.position for other in around}
    return {"before": by_version.get(event.version - 1), "after": by_version.get(event.version + 1)}


def latest(staff: Any, limit: int) -> list[Shown]:
    """The newest events about records this person may see, for the overview."""
    categories = tuple(category for category in RESOURCES if access.may(staff, "view", category))
    found = search.find(search.Query(categories=categories), upto=head.safe(), limit=limit)
    return all_shown(found.events, staff)


def all_shown(events: Sequence[RecordedEvent], staff: Any) -> list[Shown]:
    """Events as this person may see them, with the names of the records they are about, looked up together."""
    names = names_of(events, staff)
    return [_shown(event, staff, names.get(event.stream, "")) for event in events]


def _shown(event: RecordedEvent, staff: Any, name: str) -> Shown:
    resource = RESOURCES.get(event.category)
    data = access.redact(staff, event.category, event.data)
    verb, icon = timeline.verb_of(event.type)
    link = record = None
    if resource and access.may(staff, "view", event.category):
        link = reverse(resource.url("history"), args=[event.key])
        record = reverse(resource.url("change"), args=[event.key])
    return Shown(
        event=event,
        actor=actors.author(event),
        verb=verb,
        icon=icon,
        kind=resource.singular if resource else event.category,
        link=link,
        record=record,
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
    for user in models.User.objects.filter(pk__in=_uuids(keys.get("user", ()))):
        names[f"user-{user.pk}"] = actors.user_label(user, staff)
    for form in models.Form.objects.filter(pk__in=_uuids(keys.get("form", ()))).only("title"):
        names[f"form-{form.pk}"] = form.title
    answered = models.Submission.objects.filter(pk__in=_uuids(keys.get("submission", ())))
    for pk, title in answered.values_list("pk", "form__title"):
        names[f"submission-{pk}"] = title or ""
    return names


def _uuids(keys: Iterable[str]) -> list[uuid.UUID]:
    """The keys that can be those of a record; the log may hold others."""
    found = []
    for key in keys:
        with contextlib.suppress(ValueError):
            found.append(uuid.UUID(key))
    return found


_NOT_TOLD: Final = frozenset({"created_at", "deleted_at", "started_at", "user_id", "form_id", "last_login"})


def _brief(resource: Resource | None, data: Mapping[str, Any]) -> str:
    """The data in a line, without what the line says already."""
    parts = []
    for name, value in data.items():
        if name == "completion_time" and value is not None:
            parts.append(display.seconds(value))
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
        text = query.get(name, "").replace("\0", "").strip()[:300]
        try:
            asked[name] = _PARSERS.get(name, str)(text) if text else None
        except ValueError:
            wrong.append(name)
    return asked, wrong


def _wanted(asked: Mapping[str, Any]) -> search.Query:
    """``user.*`` is every type that begins so."""
    kind = asked.get("type") or ""
    if kind.endswith(".*"):
        return search.Query(**{**asked, "type": None, "kind": kind.removesuffix("*")})
    return search.Query(**asked)


def _instant(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None and (day := parse_date(text)):
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if moment is None:
        raise ValueError(text)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # year 1 or 9999, in a zone where it is another year
        raise ValueError(text) from None


def _until(text: str) -> datetime:
    """The end of what is meant: of a day, the day after."""
    try:
        return _instant(text) + timedelta(days=1 if parse_date(text) else 0)
    except OverflowError:
        raise ValueError(text) from None


_PARSERS: Final[Mapping[str, Any]] = {"correlation": uuid.UUID, "since": _instant, "until": _until}
