"""Erasing a record for ever, and handing out all that is held about a user: for data protection officers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import error_messages, streaming
from backoffice.sections.privacy import erasure
from backoffice.sections.privacy import export as held
from backoffice.web import forms as inputs
from backoffice.web import records, sidebar
from events import errors

if TYPE_CHECKING:
    from backoffice.web.record_admin import RecordAdmin


class EraseForm(inputs.RecordForm):
    """Why, and that it is meant."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        reason = self.fields["reason"]
        reason.required = True
        reason.error_messages["required"] = _("Enter a reason: it stays readable after the erasure.")
        reason.help_text = _("This reason stays readable permanently: enter no personal data.")
        reason.widget.attrs["placeholder"] = _("Who asked, and when; no names")
        meant = forms.BooleanField(label=_("I understand that this cannot be undone."))
        meant.error_messages["required"] = _("Check this box to confirm the erasure.")
        self.fields["meant"] = meant

    @property
    def asked(self) -> list[forms.BoundField]:
        return [self["reason"], self["meant"]]


def erase(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """Asks, with everything that will go in view; then it is a command like any other."""
    if not room.allows(request, room.resource.erase):
        raise PermissionDenied
    row = room.found(key)
    if erasure.is_erased(row):
        messages.info(request, _("This was already erased."))
        return HttpResponseRedirect(reverse(room.resource.url("change"), args=[row.pk]))
    form = EraseForm(request.POST or None, staff=request.user)
    if request.method != "POST":
        return _page(room, request, row, form)
    if not form.is_valid():
        return _page(room, request, row, form, status=422)
    try:
        records.send(request, room.resource.erase or "", str(row.pk), {}, form, None)
    except errors.EventsError as error:
        form.complain({}, error_messages.in_one_line(error))
        return _page(room, request, row, form, status=error.status)
    messages.success(request, _("%(kind)s was erased.") % {"kind": room.resource.singular})
    return HttpResponseRedirect(reverse(room.resource.url("change"), args=[row.pk]))


def _page(room: RecordAdmin, request: HttpRequest, row: Any, form: EraseForm, status: int = 200) -> HttpResponse:
    name = sidebar.name_of(room.resource, row, request.user)
    context = {
        **room.admin_site.each_context(request),
        "title": _("Erase %(name)s permanently?") % {"name": name},
        "name": name,
        "resource": room.resource,
        "room": room,
        "row": row,
        "form": form,
        "goes": erasure.holdings(row),
        "opts": room.model._meta,
    }
    return TemplateResponse(request, "admin/backoffice/erase_record.html", context, status=status)


def export(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponseBase:
    """Everything held about a user as one file (POST: that it was handed out is recorded)."""
    if not room.allows(request, room.resource.export):
        raise PermissionDenied
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    row = room.found(key)
    return streaming.download(request, held.export(row, "admin"), f"user-{row.pk}.json")
