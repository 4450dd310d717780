"""A record's history: all versions, one version, the difference of two, and restoring an older one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import access, error_messages, standby
from backoffice.web import diffs, log_position, records, sidebar, timeline
from backoffice.web.kind_admin import KindAdmin
from events import errors, snapshots, store, types

View = Callable[..., HttpResponse]


def report_missing_archive(view: View) -> View:
    """Shows a message on the record's page when older versions are in an archive file that is missing."""

    @functools.wraps(view)
    def shown(self: KindAdmin, request: HttpRequest, key: str, **named: Any) -> HttpResponse:
        try:
            return view(self, request, key, **named)
        except errors.Archived as error:
            messages.error(request, error_messages.translate(error.message))
            return HttpResponseRedirect(reverse(self.kind.url("change"), args=[key]))

    return shown


class HistoryAdmin(KindAdmin):
    """The versions of a record: list, one version, comparison, restore."""

    @standby.reads
    @report_missing_archive
    def history_page(self, request: HttpRequest, key: str) -> HttpResponse:
        """Lists versions, newest first, in pages by `?before=`."""
        self.demand(request)
        stamp, stream = log_position.now(), self.stream(key)
        newest = _newest(stream)
        upto = min(records.number(request.GET.get("before")) or newest + 1, newest + 1) - 1
        entries = timeline.entries(stream, upto, request.user)
        older = entries[-1].version if entries and entries[-1].version > 1 else None
        context = self._context(request, key) | {
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

    @standby.reads
    @report_missing_archive
    def version_page(self, request: HttpRequest, key: str, version: int) -> HttpResponse:
        """Shows the record at a version."""
        self.demand(request)
        stream = self.stream(key)
        newest = _newest(stream)
        if not 1 <= version <= newest:
            raise Http404
        then = snapshots.folded(stream, version)
        state = self.kind.aggregate.dump(then.state)
        entry = timeline.entries(stream, version, request.user, limit=1)[0]
        now, _now = snapshots.state_dict(stream)
        context = self._context(request, key) | {
            "title": _("As of version %(version)d") % {"version": version},
            "entry": entry,
            "facts": sidebar.state_facts(self.kind, state, request.user),
            "unreadable": then.unreadable,
            "newest": newest,
            "since": diffs.rows(self.kind.category, state, now, request.user),
            "can_roll_back": version < newest and bool(self._restoring_update(request, state, now)),
        }
        return TemplateResponse(request, "admin/backoffice/version.html", context)

    @standby.reads
    @report_missing_archive
    def compare_page(self, request: HttpRequest, key: str) -> HttpResponse:
        """Shows the differences between versions `?a=` and `?b=`."""
        self.demand(request)
        stream = self.stream(key)
        newest = _newest(stream)
        numbers = [records.number(request.GET.get(name)) for name in ("a", "b")]
        first, second = (
            min(max(number or default, 1), newest)
            for number, default in zip(numbers, (newest - 1, newest), strict=True)
        )
        before, after = (snapshots.state_dict(stream, number)[0] for number in (first, second))
        context = self._context(request, key) | {
            "title": _("Compare version %(a)d with version %(b)d") % {"a": first, "b": second},
            "a": timeline.entries(stream, first, request.user, limit=1)[0],
            "b": timeline.entries(stream, second, request.user, limit=1)[0],
            "lines": diffs.rows(self.kind.category, before, after, request.user),
            "newest": newest,
        }
        return TemplateResponse(request, "admin/backoffice/compare.html", context)

    @report_missing_archive
    def rollback_page(self, request: HttpRequest, key: str, version: int) -> HttpResponse:
        """Restores an older version: shows the difference first, then writes it as an ordinary change."""
        self.demand(request, self.kind.update)
        row, stream = self.found(key), self.stream(key)
        if not 1 <= version <= _newest(stream):
            raise Http404
        then, _reached = snapshots.state_dict(stream, version)
        now, current = snapshots.state_dict(stream)
        wanted = self._restoring_update(request, then, now)
        if wanted is None:
            raise PermissionDenied
        if not wanted:  # for example a request that is sent again because its answer was lost
            messages.info(request, _("Nothing was changed."))
            return HttpResponseRedirect(reverse(self.kind.url("change"), args=[row.pk]))
        reason = _("Back to version %(version)d") % {"version": version}
        form = records.ReasonForm(
            request.POST or None, staff=request.user, initial={"base_version": current, "reason": reason}
        )
        lines = diffs.rows(self.kind.category, now, now | wanted, request.user)
        if request.method == "POST" and form.is_valid():
            try:
                base = form.cleaned_data["base_version"]
                result = records.send(request, self.kind.update or "", str(row.pk), wanted, form, base, typed=False)
                messages.success(
                    request,
                    _("Version %(old)d was restored as version %(new)d.") % {"old": version, "new": result.version},
                )
                return HttpResponseRedirect(reverse(self.kind.url("change"), args=[row.pk]))
            except errors.Conflict:
                messages.warning(request, _("The record changed meanwhile. Review the changes again."))
                typed = {"base_version": current, "reason": form.cleaned_data["reason"]}
                form = records.ReasonForm(staff=request.user, initial=typed)
            except errors.EventsError as error:
                form.show_errors({}, error_messages.in_one_line(error))
        context = self._context(request, key) | {
            "title": _("Restore version %(version)d") % {"version": version},
            "form": form,
            "lines": lines,
            "version": version,
            "newest": current,
        }
        return TemplateResponse(request, "admin/backoffice/rollback.html", context)

    def _restoring_update(
        self, request: HttpRequest, then: dict[str, Any], now: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Returns the update that restores a version, empty if nothing differs.

        None if this person may not update, or the record is deleted.
        """
        kind = self.kind
        if not self.allows(request, kind.update) or now.get("deleted_at") or kind.update is None:
            return None
        known = types.command_type_of(kind.update).cls.__struct_fields__
        staff, category = request.user, kind.category
        closed = access.hidden_fields(staff, category) | access.read_only_fields(staff, category) | {*kind.automatic}
        return {
            name: then[name] for name in known if name in then and name not in closed and then[name] != now.get(name)
        }

    def _context(self, request: HttpRequest, key: str) -> dict[str, Any]:
        """Returns the context that all history pages share. A removed setting has a history but no row."""
        try:
            row = self.found(key)
            name = self.kind.title(row, request.user)
        except Http404:
            row, name = None, key
        return {
            **self.page_context(request),
            "row": row,
            "key": key,
            "name": name,
            "stream": self.stream(key),
        }


def _newest(stream: str) -> int:
    newest = store.version_of(stream)
    if not newest:
        raise Http404
    return newest
