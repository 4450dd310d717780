"""The read table of users."""

from __future__ import annotations

import uuid

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backoffice import values
from backoffice.read_table import Record
from backoffice.text import Composed
from events.types import ERASED


class User(Record):
    """A FormEase customer."""

    class Plan(models.TextChoices):
        FREE = "free", _("Free")
        PREMIUM = "premium", _("Premium")
        ENTERPRISE = "enterprise", _("Enterprise")

    class Role(models.TextChoices):
        MEMBER = "member", _("Member")
        OWNER = "owner", _("Owner")
        PARTNER = "partner", _("Partner")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.CharField(_("email"), max_length=254)
    # The normal form of an address that an older release stored in another form; null if they are the same.
    mailbox = models.TextField(_("mailbox"), null=True, blank=True, editable=False)  # noqa: DJ001
    first_name = models.CharField(_("first name"), max_length=150, blank=True)
    last_name = models.CharField(_("last name"), max_length=150, blank=True)
    plan = models.CharField(_("plan"), max_length=20, choices=Plan.choices)
    role = models.CharField(_("role"), max_length=20, choices=Role.choices)
    last_login = models.DateTimeField(_("last login"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)
    erased_at = models.DateTimeField(_("erased at"), null=True, blank=True)

    class Meta:
        db_table = "users"
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [
            models.UniqueConstraint("email", condition=Q(deleted_at=None) & ~Q(email=ERASED), name="users_email_once"),
        ]
        indexes = [
            models.Index(F("created_at").desc(), F("id").desc(), name="users_created"),
            models.Index("plan", F("created_at").desc(), F("id").desc(), name="users_plan_created"),
            models.Index("email", "id", name="users_email"),
            models.Index("mailbox", name="users_mailbox", condition=Q(mailbox__isnull=False)),
            models.Index(F("last_login"), F("id"), name="users_last_login"),
            models.Index("plan", "last_login", name="users_plan_active", condition=Q(deleted_at=None)),
            GinIndex(
                OpClass(Upper(Composed("email")), "gin_trgm_ops"),
                OpClass(Upper(Composed("first_name")), "gin_trgm_ops"),
                OpClass(Upper(Composed("last_name")), "gin_trgm_ops"),
                name="users_search",
            ),
        ]

    def __str__(self) -> str:
        return gettext("Erased user") if self.erased_at else self.get_full_name() or self.email

    def get_full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()

    @classmethod
    def not_deleted_with_address(cls, address: str) -> models.QuerySet[User]:
        """Returns the user with this e-mail address who is not deleted, however either address is spelled."""
        mailbox = values.mailbox(address)
        return cls._default_manager.filter(Q(email=mailbox) | Q(mailbox=mailbox), deleted_at=None)
