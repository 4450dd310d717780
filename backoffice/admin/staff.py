"""Staff logins: Django's own pages for them, for administrators, with each change told as an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.auth import SESSION_KEY, signals
from django.contrib.auth.admin import UserAdmin
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice import access, models
from backoffice.domain import staff as domain
from events import store, types
from events.types import Event
from realtime import auth


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


def telling(pk: Any, view: Callable[[], HttpResponse]) -> HttpResponse:
    """Run a page of Django's that saves a login by itself; whether it did shows in the login, and is told."""
    with transaction.atomic():
        before = models.Staff.objects.select_for_update().filter(pk=pk).first()
        response = view()
        after = models.Staff.objects.filter(pk=pk).first()
        if before and after:
            tell(after, *changes(before, after))
    return response


def note_logout(request: HttpRequest, user: models.Staff | None, **_: Any) -> None:
    """Django's signal comes before the session is flushed, so its key is still there."""
    if isinstance(user, models.Staff) and (key := request.session.session_key):
        tell(user, domain.StaffLoggedOut(session=auth.session_digest(key)))


class StaffAdmin(UserAdmin):  # type: ignore[type-arg]
    """Who works here, and as what. Only administrators come in; nobody locks themselves out."""

    list_display = ("username", "full_name", "role", "is_active", "last_login")
    list_filter = ()
    search_fields = ()
    ordering = ("username",)
    actions = ("sign_out",)
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

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    @staticmethod
    def full_name(login: models.Staff) -> str:
        return login.get_full_name()

    full_name.short_description = gettext_lazy("name")  # type: ignore[attr-defined]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return access.role_of(request.user) == "admin"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_module_permission(request)

    has_change_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

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

    def save_model(self, request: HttpRequest, obj: models.Staff, form: Any, change: bool) -> None:
        with transaction.atomic():
            before = models.Staff.objects.select_for_update().get(pk=obj.pk) if change else None
            obj.is_staff = True
            super().save_model(request, obj, form, change)
            tell(obj, *changes(before, obj))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        if not (id.isascii() and id.isdigit() and len(id) < 19):
            raise Http404
        return telling(id, lambda: super(StaffAdmin, self).user_change_password(request, id, form_url))

    @admin.action(description=gettext_lazy("Sign out everywhere"))
    def sign_out(self, request: HttpRequest, logins: QuerySet[models.Staff]) -> None:
        """End every session of these logins, sockets too."""
        wanted = {str(login.pk): login for login in logins}
        with transaction.atomic():
            for session in Session.objects.filter(expire_date__gte=timezone.now()):
                if str(session.get_decoded().get(SESSION_KEY)) in wanted:
                    session.delete()
            for login in wanted.values():
                tell(login, domain.StaffSessionRevoked())
        self.message_user(request, _("Signed out: %(names)s") % {"names": ", ".join(map(str, wanted.values()))})


signals.user_logged_out.connect(note_logout, dispatch_uid="backoffice.admin.staff.note_logout")
