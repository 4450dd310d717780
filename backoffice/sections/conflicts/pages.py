"""The conflict inbox, and the page that resolves one conflict: base, theirs, yours, result. Works without scripts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from backoffice import access, error_messages, listing, models, section, standby
from backoffice.section import Kind
from backoffice.sections.conflicts import decisions, domain, inbox, situations, trail
from backoffice.web import actors, diffs, event_rows, log_position, records, scripted_forms
from events import errors, store, types
from events.conflicts import values

MAX_ROWS: Final = 200


def count_open(staff: Any) -> int:
    """Returns the number of open conflicts for the navigation."""
    return inbox.count_open(staff)["everybody"]


def _found(request: HttpRequest, key: uuid.UUID) -> models.Conflict:
    row = inbox.visible(request.user).select_related("assignee").filter(pk=key).first()
    if row is None:
        raise Http404
    return row


# -- the inbox ------------------------------------------------------------------------------------------------------


def _ids(texts: Sequence[str]) -> list[uuid.UUID]:
    """Parses ids. Raises `ValueError` for an invalid id and for more than `MAX_ROWS`."""
    found = [uuid.UUID(text) for text in texts[: MAX_ROWS + 1] if text]
    if len(found) > MAX_ROWS:
        raise ValueError(f"at most {MAX_ROWS} ids")
    return found


def _filters(request: HttpRequest) -> dict[str, str]:
    return _filters_of(request.GET)


def _filters_of(parameters: Mapping[str, str]) -> dict[str, str]:
    known = {name: parameters.get(name, "") for name in ("whose", "status", "kind", "record", "sort")}
    if known["status"] not in (*models.Conflict.Status.values, "any"):
        known["status"] = "open"
    if known["whose"] not in inbox.WHOSE:
        known["whose"] = "everybody"
    return known


def _matching(request: HttpRequest, filters: Mapping[str, str]) -> Any:
    found = inbox.visible(request.user)
    if filters["status"] != "any":
        found = found.filter(status=filters["status"])
    found = found.filter(inbox.WHOSE[filters["whose"]](request.user))
    if filters["kind"]:
        found = found.filter(category=filters["kind"])
    if filters["record"]:
        found = found.filter(category=types.category_of(filters["record"]), key=types.key_of(filters["record"]))
    return found


def with_details(items: Sequence[models.Conflict], staff: Any) -> list[dict[str, Any]]:
    """Adds to rows of the inbox the details that this person may see."""
    names = event_rows.names_of(items, staff)
    return [
        {
            "item": item,
            "resource": section.kind(item.category),
            "name": names.get(item.stream) or item.key,
            "fields": _field_names(item, staff),
            "author": actors.actor(item.author, item.author_name or None),
            "may_settle": inbox.may_settle(staff, item.command_type),
            "url": reverse("admin:backoffice_conflict_change", args=[item.pk]),
        }
        for item in items
    ]


def _field_names(item: models.Conflict, staff: Any) -> str:
    kind, role = section.kind(item.category), access.role_of(staff)
    if item.why == "age":
        return _("Queued too long ago to be saved without review")
    heads = [values.steps(place)[0] for place in item.paths if access.role_sees(role, item.category, place)]
    return ", ".join(dict.fromkeys(kind.label(name) for name in heads))


def _record_name(stream: str, staff: Any) -> str:
    category = types.category_of(stream)
    if not stream or category not in inbox.categories(staff):
        return stream
    about = models.Conflict(category=category, key=types.key_of(stream))
    try:
        return event_rows.names_of([about], staff).get(stream, stream)
    except ValidationError:  # an invalid id in the URL
        return stream


def _resolved_version(row: models.Conflict) -> int:
    """Returns the record's version on which a resolved conflict was decided."""
    events = store.read_stream(types.stream_name(domain.CATEGORY, row.pk))
    readable = [event for event in events if not event.unreadable]
    last = next((event for event in reversed(readable) if event.type == "conflict.resolved"), None)
    return int(last.data["parents"]["theirs_version"] if last else readable[0].data["version"])


def _exists(kind: Kind, row: models.Conflict) -> bool:
    return kind.model._default_manager.filter(pk=row.key).exists()


# -- pages ----------------------------------------------------------------------------------------------------------


class ConflictAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The inbox and conflict page under Django's URL names."""

    def get_urls(self) -> list[URLPattern]:
        routes: list[tuple[str, str, Callable[..., HttpResponse]]] = [
            ("", "changelist", self.list_page),
            ("rows/", "rows", self.rows),
            ("count/", "count", self.count),
            ("bulk/", "bulk", self.bulk),
            ("<uuid:key>/change/", "change", self.conflict_page),
            ("<uuid:key>/preview/", "preview", self.preview),
            ("<uuid:key>/act/", "act", self.act),
        ]
        wrap = self.admin_site.admin_view
        return [path(route, wrap(view), name=f"backoffice_conflict_{name}") for route, name, view in routes]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(inbox.categories(request.user))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.may_resolve(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @standby.reads
    def list_page(self, request: HttpRequest) -> HttpResponse:
        """Lists conflicts: yours, your team's or all, open or closed, filtered by kind or record, sorted by age."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        stamp = log_position.now()
        filters = _filters(request)
        cursor = request.GET.get("cursor") or None
        try:
            matching = _matching(request, filters).prefetch_related("assignee")  # not joined: staff are on the primary
            found = listing.page(inbox.SPEC, sort=filters["sort"] or None, cursor=cursor, queryset=matching)
        except listing.PageError as error:
            messages.warning(request, error_messages.translate(error.message))
            return HttpResponseRedirect(request.path)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Conflicts"),
            "rows": with_details(found.items, request.user),
            "page": found,
            "asked": filters,
            "is_asked": filters != _filters_of({"sort": filters["sort"]}),
            "numbers": {**inbox.count_open(request.user), "team": inbox.count_team(request.user)},
            "statuses": [
                ("open", pgettext("filter", "Open")),
                ("resolved", pgettext("filter", "Resolved")),
                ("dismissed", pgettext("filter", "Discarded")),
                ("any", _("All")),
            ],
            "kinds": [(name, section.kind(name).plural) for name in inbox.categories(request.user)],
            "record_name": _record_name(filters["record"], request.user),
            "ages": [("", _("Newest first")), ("created_at", _("Oldest first"))],
            "is_first": not cursor and not filters["sort"],
            "can_settle": access.may_resolve(request.user),
            "stamp": stamp,
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "admin/backoffice/conflicts.html", context)

    @standby.reads
    def rows(self, request: HttpRequest) -> HttpResponse:
        """Returns rows by id for an open page, like the lists of records (`lists.rows`)."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        stamp = log_position.now()
        try:
            shown, new = (_ids(request.GET.get(name, "").split(",")) for name in ("ids", "new"))
        except ValueError:
            return HttpResponseBadRequest()
        items = inbox.visible(request.user).prefetch_related("assignee").filter(pk__in=shown)
        fresh = _matching(request, _filters(request)).filter(pk__in=new).values_list("pk", flat=True)
        context = {"rows": with_details(list(items), request.user), "can_settle": access.may_resolve(request.user)}
        response = TemplateResponse(request, "admin/backoffice/conflict_rows.html", context)
        response["X-New"] = " ".join(map(str, fresh))
        response["X-Position"] = str(stamp.position)
        response["Cache-Control"] = "no-store"
        return response

    def count(self, request: HttpRequest) -> HttpResponse:
        """Returns the numbers of open conflicts, `mine` and `everybody`, as JSON for the navigation."""
        response = JsonResponse(inbox.count_open(request.user))
        response["Cache-Control"] = "no-store"
        return response

    def bulk(self, request: HttpRequest) -> HttpResponse:
        """Discards or assigns several conflicts; reports failures and continues with the others."""
        back = HttpResponseRedirect(reverse("admin:backoffice_conflict_changelist"))
        if request.method != "POST" or not self.has_change_permission(request):
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
            messages.error(request, _("Select at least one conflict."))
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
            messages.add_message(request, messages.WARNING if done else messages.ERROR, words % {"n": refused})
        return back

    def conflict_page(self, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
        """Shows one conflict. A POST resolves it or, with `preview`, shows the result."""
        row = _found(request, key)
        if request.method != "POST" or not inbox.may_settle(request.user, row.command_type):
            if request.method == "POST":
                raise PermissionDenied
            return self._conflict_page(request, row, decisions.Answers())
        now = situations.situation(key)
        answers = decisions.answers_of(request, now)
        if "preview" in request.POST:
            return self._conflict_page(request, row, answers, previewing=True)
        return self._resolve(request, row, answers)

    def _resolve(self, request: HttpRequest, row: models.Conflict, answers: decisions.Answers) -> HttpResponse:
        """Resolves the conflict.

        1  parse the inputs
        2  store the choices and the change, in one transaction
        """
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
            return self._conflict_page(request, row, answers, error=error, status=error.status)
        if settled.result is None:
            messages.success(request, _("Resolved: the record is unchanged."))
        else:
            messages.success(request, _("Resolved and saved as version %(version)d.") % {"version": settled.version})
        return HttpResponseRedirect(reverse(section.kind(row.category).url("change"), args=[row.key]))

    def preview(self, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
        """Returns a preview of the choices so far, for pages with scripts."""
        row = _found(request, key)
        if request.method != "POST" or not inbox.may_settle(request.user, row.command_type):
            raise PermissionDenied
        now = situations.situation(key)
        context = {"preview": decisions.preview(now, decisions.answers_of(request, now), request.user)}
        return TemplateResponse(request, "admin/backoffice/conflict_preview.html", context)

    def _conflict_page(
        self,
        request: HttpRequest,
        row: models.Conflict,
        answers: decisions.Answers,
        *,
        error: errors.EventsError | None = None,
        previewing: bool = False,
        status: int = 200,
    ) -> HttpResponse:
        stamp, staff = log_position.now(), request.user
        is_open = row.status == "open"
        now = situations.situation(row.pk, None if is_open else _resolved_version(row))
        kind = section.kind(row.category)
        complaints = dict(getattr(error, "fields", {}))
        places = decisions.places(now, answers, staff, complaints)
        hidden = len(now.open_places) - len(places)
        # Errors that belong to no place are shown at the top of the page.
        shown_at = {place.path for place in places} | {values.steps(place.path)[0] for place in places} | {"reason"}
        on_top = [message for where, message in complaints.items() if where not in shown_at]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Conflict"),
            "row": row,
            "now": now,
            "resource": kind,
            "name": _record_name(row.stream, staff) or row.key,
            "record_url": reverse(kind.url("change"), args=[row.key]) if _exists(kind, row) else None,
            "author": actors.actor(row.author, row.author_name or None),
            "is_mine": row.author == f"staff:{staff.pk}",
            "places": places,
            "hidden": hidden,
            "is_open": is_open,
            "can_settle": is_open and not hidden and inbox.may_settle(staff, row.command_type),
            "can_act": inbox.may_settle(staff, row.command_type),
            "assignable": inbox.assignable(row.command_type) if inbox.may_settle(staff, row.command_type) else [],
            "their_lines": diffs.rows(row.category, now.base, now.theirs, staff) if now.base else [],
            "my_lines": diffs.rows(row.category, now.theirs, now.merge.values, staff) if now.is_edit else [],
            "preview": decisions.preview(now, answers, staff) if is_open else None,
            "previewing": previewing,
            "reason": answers.reason if request.method == "POST" else now.filed.command.get("reason"),
            "reason_complaint": complaints.get("reason", ""),
            "error": error,
            "on_top": on_top,
            "trail": trail.trail(row, staff),
            "topic": kind.topic_of(row.key),
            "stamp": stamp,
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "admin/backoffice/conflict.html", context, status=status)

    def act(self, request: HttpRequest, key: uuid.UUID) -> HttpResponse:
        """Assigns, comments on, discards or reopens a conflict."""
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
            reason = sent.get("reason", "").strip() or None
            inbox.act(row.pk, request.user, known[sent["do"]], reason, command_id=scripted_forms.command_id(request))
        except inbox.Forbidden as error:
            raise PermissionDenied from error
        except errors.EventsError as error:
            messages.error(request, error_messages.in_one_line(error))
        return back
