"""The base of the pages of a kind of record: who may see them, and the record an address names."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.functional import cached_property

from backoffice import access
from backoffice.section import Kind
from events import types

# (route, name, view) of an address
Route = tuple[str, str, Callable[..., HttpResponseBase]]


class KindAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Permissions by `access` instead of Django's own tables, and what all pages of a kind of record share."""

    kind: ClassVar[Kind]

    @cached_property
    def list_url(self) -> str:
        return reverse(self.kind.url("changelist"))

    def stream(self, key: Any) -> str:
        return types.stream_name(self.kind.category, key)

    def allows(self, request: HttpRequest, command: str | None) -> bool:
        """May this person send this command (by its name)?"""
        return command is not None and access.may(request.user, command.partition(".")[2], self.kind.category)

    def demand(self, request: HttpRequest, *commands: str | None) -> None:
        """403 unless this person may see the record, or may send the command. One that the record does not have (None)
        nobody may send.
        """
        allowed = self.allows(request, *commands) if commands else self.has_view_permission(request)
        if not allowed:
            raise PermissionDenied

    def found(self, key: str) -> Any:
        """The row of a record, or 404."""
        try:
            pk = uuid.UUID(key) if self.kind.is_uuid_keyed else key
        except ValueError:
            raise Http404 from None
        row = self.model._default_manager.select_related(*self.kind.related).filter(pk=pk).first()
        if row is None:
            raise Http404
        return row

    def page_context(self, request: HttpRequest) -> dict[str, Any]:
        """What the templates of all its pages are given."""
        return {**self.admin_site.each_context(request), "resource": self.kind, "opts": self.model._meta}

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.may(request.user, "view", self.kind.category)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, self.kind.create)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, self.kind.update)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, self.kind.delete)


class RecordPages:
    """Pages that a section adds to every kind of record (`Section.record_pages`)."""

    def __init__(self, model_admin: KindAdmin) -> None:
        self.admin = model_admin
        self.kind = model_admin.kind

    def routes(self) -> Sequence[Route]:
        raise NotImplementedError
