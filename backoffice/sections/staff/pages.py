"""Admin pages of staff logins: Django's own pages, for administrators, with each change recorded as an event."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import models
from backoffice.sections.staff import domain, recording
from backoffice.sections.staff.administrators import AdministratorsOnly


class NewStaffForm(AdminUserCreationForm):  # type: ignore[type-arg]
    """Adds a login. Its password is hashed before the transaction that saves it (`StaffAdmin.add_view`)."""

    hashed: str | None = None

    def set_password_and_save(self, user: models.Staff, *args: Any, **options: Any) -> models.Staff:
        if self.hashed is None or not self.cleaned_data["set_usable_password"]:
            return super().set_password_and_save(user, *args, **options)
        user.password = self.hashed
        return user


class StaffAdmin(AdministratorsOnly, UserAdmin):  # type: ignore[type-arg]
    """Staff logins and their roles. Only administrators have access, and they cannot remove their own."""

    add_form = NewStaffForm

    list_display = ("username", "full_name", "role", "is_active", "last_login")
    list_filter = ()
    search_fields = ()
    ordering = ("username",)
    actions = ("sign_out",)
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (gettext_lazy("Person"), {"fields": ("first_name", "last_name", "email")}),
        (gettext_lazy("Permissions"), {"fields": ("role", "is_active", "is_superuser")}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "usable_password", "password1", "password2")}),
        (gettext_lazy("Permissions"), {"fields": ("role",)}),
    )

    @admin.display(description=gettext_lazy("Full name"))
    def full_name(self, login: models.Staff) -> str:
        return login.get_full_name()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        form = super().get_form(request, obj, change=change, **options)
        if obj is None:
            form.hashed = getattr(request, "hashed_password", None)  # type: ignore[attr-defined]
        if obj is not None and obj.pk == request.user.pk:
            for name in {"role", "is_active", "is_superuser"} & form.base_fields.keys():
                form.base_fields[name].disabled = True
                form.base_fields[name].help_text = _("You cannot change your own permissions.")
        return form

    def save_model(self, request: HttpRequest, obj: models.Staff, form: Any, change: bool) -> None:
        with transaction.atomic():
            before = models.Staff.objects.select_for_update().get(pk=obj.pk) if change else None
            obj.is_staff = True
            super().save_model(request, obj, form, change)
            recording.record(obj, *recording.changes(before, obj))

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Hashes the password first: Django's page would hash it inside its transaction, holding a connection."""
        password = request.POST.get("password1")
        if password and self.has_add_permission(request):
            request.hashed_password = make_password(password)  # type: ignore[attr-defined]
        return super().add_view(request, form_url, extra_context)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        if not (id.isascii() and id.isdigit() and len(id) < 19):
            raise Http404
        return super().user_change_password(request, id, form_url)

    @admin.action(description=gettext_lazy("Sign out everywhere"))
    def sign_out(self, request: HttpRequest, logins: QuerySet[models.Staff]) -> None:
        """Ends all sessions and sockets of these logins."""
        wanted = {str(login.pk): login for login in logins}
        with transaction.atomic():
            for session in Session.objects.filter(expire_date__gte=timezone.now()):
                if str(session.get_decoded().get(SESSION_KEY)) in wanted:
                    session.delete()
            for login in wanted.values():
                recording.record(login, domain.StaffSessionRevoked())
        self.message_user(request, _("Signed out: %(names)s") % {"names": ", ".join(map(str, wanted.values()))})
