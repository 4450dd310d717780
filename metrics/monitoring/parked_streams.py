"""Operator pages for parked streams: the event that failed and the error; replay and skip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backoffice import access, error_messages, section
from backoffice.web import event_rows
from events import context, errors, store, types
from events.privacy import encryption
from events.subscriptions import checkpoints
from events.subscriptions import parked as parking
from events.subscriptions.parked import Parked
from metrics.monitoring import operator_action, overview
from metrics.monitoring.operator_action import OperatorPages, Route

PAGE: Final = 50  # streams or events on a page


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A parked stream for display: its record's name, and no error for a person who may not read errors."""

    parked: Parked
    name: str
    kind: Any
    error: str | None


class ParkedStreamPages(OperatorPages):
    def routes(self) -> Sequence[Route]:
        return (
            Route("subscriptions/<str:name>/parked/", "parked", self.parked),
            Route("subscriptions/<str:name>/replay/", "replay", self.replay),
            Route("subscriptions/<str:name>/skip/", "skip", self.skip),
        )

    @operator_action.page
    def parked(self, request: HttpRequest, name: str) -> HttpResponse:
        """One parked stream (`?stream=`): the event that failed, the error, and the events behind it."""
        stream = request.GET.get("stream", "").replace("\0", "")
        found = parking.parked(name, stream)
        if not found:
            return _no_longer_parked(request, name, stream)
        (row,) = parked_rows(found, request.user)
        waiting = parking.waiting(name, stream, PAGE + 1)
        context = {
            **self.site.each_context(request),
            "title": _("Parked stream"),
            "name": name,
            "aside": row,
            "parked": row.parked,
            "readable": access.may_read_errors(request.user),
            "event": _failed_event(row.parked, request.user),
            "waiting": waiting[1:PAGE],
            "more": len(waiting) > PAGE,
            "may": operator_action.allowed_actions(request),
            "may_see_events": access.may(request.user, "view", "event"),
            "replayable": is_declared(name),
            "max_reason": encryption.MAX_REASON,
        }
        return TemplateResponse(request, "admin/backoffice/system/parked.html", context)

    @operator_action.action("replay")
    def replay(self, request: HttpRequest, name: str) -> HttpResponse:
        """Handle parked events again, of the chosen streams or of all (``which=all``)."""
        back = HttpResponseRedirect(reverse("admin:system_subscription", args=[name]))
        if not is_declared(name):
            raise Http404
        every = request.POST.get("which") == "all"
        streams = overview.parked_streams(name) if every else request.POST.getlist("stream")
        if not streams:
            messages.error(request, _("Select at least one stream."))
            return back
        with context.acting(reason=_reason(request) or None):
            try:
                outcomes = parking.replay_each(name, streams, seconds=overview.REPLAY_SECONDS)
            except errors.EventsError as error:
                messages.error(request, error_messages.in_one_line(error))
                return back
        _report_replay(request, name, streams, outcomes)
        (only, *others) = streams
        if others or only not in outcomes or not outcomes[only].left:
            return back
        return HttpResponseRedirect(_parked_url(name, only))

    @operator_action.action("skip")
    def skip(self, request: HttpRequest, name: str) -> HttpResponse:
        """Skip one event for ever, with a reason."""
        stream, position = request.POST.get("stream", "").replace("\0", ""), request.POST.get("position", "")
        if not is_declared(name) or not position.isdecimal() or len(position) > 18:
            raise Http404
        try:
            parking.skip(name, stream, int(position), _reason(request))
        except errors.InvalidCommand:
            messages.error(request, _("Enter a reason for skipping this event."))
        except errors.NotParked:
            messages.info(request, _("This event is no longer parked: it was replayed or skipped."))
        else:
            done = _("Event %(position)s was skipped. Replay the stream to handle the events behind it.")
            messages.success(request, done % {"position": position})
        return HttpResponseRedirect(_parked_url(name, stream))


def _no_longer_parked(request: HttpRequest, name: str, stream: str) -> HttpResponse:
    """Redirects to the subscription; 404 when it or the stream is not named."""
    if not is_declared(name) or not stream:
        raise Http404
    messages.info(request, _("%(stream)s is no longer parked.") % {"stream": stream})
    return HttpResponseRedirect(reverse("admin:system_subscription", args=[name]))


def _report_replay(
    request: HttpRequest, name: str, streams: Sequence[str], outcomes: Mapping[str, parking.Outcome]
) -> None:
    """Adds messages with the numbers of streams that were replayed, that failed again and that were not finished.

    Streams that are no longer parked were replayed by another request, perhaps the same one whose answer was lost.
    """
    failed = sum(1 for outcome in outcomes.values() if outcome.error)
    complete = sum(1 for outcome in outcomes.values() if not outcome.left)
    gone = len(set(streams) - set(outcomes) - set(overview.parked_streams(name)))
    rest = len(streams) - failed - complete - gone
    if gone:
        text = ngettext("%(n)d stream is no longer parked.", "%(n)d streams are no longer parked.", gone)
        messages.info(request, text % {"n": gone})
    if complete:
        text = ngettext("%(n)d stream was replayed.", "%(n)d streams were replayed.", complete)
        messages.success(request, text % {"n": complete})
    if failed:
        text = ngettext("%(n)d stream failed again.", "%(n)d streams failed again.", failed)
        messages.error(request, text % {"n": failed})
    if rest:
        text = ngettext("%(n)d stream remains: replay again.", "%(n)d streams remain: replay again.", rest)
        messages.warning(request, text % {"n": rest})


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").replace("\0", "").strip()[: encryption.MAX_REASON]


def _parked_url(name: str, stream: str) -> str:
    return f"{reverse('admin:system_parked', args=[name])}?{urlencode({'stream': stream})}"


def is_declared(name: str) -> bool:
    """True when a subscription of this release has this name."""
    return any(known.name == name for known in checkpoints.registered())


# -- display --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Named:
    """The attributes of an event that `event_rows.names_of` reads."""

    stream: str

    @property
    def category(self) -> str:
        return types.category_of(self.stream)

    @property
    def key(self) -> str:
        return types.key_of(self.stream)


def parked_rows(found: Sequence[Parked], staff: Any) -> list[ParkedRow]:
    """Parked streams for display to this person, without names and errors that they may not see."""
    names = event_rows.names_of([_Named(one.stream) for one in found if _may_view(one.stream, staff)], staff)
    readable = access.may_read_errors(staff)
    rows = []
    for one in found:
        resource = section.find(types.category_of(one.stream))
        kind = resource.singular if resource else types.category_of(one.stream)
        rows.append(ParkedRow(one, names.get(one.stream, ""), kind, one.error if readable else None))
    return rows


def _may_view(stream: str, staff: Any) -> bool:
    return access.may(staff, "view", types.category_of(stream))


def _failed_event(one: Parked, staff: Any) -> event_rows.EventRow | None:
    """The event that failed, as the event browser shows it to this person; None if they may not see events."""
    if not access.may(staff, "view", "event"):
        return None
    found = store.read_all(one.position - 1, 1, upto=one.position)
    return event_rows.rows(found, staff)[0] if found else None
