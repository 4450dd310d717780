"""Forms with a password, which check the limits of `backoffice.sections.staff.sign_in` first."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backoffice import models
from backoffice.sections.staff import passwords, sign_in


class Refusal(NamedTuple):
    """A refused attempt: the HTTP status of the response, and the seconds until the next attempt is allowed."""

    status: int
    seconds: int


class SignInForm(AdminAuthenticationForm):
    """Django's sign-in form, with limits checked first. `refusal` is the reason if the attempt was not tried."""

    refusal: Refusal | None = None

    def clean(self) -> dict[str, Any]:
        """Checks an attempt.

        1  find the login and its budgets
        2  take from the budgets: an attempt beyond them ends here, without hashing
        3  check the password in a free hashing slot
        4  count a failure; return the token after a success
        """
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if name is None or not password:
            return self.cleaned_data
        request = self.request
        assert request is not None
        account = models.Staff.objects.filter(username=name).values_list("pk", flat=True).first()  # 1
        charge = sign_in.charge(request, name, account)
        try:
            charge.take()  # 2
            super().clean()  # 3
        except sign_in.Limited as limited:
            sign_in.count_failure(request, account, refused=True)
            self.refusal = Refusal(429, limited.seconds)
            raise too_many(limited) from limited
        except passwords.Busy as busy:
            charge.return_tokens()
            self.refusal = Refusal(503, passwords.RETRY_AFTER)
            raise ValidationError(_("Too many people are signing in just now. Try again in a moment.")) from busy
        except ValidationError:
            sign_in.count_failure(request, account)  # 4
            raise
        charge.return_tokens()
        return self.cleaned_data


class OwnPasswordForm(AdminPasswordChangeForm):
    """Changes one's own password; guesses of the old one are limited as well."""

    def clean_old_password(self) -> str:
        charge = sign_in.Charge([f"own:{self.user.pk}"], [sign_in.DEVICE])
        try:
            charge.take()
        except sign_in.Limited as limited:
            raise too_many(limited) from limited
        old = super().clean_old_password()
        charge.return_tokens()
        return str(old)


def too_many(limited: sign_in.Limited) -> ValidationError:
    minutes = math.ceil(limited.seconds / 60)
    words = ngettext(
        "Too many attempts. Try again in %(n)s minute.", "Too many attempts. Try again in %(n)s minutes.", minutes
    )
    return ValidationError(words % {"n": minutes}, code="limited")


def refuse(response: HttpResponse, refusal: Refusal) -> None:
    """Answers with the refusal's status instead of 200."""
    response.status_code = refusal.status
    response["Retry-After"] = str(refusal.seconds)
