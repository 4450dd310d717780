"""Pages that erase a record or export all data about a user, for data protection officers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from backoffice.sections.privacy import export as user_export
from backoffice.web import forms as inputs
from backoffice.web import records
from backoffice.web.kind_admin import RecordPages, Route
from events import errors


class EraseForm(inputs.RecordForm):
    """The reason for an erasure, and its confirmation."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        reason = self.fields["reason"]
        reason.required = True
        reason.error_messages["required"] = _("Enter a reason: it stays readable after the erasure.")
        reason.help_text = _("This reason stays readable permanently: enter no personal data.")
        reason.widget.attrs["placeholder"] = _("Ticket number and date; no names")
        meant = forms.BooleanField(label=_("I understand that this cannot be undone."))
        meant.error_messages["required"] = _("Check this box to confirm the erasure.")
        self.fields["meant"] = meant

    @property
    def asked(self) -> list[forms.BoundField]:
        return [self["reason"], self["meant"]]


class PrivacyPages(RecordPages):
    """Erases a record, and exports all data about a user."""

    def routes(self) -> Sequence[Route]:
        return (
            ("<str:key>/erase/", "erase", self.erase),
            ("<str:key>/export/", "export", self.export),
        )

    def erase(self, request: HttpRequest, key: str) -> HttpResponse:
        """Shows everything that will be erased and asks for confirmation, then sends the command."""
        if not self.admin.allows(request, self.kind.erase):
            raise PermissionDenied
        row = self.admin.found(key)
        if row.is_erased:
            messages.info(request, _("This was already erased."))
            return HttpResponseRedirect(reverse(self.kind.url("change"), args=[row.pk]))
        form = EraseForm(request.POST or None, staff=request.user)
        if request.method != "POST":
            return self._question(request, row, form)
        if not form.is_valid():
            return self._question(request, row, form, status=422)
        try:
            records.send(request, self.kind.erase or "", str(row.pk), {}, form, None)
        except errors.EventsError as error:
            form.show_errors({}, error_messages.in_one_line(error))
            return self._question(request, row, form, status=error.status)
        messages.success(request, _("%(kind)s was erased.") % {"kind": self.kind.singular})
        return HttpResponseRedirect(reverse(self.kind.url("change"), args=[row.pk]))

    def _question(self, request: HttpRequest, row: Any, form: EraseForm, status: int = 200) -> HttpResponse:
        name = self.kind.title(row, request.user)
        context = {
            **self.admin.page_context(request),
            "title": _("Erase %(name)s permanently?") % {"name": name},
            "name": name,
            "row": row,
            "form": form,
            "goes": erasure.affected_data(row),
        }
        return TemplateResponse(request, "admin/backoffice/erase_record.html", context, status=status)

    def export(self, request: HttpRequest, key: str) -> HttpResponseBase:
        """Exports all data about a user as one file. It is a POST because the export is recorded."""
        if not self.admin.allows(request, self.kind.export):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.admin.found(key)
        return streaming.download(request, user_export.export(row, "admin"), f"user-{row.pk}.json")
