"""Admin pages of API keys: owner, scopes, last use, and the action that revokes a key."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import models
from backoffice.sections.staff import keys
from backoffice.sections.staff.administrators import AdministratorsOnly


class ApiKeyAdmin(AdministratorsOnly):
    """Lists keys, which administrators can revoke. The command line creates keys and shows the token once."""

    list_display = ("name", "shown", "owner", "opens", "state", "last_used_at", "expires_at")
    list_select_related = ("owner",)
    ordering = ("-created_at",)
    list_per_page = 50
    actions = ("revoke",)
    fields = ("name", "shown", "owner", "opens", "state", "created_at", "last_used_at", "expires_at", "revoked_at")

    @admin.display(description=gettext_lazy("key"), ordering="prefix")
    def shown(self, key: models.ApiKey) -> str:
        return f"fe_{key.prefix}"

    @admin.display(description=gettext_lazy("scopes"))
    def opens(self, key: models.ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description=gettext_lazy("state"), ordering="revoked_at")
    def state(self, key: models.ApiKey) -> str:
        if key.revoked_at is not None:
            return _("revoked")
        if key.expires_at is not None and key.expires_at <= timezone.now():
            return _("expired")
        return _("valid")

    @admin.action(description=gettext_lazy("Revoke and close their connections"))
    def revoke(self, request: HttpRequest, chosen: QuerySet[models.ApiKey]) -> None:
        names = ", ".join(str(key) for key in chosen if keys.revoke(key))
        self.message_user(request, _("Revoked: %(names)s") % {"names": names or "–"})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allows the list to offer its actions; a key itself is never edited."""
        return obj is None and self.has_module_permission(request)
