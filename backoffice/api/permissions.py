"""Permissions of a request: the caller's role (`access`), and for a program also the scopes of its key."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from backoffice import access, models, section
from backoffice.api import problems


class StaffOnly(BasePermission):
    """Admits members of staff, and programs that act for one of them."""

    message = "Only members of staff may use this API."

    def has_permission(self, request: Request, view: Any) -> bool:
        return access.role_of(request.user) is not None


def require_scope(request: Request, *scopes: str) -> None:
    """Raises 403 naming the scope if the caller is a key without any of `scopes`."""
    key = request.auth
    if not isinstance(key, models.ApiKey) or any(access.scopes_allow(key.scopes, scope) for scope in scopes):
        return
    detail = f"This API key lacks the scope {scopes[0]}."
    raise problems.forbidden(scopes[0], "missing_scope", detail)


def require_view(request: Request, category: str) -> None:
    """Raises 403 unless the caller may read records of this category."""
    require_scope(request, f"{section.kind(category).name}:read")
    if not access.may(request.user, "view", category):
        raise problems.forbidden(f"{category}.view")


def require_events(request: Request) -> None:
    """Raises 403 unless the caller may read the whole log."""
    require_scope(request, "events:read")
    if not access.may(request.user, "view", "event"):
        raise problems.forbidden("event.view")


def require_system(request: Request, action: str) -> None:
    """Raises 403 unless the caller may do `action` (view, replay, skip, rebuild, verify) to the running system."""
    require_scope(request, "system:read" if action == "view" else "system:write")
    if not access.may(request.user, action, "system"):
        raise problems.forbidden(f"system.{action}")


def require_stream(request: Request, category: str) -> None:
    """Raises 403 unless the caller may read streams of this category.

    Streams of a category without records need the right to read the whole log.
    """
    kind = section.find(category)
    if kind is None:
        require_events(request)
        return
    require_scope(request, f"{kind.name}:read", "events:read")
    if not access.may(request.user, "view", category):
        raise problems.forbidden(f"{category}.view")
