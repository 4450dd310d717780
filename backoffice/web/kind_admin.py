"""Base class of the pages of a kind of record: permissions, and finding the record of a URL."""

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

# (route, name, view) of a URL
Route = tuple[str, str, Callable[..., HttpResponseBase]]


class KindAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Base of all pages of a kind of record. Permissions come from `access` instead of Django's tables."""

    kind: ClassVar[Kind]

    @cached_property
    def list_url(self) -> str:
        return reverse(self.kind.url("changelist"))

    def stream(self, key: Any) -> str:
        return types.stream_name(self.kind.category, key)

    def allows(self, request: HttpRequest, command: str | None) -> bool:
        """Returns whether this person may send the command of this name."""
        return command is not None and access.may(request.user, command.partition(".")[2], self.kind.category)

    def demand(self, request: HttpRequest, *commands: str | None) -> None:
        """Raises `PermissionDenied` unless this person may send the command or, without one, view the record.

        A command that the kind does not have (None) is denied to all.
        """
        allowed = self.allows(request, *commands) if commands else self.has_view_permission(request)
        if not allowed:
            raise PermissionDenied

    def found(self, key: str) -> Any:
        """Returns the row of a record. Raises `Http404`."""
        try:
            pk = uuid.UUID(key) if self.kind.is_uuid_keyed else key
        except ValueError:
            raise Http404 from None
        row = self.model._default_manager.select_related(*self.kind.related).filter(pk=pk).first()
        if row is None:
            raise Http404
        return row

    def page_context(self, request: HttpRequest) -> dict[str, Any]:
        """Returns the context that the templates of all pages share."""
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
