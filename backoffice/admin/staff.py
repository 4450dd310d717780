"""Staff logins: Django's own pages for them, for administrators, with each change told as an event."""

from __future__ import annotations

import hashlib
from typing import Any

from django import forms
from django.contrib.auth import signals
from django.contrib.auth.admin import UserAdmin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import access, models
from backoffice.domain import staff as domain
from events import store, types
from events.types import Event


def tell(login: models.Staff, *events: Event) -> None:
    """Append events about a login; call it in the transaction of the change."""
    if events:
        store.append(types.stream_name(domain.CATEGORY, str(login.pk)), list(events), store.ANY)


def changes(before: models.Staff | None, after: models.Staff) -> list[Event]:
    """What changed about a login, as events."""
    if before is None:
        return [domain.StaffCreated(username=after.username, role=after.role, is_superuser=after.is_superuser)]
    found: list[Event] = []
    if (before.role, before.is_superuser) != (after.role, after.is_superuser):
        found.append(domain.StaffRoleChanged(before=before.role, after=after.role, is_superuser=after.is_superuser))
    may_before, may_after = (login.is_active and login.is_staff for login in (before, after))
    if may_before and not may_after:
        found.append(domain.StaffDeactivated())
    if may_after and not may_before:
        found.append(domain.StaffReactivated())
    if before.password != after.password:
        found.append(domain.StaffPasswordChanged())
    return found


def session_digest(key: str) -> str:
    """A session's name in the log: never its key, which opens it."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def note_logout(request: HttpRequest, user: models.Staff | None, **_: Any) -> None:
    """Django's signal comes before the session is flushed, so its key is still there."""
    if isinstance(user, models.Staff) and (key := request.session.session_key):
        tell(user, domain.StaffLoggedOut(session=session_digest(key)))


class StaffAdmin(UserAdmin):
    """Who works here, and as what. Only administrators come in; nobody locks themselves out."""

    list_display = ("username", "full_name", "role", "is_active", "last_login")
    list_filter = ("role", "is_active")
    ordering = ("username",)
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (gettext_lazy("Person"), {"fields": ("first_name", "last_name", "email")}),
        (gettext_lazy("What they may do"), {"fields": ("role", "is_active", "is_superuser")}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "usable_password", "password1", "password2")}),
        (gettext_lazy("What they may do"), {"fields": ("role",)}),
    )

    @staticmethod
    def full_name(login: models.Staff) -> str:
        return login.get_full_name()

    full_name.short_description = gettext_lazy("name")  # type: ignore[attr-defined]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return access.role_of(request.user) == "admin"

    has_view_permission = has_change_permission = lambda self, request, obj=None: self.has_module_permission(request)
    has_add_permission = lambda self, request: self.has_module_permission(request)  # noqa: E731

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A login is deactivated, never deleted: history names it."""
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        form = super().get_form(request, obj, change=change, **options)
        if obj is not None and obj.pk == request.user.pk:
            for name in {"role", "is_active", "is_superuser"} & form.base_fields.keys():
                form.base_fields[name].disabled = True
                form.base_fields[name].help_text = _("Nobody changes what they themselves may do.")
        return form

    def save_model(self, request: HttpRequest, obj: models.Staff, form: forms.ModelForm, change: bool) -> None:
        with transaction.atomic():
            before = models.Staff.objects.select_for_update().get(pk=obj.pk) if change else None
            obj.is_staff = True
            super().save_model(request, obj, form, change)
            tell(obj, *changes(before, obj))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Django's page saves the login by itself; whether it did shows in the password."""
        with transaction.atomic():
            before = models.Staff.objects.select_for_update().filter(pk=id).first()
            response = super().user_change_password(request, id, form_url)
            after = models.Staff.objects.filter(pk=id).first()
            if before and after:
                tell(after, *changes(before, after))
        return response

    def log_addition(self, *_args: Any, **_kwargs: Any) -> None:
        """The event log is the log."""

    log_change = log_deletions = log_addition


signals.user_logged_out.connect(note_logout, dispatch_uid="backoffice.admin.staff.note_logout")
