"""What the pages of all records share: who may come in, at which addresses."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.functional import cached_property

from backoffice import access
from backoffice.sections.privacy import pages as erasures
from backoffice.web import history, lists, records
from backoffice.web.resources import Resource


class RecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The pages of one kind of record under Django's own names (`admin:backoffice_user_changelist` …).

    Django's admin finds the model, its permissions and its links here; the pages are ours, because a record is never
    saved by a form but by a command.
    """

    resource: ClassVar[Resource]

    def get_urls(self) -> list[URLPattern]:
        name = f"backoffice_{self.resource.category}"
        pages: list[tuple[str, str, Callable[..., HttpResponseBase]]] = [
            ("", "changelist", lists.index),
            ("rows/", "rows", lists.rows),
            ("add/", "add", records.add),
            ("<str:key>/change/", "change", records.change),
            ("<str:key>/live/", "live", records.live),
            ("<str:key>/delete/", "delete", records.delete),
            ("<str:key>/restore/", "restore", records.restore),
            ("<str:key>/erase/", "erase", erasures.erase),
            ("<str:key>/export/", "export", erasures.export),
            ("<str:key>/history/", "history", history.index),
            ("<str:key>/history/<int:version>/", "version", history.version),
            ("<str:key>/history/<int:version>/restore/", "rollback", history.rollback),
            ("<str:key>/compare/", "compare", history.compare),
            ("<str:key>/", "record", _to_change),
        ]
        return [
            path(route, self.admin_site.admin_view(partial(view, self)), name=f"{name}_{kind}")
            for route, kind, view in pages
        ]

    @cached_property
    def list_url(self) -> str:
        return reverse(self.resource.url("changelist"))

    def allows(self, request: HttpRequest, command: str | None) -> bool:
        """May this person send this command (by its name)?"""
        return command is not None and access.may(request.user, self.resource.action(command), self.resource.category)

    def demand(self, request: HttpRequest, *commands: str | None) -> None:
        """403 unless this person may see the record, or may send the command. One that the record does not have (None)
        nobody may send.
        """
        allowed = self.allows(request, *commands) if commands else self.has_view_permission(request)
        if not allowed:
            raise PermissionDenied

    def found(self, key: str) -> Any:
        """The row of a record, or 404."""
        rows = self.model._default_manager.select_related(*(["user"] if self.resource.category == "form" else []))
        try:
            pk = uuid.UUID(key) if self.model._meta.pk.get_internal_type() == "UUIDField" else key
        except ValueError:
            raise Http404 from None
        row = rows.filter(pk=pk).first()
        if row is None:
            raise Http404
        return row

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.may(request.user, "view", self.resource.category)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, self.resource.create)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, self.resource.update)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, self.resource.delete)


def _to_change(room: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:  # noqa: ARG001
    return HttpResponseRedirect(reverse(room.resource.url("change"), args=[key]))
