"""Staff logins, the API keys that act for them, and the limits of their sign-in attempts."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import hashers
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from backoffice.sections.staff import domain, recording


class Staff(AbstractUser):
    """A member of staff. (A FormEase customer is a `User`.)"""

    class Role(models.TextChoices):
        ADMIN = "admin", _("Administrator")
        MANAGER = "manager", _("Account manager")
        AGENT = "agent", _("Support agent")
        VIEWER = "viewer", _("Viewer")
        DPO = "dpo", _("Data protection officer")

    role = models.CharField(_("role"), max_length=20, choices=Role.choices, default=Role.VIEWER)

    class Meta:
        db_table = "staff"
        verbose_name = _("staff member")
        verbose_name_plural = _("staff members")

    _password_taken_away = False

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self._password_taken_away = True

    def check_password(self, raw_password: str | None) -> bool:
        """Returns whether it is this login's password; rehashes it if its work factor is outdated."""
        correct, outdated = hashers.verify_password(raw_password, self.password)
        if correct and outdated and raw_password is not None:
            self.password = hashers.make_password(raw_password)
            recording.save_rehashed(self)
        return correct

    def save(self, *args: Any, **options: Any) -> None:
        """Records a new password in the log, whether a page, a command or a script set it."""
        password = getattr(self, "_password", None)  # Django stores here the password that was set
        new = (password is not None or self._password_taken_away) and not self._state.adding
        with transaction.atomic():
            super().save(*args, **options)
            if new:
                recording.record(self, domain.StaffPasswordChanged())
        self._password_taken_away = False


class ApiKey(models.Model):
    """Access for a program. Only a keyed hash of the secret is stored; `prefix` finds it, scopes limit it."""

    prefix = models.CharField(_("key"), max_length=16, unique=True)
    name = models.CharField(_("name"), max_length=100)
    secret_hash = models.CharField(max_length=128)
    scopes = models.JSONField(_("scopes"), default=list)
    owner = models.ForeignKey(Staff, verbose_name=_("owner"), on_delete=models.CASCADE, related_name="api_keys")
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")

    def __str__(self) -> str:
        return f"{self.name} (fe_{self.prefix})"


class SignInBudget(models.Model):
    """The remaining sign-in attempts of an account, an address or a device; full again at `full_at`.

    Budgets are in the database, so that limits apply without Valkey. The table is unlogged: after a crash all budgets
    are full. Keys are keyed digests or account numbers; addresses and typed text are not stored.
    """

    key = models.CharField(max_length=100, primary_key=True)
    full_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "sign_in_budgets"

    def __str__(self) -> str:
        return self.key


class SignInFailure(models.Model):
    """Failed sign-in attempts that are not in the log yet: one row for each account.

    `account` is a login's number, or empty for unknown names, because people sometimes type a password there.
    `addresses` are keyed digests, to count different ones.
    """

    account = models.CharField(max_length=20, primary_key=True)
    since = models.DateTimeField()
    until = models.DateTimeField()
    attempts = models.IntegerField()
    refused = models.IntegerField()
    addresses = ArrayField(models.CharField(max_length=32), default=list)

    class Meta:
        db_table = "sign_in_failures"

    def __str__(self) -> str:
        return self.account
