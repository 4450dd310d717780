"""Pages that erase a record or export all data about a user, for data protection officers, and show the progress."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from backoffice import error_messages, streaming
from backoffice.sections.privacy import erasure, export_jobs
from backoffice.sections.privacy import export as user_export
from backoffice.web import forms as inputs
from backoffice.web import records
from backoffice.web.kind_admin import RecordPages, Route
from events import errors
from events.privacy import purging


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


POLL_MS: Final = 2_000


class PrivacyPages(RecordPages):
    """Erases a record, and exports all data about a user."""

    def routes(self) -> Sequence[Route]:
        return (
            ("<str:key>/erase/", "erase", self.erase),
            ("<str:key>/purge/", "purge", self.purge),
            ("<str:key>/export/", "export", self.export),
            ("<str:key>/exports/", "exports", self.exports),
            ("<str:key>/exports/<uuid:export>/", "exported", self.exported),
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

    def purge(self, request: HttpRequest, key: str) -> HttpResponse:
        """The part of the record's page that says how far the purge after its erasure is."""
        self.admin.demand(request)
        row = self.admin.found(key)
        progress = purging.progress(self.admin.stream(row.pk))
        return _fragment(request, "admin/backoffice/purge_progress.html", {"row": row, "purging": progress})

    def export(self, request: HttpRequest, key: str) -> HttpResponseBase:
        """Exports all data about a user: as one file at once, or by a worker where it is large.

        It is a POST because the export is recorded.
        """
        row = self._exportable(request, key)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not export_jobs.is_large(row):
            return streaming.download(request, user_export.export(row, "admin"), f"user-{row.pk}.json")
        try:
            export_jobs.request(row)
        except errors.EventsError as error:
            messages.error(request, error_messages.in_one_line(error))
        return HttpResponseRedirect(reverse(self.kind.url("exports"), args=[row.pk]))

    def exports(self, request: HttpRequest, key: str) -> HttpResponse:
        """Lists the exports that workers made or are making, with their progress."""
        row = self._exportable(request, key)
        context = {"row": row, "exports": export_jobs.of(row.pk), "resource": self.kind}
        if request.GET.get("fragment"):
            return _fragment(request, "admin/backoffice/exports_part.html", context)
        name = self.kind.title(row, request.user)
        context |= {"title": _("Exports"), "name": name, "poll_ms": POLL_MS, "as_of": timezone.localtime()}
        return TemplateResponse(request, "admin/backoffice/exports.html", self.admin.page_context(request) | context)

    def exported(self, request: HttpRequest, key: str, export: uuid.UUID) -> HttpResponseBase:
        """Downloads a finished export, which is recorded, or deletes one with ``delete``."""
        row = self._exportable(request, key)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        found = export_jobs.find(row.pk, export)
        if found is None:
            raise Http404
        if "delete" in request.POST:
            export_jobs.delete([found.pk])
            messages.success(request, _("The export was deleted."))
        elif found.finished_at:
            try:
                parts = export_jobs.download(found)
                return streaming.download(request, parts, f"user-{row.pk}.json")
            except errors.EventsError as error:
                messages.error(request, error_messages.in_one_line(error))
        return HttpResponseRedirect(reverse(self.kind.url("exports"), args=[row.pk]))

    def _exportable(self, request: HttpRequest, key: str) -> Any:
        """The record. Raises `PermissionDenied` for kinds and people without the right to export."""
        if not self.admin.allows(request, self.kind.export):
            raise PermissionDenied
        return self.admin.found(key)


def _fragment(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """The part of a page that changes while the page is open."""
    response = TemplateResponse(request, template, context)
    response["Cache-Control"] = "no-store"
    response["X-As-Of"] = f"{timezone.localtime():%H:%M:%S}"
    return response
