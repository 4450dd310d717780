"""One record: see, add, change, delete, bring back. Every write is a command; nothing typed is ever lost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import access, error_messages, models
from backoffice.sections.conflicts import inbox
from backoffice.sections.privacy import erasure
from backoffice.web import actors, diffs, forms, log_position, offline, sidebar
from backoffice.web.resources import Resource
from events import aggregate, commands, conflicts, errors, snapshots, store, types
from events.conflicts import rules as conflict_rules
from events.privacy import erasure as keys

if TYPE_CHECKING:
    from backoffice.web.record_admin import RecordAdmin


def stream_of(room: RecordAdmin, key: Any) -> str:
    return types.stream_name(room.resource.category, key)


# -- see and change -------------------------------------------------------------------------------------------------


def change(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """The record's page; a POST saves what was changed on it."""
    room.demand(request)
    stamp, row = log_position.now(), room.found(key)
    now = snapshots.folded(stream_of(room, row.pk))
    state, version = aggregate.of_category(room.resource.category).dump(now.state), now.version
    if request.method == "POST":
        room.demand(request, room.resource.update)
        if offline.is_somebody_elses(request):
            return JsonResponse({"code": "other_person"}, status=409)
        return _save(room, request, row, stamp)
    form = _form(room, request, row, state, version)
    response = _page(room, request, row, stamp, form, version, unreadable=now.unreadable)
    if room.resource.offline:
        response[offline.KEEP] = "1"
    return response


def _form(
    room: RecordAdmin, request: HttpRequest, row: Any, state: Mapping[str, Any], version: int
) -> forms.RecordForm | None:
    """The form over the state, or None where this person only reads."""
    may_edit = room.allows(request, room.resource.update) and not getattr(row, "deleted_at", None)
    if not may_edit or room.resource.form is None:
        return None
    return room.resource.form(staff=request.user, base=state, initial={**state, "base_version": version})


def _save(room: RecordAdmin, request: HttpRequest, row: Any, stamp: log_position.Stamp) -> HttpResponse:
    """1 the base from the store, never from the client  2 what differs from it  3 the command  4 its verdict."""
    stream = stream_of(room, row.pk)
    opened = number(request.POST.get("base_version"))
    base, version = snapshots.state_dict(stream, opened)
    form = room.resource.form(request.POST, staff=request.user, base=base, initial=base)  # type: ignore[misc]
    if not form.is_valid():
        return _page(room, request, row, stamp, form, version, status=422)
    changed = form.changed()
    if not changed:
        messages.info(request, _("Nothing was changed."))
        return _go_on(request, request.path)
    try:
        result = send(request, room.resource.update or "", str(row.pk), changed, form, version)
    except errors.Conflict as conflict:
        return _go_on(request, reverse("admin:backoffice_conflict_change", args=[conflict.conflict_id]))
    except errors.EventsError as error:
        _explain(form, error)
        return _page(room, request, row, stamp, form, version, status=error.status)
    _say(request, result, version)
    return _go_on(request, request.path)


def _go_on(request: HttpRequest, address: str) -> HttpResponse:
    """Where a save leads to; a script that saved is told, for it could not see where a redirect went."""
    if request.headers.get("X-Requested-With") == "fetch":
        return JsonResponse({"location": address})
    return HttpResponseRedirect(address)


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
    """Dispatch a command as the person of the request. Where something was `typed`, a conflict waits in the inbox.

    A page brought back with the browser's Back button carries an id that was used: what it asks for now is another
    command, so it gets an id of its own.
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
    carry_out = inbox.dispatch if typed and data else _asked_again
    try:
        return carry_out(command, request.user)
    except errors.IdempotencyKeyReused:
        return carry_out(msgspec.structs.replace(command, id=types.new_id()), request.user)


def _asked_again(command: types.Command, _staff: Any) -> commands.Result:
    """Nothing was typed that could be lost: who deletes what moved meanwhile is asked again, no conflict is filed."""
    inbox.demand_chosen(command.id)
    return commands.dispatch(command)


def number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def _explain(form: forms.RecordForm, error: errors.EventsError) -> None:
    message, complaints = error_messages.said_by(error)
    form.complain(complaints, message)


def _say(request: HttpRequest, result: commands.Result, base_version: int) -> None:
    """The verdict, in words."""
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
    resource: Resource, request: HttpRequest, state: Mapping[str, Any], names: Sequence[str] | None = None
) -> dict[str, Any]:
    """A state as the inputs of its form hold it."""
    if resource.form is None:
        return {}
    form = resource.form(staff=request.user, base=state, initial=state)
    return {field.name: field.value() for field in form.record_fields if names is None or field.name in names}


# -- the page -------------------------------------------------------------------------------------------------------


def _page(
    room: RecordAdmin,
    request: HttpRequest,
    row: Any,
    stamp: log_position.Stamp,
    form: forms.RecordForm | None,
    version: int,
    *,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    resource = room.resource
    context = {
        **room.admin_site.each_context(request),
        **sidebar.record(resource, row, request.user),
        "title": sidebar.name_of(resource, row, request.user),
        "resource": resource,
        "room": room,
        "row": row,
        "form": form,
        "version": version,
        "stamp": stamp,
        "topic": f"{resource.record_topic}:{row.pk}" if resource.record_topic else resource.topic,
        "stream": stream_of(room, row.pk),
        "rules": _rules(resource.category) if form else "",
        **_critical(resource.category, str(row.pk)),
        "can_delete": room.has_delete_permission(request) and not getattr(row, "deleted_at", None),
        "can_restore": bool(getattr(row, "deleted_at", None)) and room.allows(request, resource.restore),
        "erased": erasure.is_erased(row),
        "purging": erasure.is_erased(row) and keys.is_purging(stream_of(room, row.pk)),
        "can_erase": room.allows(request, resource.erase) and not erasure.is_erased(row),
        "can_export": room.allows(request, resource.export),
        "opts": room.model._meta,
        **more,
    }
    return TemplateResponse(request, "admin/backoffice/record.html", context, status=status)


def _critical(category: str, key: str) -> dict[str, Any]:
    """For the page's script: the fields of this record whose change needs a reason, and what to say without one."""
    reasons = aggregate.of_category(category).reasons
    if reasons is None or not reasons.concerns(key):
        return {"critical": (), "critical_message": ""}
    return {"critical": reasons.fields, "critical_message": error_messages.said(reasons.message)}


def _rules(category: str) -> str:
    """How fields of such records merge, as the page's script takes it; empty where they are single values."""
    record = aggregate.of_category(category)
    if not record.policies:
        return ""
    known = (conflicts.Unique, conflicts.References, conflicts.Acyclic)  # a function of the domain's own stays here
    checks = [conflict_rules.to_json(check) for check in record.checks if isinstance(check, known)]
    return json.dumps({"policies": conflicts.policies_to_json(record.policies), "checks": checks})


def live(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """The record of now for a page that is open: values as its inputs hold them, and what changed since `?since=`."""
    room.demand(request)
    resource, stamp, row = room.resource, log_position.now(), room.found(key)
    stream = stream_of(room, row.pk)
    state, version = snapshots.state_dict(stream)
    since = number(request.GET.get("since")) or version
    between = store.read_stream(stream, since, limit=50)
    context = {**sidebar.record(resource, row, request.user), "resource": resource, "row": row, "version": version}
    answer = {
        "version": version,
        "position": stamp.position,
        "deleted": bool(getattr(row, "deleted_at", None)),
        "name": sidebar.name_of(resource, row, request.user),
        "values": _input_values(resource, request, state),
        "changes": [_told(resource, event, request.user) for event in between],
        "aside": render_to_string("admin/backoffice/record_facts.html", context, request),
    }
    response = JsonResponse(answer)
    response["Cache-Control"] = "no-store"
    return response


def _told(resource: Resource, event: types.RecordedEvent, staff: Any) -> dict[str, Any]:
    names = access.redact(staff, resource.category, event.data)
    return {
        "version": event.version,
        "who": actors.author(event).name,
        "actor": event.actor,
        "reason": event.reason,
        "type": event.type,
        "fields": {name: resource.label(name) for name in names},
    }


# -- add ------------------------------------------------------------------------------------------------------------


def add(room: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """A new record. Its id is drawn with the empty form, so that a double click makes one record."""
    resource = room.resource
    room.demand(request, resource.create)
    if resource.add_form is None or resource.create is None:
        raise PermissionDenied
    if request.method != "POST":
        initial = {name: request.GET[name] for name in ("user_id", "key") if name in request.GET}
        form = resource.add_form(staff=request.user, initial={"fields": [], **initial})
        return _add_page(room, request, form)
    form = resource.add_form(request.POST, staff=request.user)
    if not form.is_valid():
        return _add_page(room, request, form, status=422)
    data = form.changed()
    key = data.pop("key", None) or str(form.cleaned_data["command_id"] or types.new_id())
    try:
        result = send(request, resource.create, key, data, form, _unborn(room, key))
    except errors.EventsError as error:
        _explain(form, error)
        return _add_page(room, request, form, status=error.status)
    messages.success(request, _("%(kind)s was added.") % {"kind": resource.singular})
    return HttpResponseRedirect(reverse(resource.url("change"), args=[types.key_of(result.stream)]))


def _unborn(room: RecordAdmin, key: str) -> int | None:
    """A setting is made and changed by one command: say that there is none yet."""
    if room.resource.category != "setting":
        return None
    if models.Setting.objects.filter(pk=key).exists():
        raise errors.InvalidCommand(fields={"key": _("There is already a setting of this name.")})
    return store.version_of(stream_of(room, key))


def _add_page(room: RecordAdmin, request: HttpRequest, form: forms.RecordForm, status: int = 200) -> HttpResponse:
    context = {
        **room.admin_site.each_context(request),
        "title": room.resource.add_label,
        "resource": room.resource,
        "room": room,
        "form": form,
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/add_record.html", context, status=status)


# -- delete and bring back ------------------------------------------------------------------------------------------


class ReasonForm(forms.RecordForm):
    """No fields but why."""


def delete(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """Asks, with the record in view; refused when it changed since it was asked."""
    room.demand(request, room.resource.delete)
    row = room.found(key)
    state, version = snapshots.state_dict(stream_of(room, row.pk))
    if request.method != "POST":
        return _delete_page(room, request, row, ReasonForm(staff=request.user, initial={"base_version": version}))
    form = ReasonForm(request.POST, staff=request.user)
    if not form.is_valid():
        return _delete_page(room, request, row, form, status=422)
    try:
        send(request, room.resource.delete or "", str(row.pk), {}, form, form.cleaned_data["base_version"])
    except errors.Conflict as conflict:
        again = ReasonForm(
            staff=request.user, initial={"base_version": version, "reason": form.cleaned_data.get("reason", "")}
        )
        meanwhile = diffs.lines(room.resource.category, conflict.base, state, request.user)
        return _delete_page(room, request, row, again, status=409, meanwhile=meanwhile)
    except errors.EventsError as error:
        _explain(form, error)
        return _delete_page(room, request, row, form, status=error.status)
    messages.success(request, _("%(kind)s was deleted.") % {"kind": room.resource.singular})
    return HttpResponseRedirect(room.list_url)


def _delete_page(
    room: RecordAdmin, request: HttpRequest, row: Any, form: forms.RecordForm, status: int = 200, **more: Any
) -> HttpResponse:
    name = sidebar.name_of(room.resource, row, request.user)
    context = {
        **room.admin_site.each_context(request),
        "title": _("Delete %(name)s?") % {"name": name},
        "name": name,
        "resource": room.resource,
        "room": room,
        "row": row,
        "form": form,
        "opts": room.model._meta,
        **more,
    }
    return TemplateResponse(request, "admin/backoffice/delete_record.html", context, status=status)


def restore(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """Bring a deleted record back (POST)."""
    room.demand(request, room.resource.restore)
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    row = room.found(key)
    form = ReasonForm(request.POST, staff=request.user)
    form.is_valid()
    try:
        send(request, room.resource.restore or "", str(row.pk), {}, form, None)
        messages.success(request, _("%(kind)s was restored.") % {"kind": room.resource.singular})
    except errors.EventsError as error:
        messages.error(request, error_messages.in_one_line(error))
    return HttpResponseRedirect(reverse(room.resource.url("change"), args=[row.pk]))
