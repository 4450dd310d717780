"""The admin site's sign-in: form, limits, change of one's own password, and the response when hashing is busy."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice import models
from backoffice.sections.staff import passwords, sign_in, sign_in_forms
from backoffice.site import BackofficeSite


class StaffSite(BackofficeSite):
    login_form = sign_in_forms.SignInForm
    answered = (*BackofficeSite.answered, passwords.Busy)

    def answer(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Answers 503 when too many passwords are being hashed, on any page that hashes one."""
        if not isinstance(error, passwords.Busy):
            return super().answer(request, error)
        context = {**self.each_context(request), "title": _("Too busy")}
        response = TemplateResponse(request, "admin/backoffice/too_busy.html", context, status=503)
        response["Retry-After"] = str(passwords.RETRY_AFTER)
        return response

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Signs people in, within the limits of `sign_in`."""
        response = super().login(request, extra_context)
        form = (getattr(response, "context_data", None) or {}).get("form")
        if form is None and request.method == "POST" and request.user.is_authenticated:
            sign_in.remember_device(request, response, request.user.pk)
        elif form is not None and form.refusal is not None:
            sign_in_forms.refuse(response, form.refusal)
        return response

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Changes one's own password; ends the other sessions and records an event."""
        request.current_app = self.name
        view: Callable[..., Any] = PasswordChangeView.as_view(
            form_class=sign_in_forms.OwnPasswordForm,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        response: HttpResponse = view(request)
        if request.method == "POST" and response.status_code == HTTPStatus.FOUND:
            assert isinstance(request.user, models.Staff)
            sign_in.remember_device(request, response, request.user.pk)  # others may know the old password
        return response
