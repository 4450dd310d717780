"""The event browser: the filtered log, newest first, and the page of one event. For roles that may view events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from backoffice import access, section, standby
from backoffice.web import causation, event_rows, log_position, timeline
from events import decoding, errors, head, search, store, types
from events.db import timeouts
from events.types import RecordedEvent

PAGE: Final = 50
TOGETHER: Final = 200
STATEMENT_TIMEOUT: Final = 5.0  # timeout in seconds for a statement of these pages
PARAMETERS: Final = ("stream", "type", "actor", "correlation", "since", "until")

ONE = f"select {decoding.COLUMNS} from events_event where position = %s"  # noqa: S608


class EventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Read-only pages about the log."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.list_page), name="events_storedevent_changelist"),
            path("<int:position>/", wrap(self.event_page), name="events_storedevent_change"),
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

    @standby.reads
    def list_page(self, request: HttpRequest) -> HttpResponse:
        """Lists the log, newest first, before the position `?before=`."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        stamp = log_position.now()
        filters, wrong = _filters(request.GET)
        before = request.GET.get("before", "")
        upto = int(before) - 1 if before.isdecimal() and len(before) < 19 else stamp.position
        found, slow = _found(_query(filters), min(upto, stamp.position))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Events"),
            "rows": event_rows.rows(found.events, request.user),
            "asked": {name: request.GET.get(name, "") for name in PARAMETERS},
            "wrong": wrong,
            "slow": slow,
            "is_asked": any(filters.values()),
            "is_first": not before,
            "before": None if found.end else found.reached + 1,
            "reached": found.reached,
            "archived": found.archived if found.end else 0,
            "stopped_short": not found.end and len(found.events) < PAGE,
            "kinds": _kinds(),
            "topics": " ".join(event_rows.topics_of(request.user)),
            "following": _feed_attributes(filters, request.GET),
            "stamp": stamp,
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "admin/backoffice/events.html", context)

    def event_page(self, request: HttpRequest, position: int) -> HttpResponse:
        """Shows one event: its changes, and all events of the same request."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        safe = head.safe()
        rows = store.query(ONE, (position,)) if position <= safe else []
        if not rows:
            raise Http404
        event = decoding.events_of(rows)[0]
        seen = event_rows.rows([event], request.user)[0]
        caused = causation.tree(event, upto=safe, limit=TOGETHER)
        entry = _entry(event, request.user)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Event %(position)d") % {"position": position},
            "row": seen,
            "event": event,
            "entry": entry,
            "data": json.dumps(seen.data, ensure_ascii=False, indent=2),
            "caused": caused,
            "conflict": event.key if event.category == "conflict" else None,
            "neighbours": _neighbours(event),
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "admin/backoffice/event.html", context)


def _found(wanted: search.Query, upto: int) -> tuple[search.Page, bool]:
    """Returns the matching events, and whether the search timed out."""
    try:
        with timeouts.at_most(STATEMENT_TIMEOUT):
            return search.find(wanted, upto=upto, limit=PAGE), False
    except errors.TookTooLong:
        return search.Page(events=[], reached=0, end=True), True


def _kinds() -> list[tuple[str, list[str]]]:
    """Groups event types by their kind of record: (``user``, [``user.created``, …])."""
    names = [kind.name for kind in types.event_types()]
    return [(kind, list(group)) for kind, group in groupby(names, key=lambda name: name.partition(".")[0])]


def _feed_attributes(filters: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, str]:
    """Returns the filters as HTML attributes, so that the live feed applies them to new events."""
    found = {name: query[name].strip() for name in ("stream", "type", "actor", "correlation") if filters.get(name)}
    return found | ({"until": filters["until"].isoformat()} if filters.get("until") else {})


def _entry(event: RecordedEvent, staff: Any) -> timeline.Entry | None:
    """Returns the event's change of its record, as this person may see it; None without a record."""
    if section.find(event.category) is None or not access.may(staff, "view", event.category):
        return None
    try:
        with timeouts.at_most(STATEMENT_TIMEOUT):
            found = timeline.entries(event.stream, event.version, staff, limit=1)
    except (errors.TookTooLong, errors.InvalidEvent, errors.Archived):
        return None  # the event is shown even if its record cannot be folded
    return found[0] if found else None


def _neighbours(event: RecordedEvent) -> dict[str, int | None]:
    """Returns the positions of the previous and next version in the event's stream."""
    try:
        around = store.read_stream(event.stream, max(0, event.version - 2), upto=event.version + 1)
    except errors.Archived:
        return {}
    by_version = {other.version: other.position for other in around}
    return {"before": by_version.get(event.version - 1), "after": by_version.get(event.version + 1)}


def _filters(query: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Parses the filters of the URL; returns them and the names of the invalid ones."""
    filters: dict[str, Any] = {}
    wrong = []
    for name in PARAMETERS:
        text = query.get(name, "").replace("\0", "").strip()[:300]
        try:
            filters[name] = _PARSERS.get(name, str)(text) if text else None
        except ValueError:
            wrong.append(name)
    return filters, wrong


def _query(filters: Mapping[str, Any]) -> search.Query:
    """Returns the query of the filters; ``user.*`` matches all event types with that prefix."""
    kind = filters.get("type") or ""
    if kind.endswith(".*"):
        return search.Query(**{**filters, "type": None, "kind": kind.removesuffix("*")})
    return search.Query(**filters)


def _instant(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None and (day := parse_date(text)):
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if moment is None:
        raise ValueError(text)
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # year 1 or 9999, which another time zone moves out of range
        raise ValueError(text) from None


def _upper_bound(text: str) -> datetime:
    """Returns the exclusive upper bound; a date without a time includes that day."""
    try:
        return _instant(text) + timedelta(days=1 if parse_date(text) else 0)
    except OverflowError:
        raise ValueError(text) from None


_PARSERS: Final[Mapping[str, Any]] = {"correlation": uuid.UUID, "since": _instant, "until": _upper_bound}
