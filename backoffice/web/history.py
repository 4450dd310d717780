"""A record's history: every version, as of any of them, two compared, an older one brought back as a new change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import access, error_messages
from backoffice.web import diffs, log_position, records, sidebar, timeline
from events import aggregate, errors, snapshots, store, types

if TYPE_CHECKING:
    from backoffice.web.record_admin import RecordAdmin

# Fields an older version brings back: what an update command can carry.
_NOT_BROUGHT_BACK: Final = frozenset({"created_at", "deleted_at", "user_id", "last_login"})


View = Callable[..., HttpResponse]


def from_here(view: View) -> View:
    """A past that lies in a file which is not here is a message on the record's page."""

    @functools.wraps(view)
    def shown(room: RecordAdmin, request: HttpRequest, key: str, **named: Any) -> HttpResponse:
        try:
            return view(room, request, key, **named)
        except errors.Archived as error:
            messages.error(request, error_messages.said(error.message))
            return HttpResponseRedirect(reverse(room.resource.url("change"), args=[key]))

    return shown


@from_here
def index(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """Versions, newest first, a page at a time by `?before=`."""
    room.demand(request)
    stamp, stream = log_position.now(), records.stream_of(room, key)
    newest = _newest(stream)
    upto = min(records.number(request.GET.get("before")) or newest + 1, newest + 1) - 1
    entries = timeline.entries(stream, upto, request.user)
    older = entries[-1].version if entries and entries[-1].version > 1 else None
    context = _context(room, request, key) | {
        "title": _("History"),
        "entries": entries,
        "newest": newest,
        "pick_b": upto,
        "pick_a": upto - 1,
        "older": older,
        "newer": min(upto + timeline.PAGE, newest) + 1 if upto < newest else None,
        "stamp": stamp,
        "may_see_events": access.may(request.user, "view", "event"),
    }
    return TemplateResponse(request, "admin/backoffice/history.html", context)


@from_here
def version(room: RecordAdmin, request: HttpRequest, key: str, version: int) -> HttpResponse:
    """The record as it was at a version."""
    room.demand(request)
    stream = records.stream_of(room, key)
    newest = _newest(stream)
    if not 1 <= version <= newest:
        raise Http404
    then = snapshots.folded(stream, version)
    state = aggregate.of_category(room.resource.category).dump(then.state)
    entry = timeline.entries(stream, version, request.user, limit=1)[0]
    now, _now = snapshots.state_dict(stream)
    context = _context(room, request, key) | {
        "title": _("As of version %(version)d") % {"version": version},
        "entry": entry,
        "facts": sidebar.state_facts(room.resource, state, request.user),
        "unreadable": then.unreadable,
        "newest": newest,
        "since": diffs.lines(room.resource.category, state, now, request.user),
        "can_roll_back": version < newest and _wanted(room, request, state, now) is not None,
    }
    return TemplateResponse(request, "admin/backoffice/version.html", context)


@from_here
def compare(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """What differs between `?a=` and `?b=`."""
    room.demand(request)
    stream = records.stream_of(room, key)
    newest = _newest(stream)
    asked = [records.number(request.GET.get(name)) for name in ("a", "b")]
    first, second = (
        min(max(number or default, 1), newest) for number, default in zip(asked, (newest - 1, newest), strict=True)
    )
    before, after = (snapshots.state_dict(stream, number)[0] for number in (first, second))
    context = _context(room, request, key) | {
        "title": _("Compare version %(a)d with version %(b)d") % {"a": first, "b": second},
        "a": timeline.entries(stream, first, request.user, limit=1)[0],
        "b": timeline.entries(stream, second, request.user, limit=1)[0],
        "lines": diffs.lines(room.resource.category, before, after, request.user),
        "newest": newest,
    }
    return TemplateResponse(request, "admin/backoffice/compare.html", context)


@from_here
def rollback(room: RecordAdmin, request: HttpRequest, key: str, version: int) -> HttpResponse:
    """Bring an older version back: shown as a difference first, then written as a change like any other."""
    room.demand(request, room.resource.update)
    row, stream = room.found(key), records.stream_of(room, key)
    if not 1 <= version <= _newest(stream):
        raise Http404
    then, _reached = snapshots.state_dict(stream, version)
    now, current = snapshots.state_dict(stream)
    wanted = _wanted(room, request, then, now)
    if wanted is None:
        raise PermissionDenied
    reason = _("Back to version %(version)d") % {"version": version}
    form = records.ReasonForm(
        request.POST or None, staff=request.user, initial={"base_version": current, "reason": reason}
    )
    lines = diffs.lines(room.resource.category, now, now | wanted, request.user)
    if request.method == "POST" and form.is_valid():
        try:
            base = form.cleaned_data["base_version"]
            result = records.send(request, room.resource.update or "", str(row.pk), wanted, form, base, typed=False)
            messages.success(
                request,
                _("Version %(old)d was restored as version %(new)d.") % {"old": version, "new": result.version},
            )
            return HttpResponseRedirect(reverse(room.resource.url("change"), args=[row.pk]))
        except errors.Conflict:
            messages.warning(request, _("The record changed meanwhile. Review the changes again."))
            return HttpResponseRedirect(request.path)
        except errors.EventsError as error:
            form.complain({}, error_messages.in_one_line(error))
    context = _context(room, request, key) | {
        "title": _("Restore version %(version)d") % {"version": version},
        "form": form,
        "lines": lines,
        "version": version,
        "newest": current,
    }
    return TemplateResponse(request, "admin/backoffice/rollback.html", context)


def _wanted(
    room: RecordAdmin, request: HttpRequest, then: dict[str, Any], now: dict[str, Any]
) -> dict[str, Any] | None:
    """What an update would carry to make the record what it was then; None when this person may not, or there is
    nothing to bring back."""
    resource = room.resource
    if not room.allows(request, resource.update) or now.get("deleted_at") or resource.update is None:
        return None
    known = types.command_type_of(resource.update).cls.__struct_fields__
    closed = access.hidden_fields(request.user, resource.category) | access.read_only_fields(
        request.user, resource.category
    )
    wanted = {
        name: then[name]
        for name in known
        if name in then and name not in _NOT_BROUGHT_BACK | closed and then[name] != now.get(name)
    }
    return wanted or None


def _newest(stream: str) -> int:
    newest = store.version_of(stream)
    if not newest:
        raise Http404
    return newest


def _context(room: RecordAdmin, request: HttpRequest, key: str) -> dict[str, Any]:
    """What all pages of a history share. A setting that was removed still has one, though no row."""
    try:
        row = room.found(key)
        name = sidebar.name_of(room.resource, row, request.user)
    except Http404:
        row, name = None, key
    return {
        **room.admin_site.each_context(request),
        "room": room,
        "resource": room.resource,
        "row": row,
        "key": key,
        "name": name,
        "stream": records.stream_of(room, key),
        "opts": room.model._meta,
    }
