"""The read table of users."""

from __future__ import annotations

import uuid

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backoffice import values
from backoffice.read_table import DELETED, LIVE, Record
from backoffice.text import SearchText, sort_text
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
            # The list by sign-up, and by plan or role.
            models.Index(F("created_at").desc(), F("id").desc(), name="users_live_created", condition=LIVE),
            models.Index("plan", F("created_at").desc(), F("id").desc(), name="users_live_plan", condition=LIVE),
            models.Index("role", F("created_at").desc(), F("id").desc(), name="users_live_role", condition=LIVE),
            # The list by address, name or last login.
            models.Index("email", "id", name="users_live_email", condition=LIVE),
            models.Index(
                sort_text("last_name"),
                sort_text("first_name"),
                F("id"),
                name="users_live_name",
                condition=LIVE,
            ),
            models.Index("last_login", "id", name="users_live_last_login", condition=LIVE),
            # The list of deleted users, in the same orders.
            models.Index(F("created_at").desc(), F("id").desc(), name="users_deleted", condition=DELETED),
            models.Index("email", "id", name="users_deleted_email", condition=DELETED),
            models.Index(
                sort_text("last_name"),
                sort_text("first_name"),
                F("id"),
                name="users_deleted_name",
                condition=DELETED,
            ),
            models.Index("last_login", "id", name="users_deleted_last_login", condition=DELETED),
            # Users of a plan by last login: for figures, and for the filters by plan and activity together.
            models.Index("plan", "last_login", name="users_plan_active", condition=LIVE),
            # The user of an address, in an older normal form.
            models.Index("mailbox", name="users_mailbox", condition=Q(mailbox__isnull=False)),
            # Search by words of three letters and more, and by shorter ones.
            GinIndex(
                OpClass(SearchText("email"), "gin_trgm_ops"),
                OpClass(SearchText("first_name"), "gin_trgm_ops"),
                OpClass(SearchText("last_name"), "gin_trgm_ops"),
                name="users_words",
            ),
            models.Index(OpClass(SearchText("email"), "text_pattern_ops"), name="users_email_begins"),
            models.Index(OpClass(SearchText("first_name"), "text_pattern_ops"), name="users_first_name_begins"),
            models.Index(OpClass(SearchText("last_name"), "text_pattern_ops"), name="users_last_name_begins"),
        ]

    def __str__(self) -> str:
        return gettext("Erased user") if self.erased_at else self.get_full_name() or self.email

    def get_full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()

    @classmethod
    def not_deleted_with_address(cls, address: str) -> models.QuerySet[User]:
        """Returns the user with this e-mail address who is not deleted; spellings of one mailbox are equal."""
        mailbox = values.mailbox(address)
        return cls._default_manager.filter(Q(email=mailbox) | Q(mailbox=mailbox), deleted_at=None)
