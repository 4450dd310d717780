"""Who follows the log, how far each has come, and the streams that were put aside: looked at, replayed, skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from backoffice import access, error_messages
from backoffice.sections.event_log import event_browser
from backoffice.web import timeline
from backoffice.web.resources import RESOURCES
from events import context, errors, head, store, types
from events.privacy import encryption
from events.subscriptions import checkpoints
from events.subscriptions import parked as parking
from events.subscriptions.parked import Parked
from events.subscriptions.status import Standing
from events.types import RecordedEvent
from metrics.monitoring import operator_action, overview
from metrics.monitoring.overview import Moving

PAGE: Final = 50
TRAIL: Final = 20

# state -> in a word, and how it looks
STATES: Final[Mapping[str, tuple[Promise, str]]] = {
    "running": (pgettext_lazy("state", "Running"), "good"),
    "late": (gettext_lazy("Behind"), "warn"),
    "failing": (gettext_lazy("Failing"), "bad"),
    "stopped": (gettext_lazy("Stopped"), "bad"),
    "new": (gettext_lazy("Not started"), "quiet"),
    "unknown": (gettext_lazy("Not in this release"), "warn"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint in words."""

    moving: Moving

    @property
    def standing(self) -> Standing:
        return self.moving.standing

    @property
    def pace(self) -> float | None:
        return self.moving.pace

    @property
    def word(self) -> Promise:
        return STATES[self.standing.state][0]

    @property
    def look(self) -> str:
        return STATES[self.standing.state][1]

    @property
    def partition(self) -> str:
        return self.standing.status.name.partition("/")[2]

    @property
    def host(self) -> str:
        """``host:pid:part`` -> the host."""
        return self._owner[0]

    @property
    def pid(self) -> str:
        return self._owner[1]

    @property
    def _owner(self) -> tuple[str, str]:
        name, _colon, rest = (self.standing.status.owner or "").partition(":")
        return name, rest.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Aside:
    """A parked stream as it is shown: the record's name, and no error for who may not read such."""

    parked: Parked
    name: str
    kind: Any
    error: str | None


# -- pages ----------------------------------------------------------------------------------------------------------


@operator_action.page
def index(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Every subscription, and each of its partitions."""
    found = rows()
    return operator_action.drawn(
        site,
        request,
        "subscriptions",
        {
            "title": _("Subscriptions"),
            "rows": found,
            "head": found[0].standing.status.head if found else head.safe(),
            "held": _held(),
            "well": all(row.standing.state == "running" for row in found),
            "parked": sum(row.standing.status.parked for row in found),
        },
    )


@operator_action.page
def one(site: AdminSite, request: HttpRequest, name: str) -> HttpResponse:
    """One subscription: its checkpoints, its parked streams, and what people did about those."""
    found = rows(name)
    if not found:
        raise Http404
    after = request.GET.get("after", "")
    wanted = int(after) if after.isdecimal() and len(after) < 19 else 0
    aside = parking.parked(name, limit=PAGE + 1, after=wanted)
    audit = types.stream_name("subscription", name)
    done = store.read_stream(audit, max(0, store.version_of(audit) - TRAIL))
    return operator_action.drawn(
        site,
        request,
        "subscription",
        {
            "title": name,
            "name": name,
            "rows": found,
            "declared": found[0].standing.declared,
            "held": _held(),
            "aside": asides(aside[:PAGE], request.user),
            "after": aside[PAGE - 1].position if len(aside) > PAGE else None,
            "is_first": not wanted,
            "total": sum(row.standing.status.parked for row in found),
            "done": [_deed(event) for event in reversed(done)],
            "replayable": found[0].standing.declared is not None,
        },
    )


@operator_action.page
def parked(site: AdminSite, request: HttpRequest, name: str) -> HttpResponse:
    """One parked stream (`?stream=`): the event in the way, why, and what waits behind it."""
    stream = request.GET.get("stream", "").replace("\0", "")
    found = parking.parked(name, stream)
    if not found:
        return _flows(request, name, stream)
    aside = asides(found, request.user)[0]
    waiting = parking.waiting(name, stream, PAGE + 1)
    context = {
        **site.each_context(request),
        "title": _("Parked stream"),
        "name": name,
        "aside": aside,
        "parked": aside.parked,
        "readable": access.may_read_errors(request.user),
        "event": _event(aside.parked, request.user),
        "waiting": waiting[1:PAGE],
        "more": len(waiting) > PAGE,
        "may": {action: access.may(request.user, action, "system") for action in operator_action.ACTIONS},
        "may_see_events": access.may(request.user, "view", "event"),
        "replayable": _declared(name),
        "max_reason": encryption.MAX_REASON,
    }
    return TemplateResponse(request, "admin/backoffice/system/parked.html", context)


def _flows(request: HttpRequest, name: str, stream: str) -> HttpResponse:
    """The page of a stream that is not parked (any more) leads to its subscription."""
    if not _declared(name) or not stream:
        raise Http404
    messages.info(request, _("%(stream)s is no longer parked.") % {"stream": stream})
    return HttpResponseRedirect(reverse("admin:system_subscription", args=[name]))


# -- what people do -------------------------------------------------------------------------------------------------


@operator_action.deed("replay")
def replay(request: HttpRequest, name: str) -> HttpResponse:
    """Handle parked events again: of the streams that were chosen, or of ``all``."""
    back = reverse("admin:system_subscription", args=[name])
    if not _declared(name):
        raise Http404
    chosen = request.POST.getlist("stream")
    every = request.POST.get("which") == "all"
    streams = overview.parked_streams(name) if every else chosen
    if not streams:
        messages.warning(request, _("Select at least one stream."))
        return HttpResponseRedirect(back)
    with context.acting(reason=_reason(request) or None):
        try:
            outcomes = parking.replay_each(name, streams, seconds=overview.REPLAY_SECONDS)
        except errors.EventsError as error:
            messages.error(request, error_messages.in_one_line(error))
            return HttpResponseRedirect(back)
    _tell_of(request, streams, outcomes)
    (only, *others) = streams
    if others or only not in outcomes or not outcomes[only].left:
        return HttpResponseRedirect(back)
    return HttpResponseRedirect(_parked_url(name, only))


def _tell_of(request: HttpRequest, streams: Sequence[str], outcomes: Mapping[str, parking.Outcome]) -> None:
    """What a replay came to, in numbers: streams that flow again, that failed again, that are left for another time."""
    failed = sum(1 for outcome in outcomes.values() if outcome.error)
    flowing = sum(1 for outcome in outcomes.values() if not outcome.left)
    rest = sum(1 for stream in streams if stream not in outcomes) + len(outcomes) - failed - flowing
    if flowing:
        said = ngettext("%(n)d stream resumed.", "%(n)d streams resumed.", flowing) % {"n": flowing}
        messages.success(request, said)
    if failed:
        said = ngettext("%(n)d stream failed again.", "%(n)d streams failed again.", failed) % {"n": failed}
        messages.error(request, said)
    if rest:
        said = ngettext("%(n)d stream remains: replay again.", "%(n)d streams remain: replay again.", rest)
        messages.warning(request, said % {"n": rest})


@operator_action.deed("skip")
def skip(request: HttpRequest, name: str) -> HttpResponse:
    """Give one event up, with a reason."""
    stream, position = request.POST.get("stream", "").replace("\0", ""), request.POST.get("position", "")
    if not _declared(name) or not position.isdecimal() or len(position) > 18:
        raise Http404
    try:
        parking.skip(name, stream, int(position), _reason(request))
    except errors.InvalidCommand:
        messages.error(request, _("Enter a reason for skipping this event."))
        return HttpResponseRedirect(_parked_url(name, stream))
    except errors.NotParked:
        messages.info(request, _("This event is no longer parked: someone else handled it."))
    else:
        said = _("Event %(position)s was skipped. Later events of the stream still wait: replay them.")
        messages.success(request, said % {"position": position})
    return HttpResponseRedirect(_parked_url(name, stream))


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "").replace("\0", "").strip()[: encryption.MAX_REASON]


def _parked_url(name: str, stream: str) -> str:
    return f"{reverse('admin:system_parked', args=[name])}?{urlencode({'stream': stream})}"


# -- what is shown --------------------------------------------------------------------------------------------------


def rows(subscription: str | None = None) -> list[Row]:
    return [Row(one) for one in overview.moving(subscription)]


def _held() -> head.Holder | None:
    """Who holds the head back for more than a moment."""
    return next((holder for holder in head.blame() if (holder.seconds or 0) > 2), None)


def _declared(name: str) -> bool:
    return any(known.name == name for known in checkpoints.registered())


@dataclass(frozen=True, slots=True)
class _Named:
    """What `log.names_of` asks of an event."""

    stream: str

    @property
    def category(self) -> str:
        return types.category_of(self.stream)

    @property
    def key(self) -> str:
        return types.key_of(self.stream)


def asides(found: Sequence[Parked], staff: Any) -> list[Aside]:
    """Parked streams as this person may see them."""
    names = event_browser.names_of([_Named(one.stream) for one in found if _may_view(one.stream, staff)], staff)
    readable = access.may_read_errors(staff)
    shown = []
    for one in found:
        resource = RESOURCES.get(types.category_of(one.stream))
        kind = resource.singular if resource else types.category_of(one.stream)
        shown.append(Aside(one, names.get(one.stream, ""), kind, one.error if readable else None))
    return shown


def _may_view(stream: str, staff: Any) -> bool:
    return access.may(staff, "view", types.category_of(stream))


def _event(one: Parked, staff: Any) -> event_browser.Shown | None:
    """The event in the way, as the event browser shows it to this person."""
    if not access.may(staff, "view", "event"):
        return None
    found = store.read_all(one.position - 1, 1, upto=one.position)
    return event_browser.all_shown(found, staff)[0] if found else None


@dataclass(frozen=True, slots=True)
class Deed:
    """Something a person did about a parked event, or (without a `stream`) to the subscription."""

    event: RecordedEvent
    entry: timeline.Entry
    stream: str
    position: int


def _deed(event: RecordedEvent) -> Deed:
    return Deed(event, timeline.entry(event, []), str(event.data.get("stream", "")), int(event.data.get("position", 0)))
