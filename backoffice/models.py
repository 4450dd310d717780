"""Staff logins, and the read tables: nothing but `projections` writes those."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth import hashers
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from backoffice import values
from backoffice.sections.staff import domain as staff
from backoffice.sections.staff import recording
from backoffice.sections.submissions import domain as submissions
from backoffice.text import Composed
from events.models import StoredJson
from events.types import ERASED


class Staff(AbstractUser):
    """Somebody who works in the backoffice. (A FormEase customer is a `User`.)"""

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
        """Is it this login's password? Its hash is made anew where it is older than today's work factor."""
        correct, outdated = hashers.verify_password(raw_password, self.password)
        if correct and outdated and raw_password is not None:
            self.password = hashers.make_password(raw_password)
            recording.save_rehashed(self)
        return correct

    def save(self, *args: Any, **options: Any) -> None:
        """Record a new password in the log, set by a page, a command or a script."""
        password = getattr(self, "_password", None)  # Django's note of a password that was set
        new = (password is not None or self._password_taken_away) and not self._state.adding
        with transaction.atomic():
            super().save(*args, **options)
            if new:
                recording.tell(self, staff.StaffPasswordChanged())
        self._password_taken_away = False


class Record(models.Model):
    """What all read tables share: the stream version a row shows, and when that was recorded."""

    version = models.BigIntegerField(_("version"))
    updated_at = models.DateTimeField(_("updated at"))

    class Meta:
        abstract = True


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
    # The normal form of an address that an older release stored in another one; null where they are the same.
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
    def living_with(cls, address: str) -> models.QuerySet[User]:
        """The user who is reached at an address, in whatever spelling either is written."""
        mailbox = values.mailbox(address)
        return cls._default_manager.filter(Q(email=mailbox) | Q(mailbox=mailbox), deleted_at=None)


class Form(Record):
    """A form that a user made: `fields` is a list of ``{id, type, label, help, required, options, page, …}``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        User,
        verbose_name=_("owner"),
        on_delete=models.DO_NOTHING,
        related_name="forms",
        db_index=False,
        db_constraint=False,
    )
    title = models.CharField(_("title"), max_length=300)
    description = models.TextField(_("description"), blank=True)
    fields = StoredJson(_("fields"), default=list, blank=True)
    archived = models.BooleanField(_("archived"), default=False)
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)
    erased_at = models.DateTimeField(_("erased at"), null=True, blank=True)

    class Meta:
        db_table = "forms"
        verbose_name = _("form")
        verbose_name_plural = _("forms")
        indexes = [
            models.Index(F("created_at").desc(), F("id").desc(), name="forms_created"),
            models.Index("user", "created_at", name="forms_user_created"),
            models.Index("title", "id", name="forms_title"),
            GinIndex(OpClass(Upper(Composed("title")), "gin_trgm_ops"), name="forms_search"),
        ]

    def __str__(self) -> str:
        return gettext("Erased form") if self.erased_at else self.title


class Submission(Record):
    """What somebody answered: `answers` maps field ids to values, `completion_time` is in seconds."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    form = models.ForeignKey(
        Form,
        verbose_name=_("form"),
        on_delete=models.DO_NOTHING,
        related_name="submissions",
        db_index=False,
        db_constraint=False,
    )
    answers = StoredJson(_("answers"), default=dict)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    completion_time = models.FloatField(_("completion time"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"))
    deleted_at = models.DateTimeField(_("deleted at"), null=True, blank=True)

    class Meta:
        db_table = "submissions"
        verbose_name = _("submission")
        verbose_name_plural = _("submissions")
        indexes = [
            models.Index(F("created_at").desc(), F("id").desc(), name="submissions_created"),
            models.Index("form", F("created_at").desc(), F("id").desc(), name="submissions_form_created"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def is_erased(self) -> bool:
        return bool(self.answers == submissions.NO_ANSWERS)


class Setting(Record):
    """A system setting: any JSON value under a name."""

    key = models.CharField(_("name"), max_length=100, primary_key=True)
    value = StoredJson(_("value"), null=True)

    class Meta:
        db_table = "settings"
        verbose_name = _("setting")
        verbose_name_plural = _("settings")
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key


class Conflict(Record):
    """A change that waits for a person: what the inbox lists. The three versions are in its stream."""

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        RESOLVED = "resolved", _("Resolved")
        DISMISSED = "dismissed", _("Discarded")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(_("status"), max_length=20, choices=Status.choices)
    category = models.CharField(_("kind of record"), max_length=40)
    key = models.CharField(_("record"), max_length=200)
    command_type = models.CharField(_("change"), max_length=80)
    why = models.CharField(_("why"), max_length=20)
    paths = StoredJson(_("fields"), default=list)
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    base_version = models.BigIntegerField(_("version it was based on"))
    author = models.CharField(_("author"), max_length=200)
    author_name = models.CharField(_("author"), max_length=200, blank=True)
    assignee = models.ForeignKey(
        Staff,
        verbose_name=_("assigned to"),
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="conflicts",
        db_constraint=False,
    )
    comments = models.IntegerField(_("comments"), default=0)
    created_at = models.DateTimeField(_("filed at"))
    closed_at = models.DateTimeField(_("resolved at"), null=True)

    class Meta:
        db_table = "conflicts"
        verbose_name = _("conflict")
        verbose_name_plural = _("conflicts")
        indexes = [
            models.Index("status", F("created_at").desc(), F("id").desc(), name="conflicts_status"),
            models.Index("category", "key", name="conflicts_record"),
            models.Index("author", F("created_at").desc(), name="conflicts_author"),
        ]

    def __str__(self) -> str:
        return f"{self.category}-{self.key}"

    @property
    def stream(self) -> str:
        """The stream of the record it is about."""
        return f"{self.category}-{self.key}"


class ImportSuppression(models.Model):
    """A keyed digest of what identified an erased submission: `imports.suppressions` says of what, and who can test it.

    fields  the answers that the digest is about, where it is about several; empty: about one value
    """

    form_id = models.UUIDField()
    digest = models.BinaryField()
    fields = models.JSONField(default=list)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "import_suppressions"
        constraints = [models.UniqueConstraint(fields=["form_id", "digest"], name="import_suppressions_once")]

    def __str__(self) -> str:
        return str(self.form_id)


class ApiKey(models.Model):
    """Access for a program. Only a keyed hash of the secret is kept; `prefix` finds it, scopes bound it."""

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
    """How many more attempts to sign in an account, an address or a device has: full again at `full_at`.

    In the database, not in Valkey: limits hold when that is away. Unlogged: after a crash all budgets are full. Keys
    are keyed digests or account numbers; no address and nothing that somebody typed is in here.
    """

    key = models.CharField(max_length=100, primary_key=True)
    full_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "sign_in_budgets"

    def __str__(self) -> str:
        return self.key


class SignInFailure(models.Model):
    """Failed attempts to sign in that are not in the log yet: one row an account and five minutes.

    `account` is a login's number, or empty for names that are nobody's: what was typed there may be a password.
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
