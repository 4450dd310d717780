"""Pages that show, add, update, delete and restore one record. Every write is a command; no typed input is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.forms import BoundField, TextInput
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import access, error_messages, extensions, section
from backoffice import commands as entry_point
from backoffice.section import Kind
from backoffice.web import actors, diffs, forms, log_position, offline, scripted_forms, sidebar
from backoffice.web.kind_admin import KindAdmin
from events import commands, conflicts, errors, snapshots, store, types
from events.aggregate import Aggregate
from events.conflicts import rules as conflict_rules
from events.privacy import purging


class EditAdmin(KindAdmin):
    """The pages that show, edit, add, delete and restore a record."""

    def change_page(self, request: HttpRequest, key: str) -> HttpResponse:
        """Renders the record's page; a POST saves the changed fields.

        While an archive file with its events is missing, the record can be read and not changed.
        """
        self.demand(request)
        stamp, row = log_position.now(), self.found(key)
        try:
            now = snapshots.folded(self.stream(row.pk))
        except errors.Archived:
            if request.method == "POST":
                raise
            return self._record_page(request, row, stamp, None, row.version, archived=True)
        state, version = self.kind.aggregate.dump(now.state), now.version
        if request.method == "POST":
            self.demand(request, self.kind.update)
            return self._save(request, row, stamp)
        form = self._form(request, row, state, version)
        response = self._record_page(request, row, stamp, form, version, unreadable=now.unreadable)
        if self.kind.offline:
            offline.mark_kept(response)
        return response

    def _form(self, request: HttpRequest, row: Any, state: Mapping[str, Any], version: int) -> forms.RecordForm | None:
        """Returns the form with the state's values; None for people who may not edit."""
        may_edit = self.allows(request, self.kind.update) and not getattr(row, "deleted_at", None)
        if not may_edit or self.kind.form is None:
            return None
        form: forms.RecordForm = self.kind.form(
            staff=request.user, base=state, initial={**state, "base_version": version}
        )
        return form

    def _save(self, request: HttpRequest, row: Any, stamp: log_position.Stamp) -> HttpResponse:
        """Saves the changed fields.

        1 load the base from the store  2 compare  3 dispatch the command  4 show the result
        """
        stream = self.stream(row.pk)
        opened = number(request.POST.get("base_version"))
        base, version = snapshots.state_dict(stream, opened)
        form = self.kind.form(request.POST, staff=request.user, base=base, initial=base)  # type: ignore[misc]
        if not form.is_valid():
            return self._record_page(request, row, stamp, form, version, status=422)
        changed = form.changed()
        if not changed:
            messages.info(request, _("Nothing was changed."))
            return self._go_on(request, stream)
        try:
            result = send(request, self.kind.update or "", str(row.pk), changed, form, version)
        except errors.Conflict as conflict:
            inbox = section.inbox()
            if inbox is None:
                _explain(form, conflict)
                return self._record_page(request, row, stamp, form, version, status=conflict.status)
            return HttpResponseRedirect(reverse(inbox.page, args=[conflict.conflict_id]))
        except errors.EventsError as error:
            _explain(form, error)
            return self._record_page(request, row, stamp, form, version, status=error.status)
        _show_result(request, result, version)
        return self._go_on(request, stream, result.version)

    def _go_on(self, request: HttpRequest, stream: str, saved: int | None = None) -> HttpResponse:
        """Redirects after a save; a script also gets the record, for a page whose person continued typing meanwhile.

        saved  the version of this save; others may have saved newer ones
        """
        if not scripted_forms.is_scripted(request):
            return HttpResponseRedirect(request.path)
        state, version = snapshots.state_dict(stream)
        values = _input_values(self.kind, request, state)
        return JsonResponse({"location": request.path, "saved": saved, "version": version, "values": values})

    def _record_page(
        self,
        request: HttpRequest,
        row: Any,
        stamp: log_position.Stamp,
        form: forms.RecordForm | None,
        version: int,
        *,
        status: int = 200,
        **more: Any,
    ) -> HttpResponse:
        kind = self.kind
        context = {
            **self.page_context(request),
            **sidebar.record(kind, row, request.user),
            "title": kind.title(row, request.user),
            "row": row,
            "added_panels": extensions.panels(kind, row, request.user),
            "form": form,
            "version": version,
            "stamp": stamp,
            "topic": kind.topic_of(row.pk),
            "stream": self.stream(row.pk),
            "rules": _rules(kind.aggregate) if form else "",
            **_critical(kind.aggregate, str(row.pk)),
            "can_delete": self.has_delete_permission(request) and not getattr(row, "deleted_at", None),
            "can_restore": bool(getattr(row, "deleted_at", None)) and self.allows(request, kind.restore),
            "erased": row.is_erased,
            "purging": purging.progress(self.stream(row.pk)) if row.is_erased else None,
            "can_erase": self.allows(request, kind.erase) and not row.is_erased,
            "can_export": self.allows(request, kind.export),
            **more,
        }
        return TemplateResponse(request, "admin/backoffice/record.html", context, status=status)

    def live(self, request: HttpRequest, key: str) -> HttpResponse:
        """Returns the current record as JSON, for open pages: its inputs' values, and changes since `?since=`."""
        self.demand(request)
        kind, stamp, row = self.kind, log_position.now(), self.found(key)
        stream = self.stream(row.pk)
        state, version = snapshots.state_dict(stream)
        if getattr(row, "version", version) < version:  # a change was committed between the two reads
            row = self.found(key)
        since = number(request.GET.get("since")) or version
        between = store.read_stream(stream, since, limit=50)
        context = {**sidebar.record(kind, row, request.user), "resource": kind, "row": row, "version": version}
        answer = {
            "version": version,
            "position": stamp.position,
            "deleted": bool(getattr(row, "deleted_at", None)),
            "name": kind.title(row, request.user),
            "values": _input_values(kind, request, state),
            "changes": [_as_notice(kind, event, request.user) for event in between],
            "aside": render_to_string("admin/backoffice/record_facts.html", context, request),
        }
        response = JsonResponse(answer)
        response["Cache-Control"] = "no-store"
        return response

    def add_page(self, request: HttpRequest) -> HttpResponse:
        """Adds a record. Its id is chosen with the empty form, so that a double click adds one record."""
        kind = self.kind
        self.demand(request, kind.create)
        if kind.add_form is None or kind.create is None:
            raise PermissionDenied
        if request.method != "POST":
            initial = {name: request.GET[name] for name in kind.prefilled if name in request.GET}
            form = kind.add_form(staff=request.user, initial=initial)
            return self._new_page(request, form)
        form = kind.add_form(request.POST, staff=request.user)
        if not form.is_valid():
            return self._new_page(request, form, status=422)
        data = form.changed()
        key = data.pop("key", None) or str(form.cleaned_data["command_id"] or types.new_id())
        try:
            result = send(request, kind.create, key, data, form, self._version_before(key))
        except errors.EventsError as error:
            _explain(form, error)
            return self._new_page(request, form, status=error.status)
        messages.success(request, _("%(kind)s was added.") % {"kind": kind.singular})
        return HttpResponseRedirect(reverse(kind.url("change"), args=[types.key_of(result.stream)]))

    def _version_before(self, key: str) -> int | None:
        """Returns the stream's version if one command both creates and updates, otherwise None.

        Raises `InvalidCommand` if the record exists.
        """
        if self.kind.create != self.kind.update:
            return None
        if self.model._default_manager.filter(pk=key).exists():
            raise errors.InvalidCommand(fields={"key": str(self.kind.taken)})
        return store.version_of(self.stream(key))

    def _new_page(self, request: HttpRequest, form: forms.RecordForm, status: int = 200) -> HttpResponse:
        context = {
            **self.page_context(request),
            "title": self.kind.add_label,
            "form": form,
        }
        return TemplateResponse(request, "admin/backoffice/add_record.html", context, status=status)

    def delete_page(self, request: HttpRequest, key: str) -> HttpResponse:
        """Asks for confirmation, showing the record; rejects the answer if the record changed since then."""
        self.demand(request, self.kind.delete)
        row = self.found(key)
        state, version = snapshots.state_dict(self.stream(row.pk))
        if request.method != "POST":
            return self._question_page(request, row, ReasonForm(staff=request.user, initial={"base_version": version}))
        form = ReasonForm(request.POST, staff=request.user)
        if not form.is_valid():
            return self._question_page(request, row, form, status=422)
        try:
            send(request, self.kind.delete or "", str(row.pk), {}, form, form.cleaned_data["base_version"])
        except errors.Conflict as conflict:
            again = ReasonForm(
                staff=request.user, initial={"base_version": version, "reason": form.cleaned_data.get("reason", "")}
            )
            meanwhile = diffs.rows(self.kind.category, conflict.base, state, request.user)
            return self._question_page(request, row, again, status=409, meanwhile=meanwhile)
        except errors.EventsError as error:
            _explain(form, error)
            return self._question_page(request, row, form, status=error.status)
        messages.success(request, _("%(kind)s was deleted.") % {"kind": self.kind.singular})
        return HttpResponseRedirect(self.list_url)

    def _question_page(
        self, request: HttpRequest, row: Any, form: forms.RecordForm, status: int = 200, **more: Any
    ) -> HttpResponse:
        name = self.kind.title(row, request.user)
        context = {
            **self.page_context(request),
            "title": _("Delete %(name)s?") % {"name": name},
            "name": name,
            "row": row,
            "form": form,
            **more,
        }
        return TemplateResponse(request, "admin/backoffice/delete_record.html", context, status=status)

    def restore(self, request: HttpRequest, key: str) -> HttpResponse:
        """Restores a deleted record (POST)."""
        self.demand(request, self.kind.restore)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.found(key)
        form = ReasonForm(request.POST, staff=request.user)
        form.is_valid()
        try:
            send(request, self.kind.restore or "", str(row.pk), {}, form, None)
            messages.success(request, _("%(kind)s was restored.") % {"kind": self.kind.singular})
        except errors.EventsError as error:
            messages.error(request, error_messages.in_one_line(error))
        return HttpResponseRedirect(reverse(self.kind.url("change"), args=[row.pk]))


def send(
    request: HttpRequest,
    name: str,
    key: str,
    data: Mapping[str, Any],
    form: forms.RecordForm,
    base_version: int | None,
    *,
    typed: bool = True,
) -> commands.Result:
    """Dispatches a command as the person of the request; files a conflict in the inbox if the data were `typed`.

    A page reopened with the browser's Back button contains a command id that was used, so its command gets a new id.
    """
    command = types.Command(
        id=form.cleaned_data.get("command_id") or types.new_id(),
        key=key,
        data=types.decode_command(name, data),
        base_version=base_version,
        reason=form.cleaned_data.get("reason") or None,
    )
    if access.may_command(request.user, command):
        raise PermissionDenied
    filed = typed and bool(data)
    try:
        return entry_point.dispatch(command, request.user, filed=filed)
    except errors.IdempotencyKeyReused:
        again = msgspec.structs.replace(command, id=types.new_id())
        return entry_point.dispatch(again, request.user, filed=filed)


def number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def _explain(form: forms.RecordForm, error: errors.EventsError) -> None:
    message, complaints = error_messages.translate_error(error)
    form.show_errors(complaints, message)


def _show_result(request: HttpRequest, result: commands.Result, base_version: int) -> None:
    """Shows the result of the command as a message."""
    if result.status == "unchanged":
        messages.info(request, _("Nothing was changed."))
        return
    if result.status == "merged":
        between = store.read_stream(result.stream, base_version, upto=result.version - len(result.events))
        names = ", ".join(actor.name for actor in actors.authors(between))
        messages.success(
            request,
            _("Saved as version %(version)d and merged with changes by %(names)s.")
            % {"version": result.version, "names": names or _("someone else")},
        )
        return
    messages.success(request, _("Saved as version %(version)d.") % {"version": result.version})


def _input_values(
    kind: Kind, request: HttpRequest, state: Mapping[str, Any], names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns the values of a state as its form's inputs show them."""
    if kind.form is None:
        return {}
    form = kind.form(staff=request.user, base=state, initial=state)
    return {field.name: _shown(field) for field in form.record_fields if names is None or field.name in names}


def _shown(field: BoundField) -> Any:
    """Returns the value of a field as its input contains it; JSON would turn 5.0 into 5."""
    value, widget = field.value(), field.field.widget
    return widget.format_value(value) if isinstance(widget, TextInput) else value


def _critical(record: Aggregate, key: str) -> dict[str, Any]:
    """Returns, for the page's script, the fields whose change needs a reason and the error without one."""
    reasons = record.reasons
    if reasons is None or not reasons.concerns(key):
        return {"critical": (), "critical_message": ""}
    return {"critical": reasons.fields, "critical_message": error_messages.translate(reasons.message)}


def _rules(record: Aggregate) -> str:
    """Returns the merge policies as JSON for the page's script; empty for a kind without policies."""
    if not record.policies:
        return ""
    known = (conflicts.Unique, conflicts.References, conflicts.Acyclic)  # scripts cannot run functions of the domain
    checks = [conflict_rules.to_json(check) for check in record.checks if isinstance(check, known)]
    return json.dumps({"policies": conflicts.policies_to_json(record.policies), "checks": checks})


def _as_notice(kind: Kind, event: types.RecordedEvent, staff: Any) -> dict[str, Any]:
    names = access.redact(staff, kind.category, event.data)
    return {
        "version": event.version,
        "who": actors.author(event).name,
        "actor": event.actor,
        "reason": event.reason,
        "type": event.type,
        "fields": {name: kind.label(name) for name in names},
    }


class ReasonForm(forms.RecordForm):
    """A form with only the reason."""
