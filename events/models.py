"""Read-only Django models of the store's tables. `events/sql` defines them; the only writer is `store`."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.db import models
from django.db.models.fields.json import KeyTransform
from django.utils.translation import gettext_lazy as _

from events import strict_json


class StoredJson(models.JSONField):
    """A `jsonb` column that is read like all stored JSON (`strict_json.stored`).

    Numbers beyond a double, which older releases accepted, are read as text, so that pages and answers can show them.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if value is None or (isinstance(expression, KeyTransform) and not isinstance(value, str)):
            return value
        try:
            return strict_json.stored(value)
        except ValueError:
            return json.loads(value, parse_int=_number, parse_float=_number)

    def deconstruct(self) -> Any:
        """Deconstruct as Django's own field, so that no migration is needed."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


def _number(digits: str) -> int | float | str:
    try:
        found: int | float = strict_json.stored(digits)
    except ValueError:
        return digits
    return found


class StoredEvent(models.Model):
    """A row of the log. `position` orders everything; `(stream, version)` orders one record."""

    position = models.BigIntegerField(_("position"), primary_key=True)
    stream = models.TextField(_("stream"))
    version = models.BigIntegerField(_("version"))
    type = models.TextField(_("type"))
    schema_version = models.SmallIntegerField(_("schema version"))
    data = StoredJson(_("data"))
    event_id = models.UUIDField(_("event id"))
    recorded_at = models.DateTimeField(_("recorded at"))
    actor = models.TextField(_("actor"))
    reason = models.TextField(_("reason"), null=True)  # noqa: DJ001 - null is "none given"
    correlation_id = models.UUIDField(_("correlation id"), null=True)
    causation_id = models.UUIDField(_("causation id"), null=True)
    metadata = StoredJson(_("metadata"))
    hash = models.BinaryField(_("hash"))

    class Meta:
        managed = False
        db_table = "events_event"
        default_permissions = ("view",)
        verbose_name = _("event")
        verbose_name_plural = _("events")

    def __str__(self) -> str:
        return f"{self.position} {self.stream} v{self.version} {self.type}"


class Stream(models.Model):
    """A record's stream: its last version and the head of its hash chain."""

    stream = models.TextField(_("stream"), primary_key=True)
    version = models.BigIntegerField(_("version"))
    hash = models.BinaryField(_("hash"))

    class Meta:
        managed = False
        db_table = "events_stream"
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        verbose_name = _("stream")
        verbose_name_plural = _("streams")

    def __str__(self) -> str:
        return f"{self.stream} v{self.version}"


class Checkpoint(models.Model):
    """A subscription's position, its runner, and its last error."""

    name = models.TextField(_("name"), primary_key=True)
    position = models.BigIntegerField(_("position"))
    epoch = models.UUIDField(_("epoch"))
    fence = models.BigIntegerField(_("fence"))
    owner = models.TextField(_("owner"), null=True)  # noqa: DJ001
    leased_until = models.DateTimeField(_("leased until"), null=True)
    updated_at = models.DateTimeField(_("updated at"))
    error = models.TextField(_("error"), null=True)  # noqa: DJ001

    class Meta:
        managed = False
        db_table = "events_checkpoint"
        default_permissions = ("view", "change")
        verbose_name = _("subscription")
        verbose_name_plural = _("subscriptions")

    def __str__(self) -> str:
        return f"{self.name} @ {self.position}"


class Seal(models.Model):
    """A sealed range of the log: the Merkle `root` of its events, and the hash of the `previous` seal."""

    number = models.BigIntegerField(_("number"), primary_key=True)
    epoch = models.UUIDField(_("epoch"))
    after = models.BigIntegerField(_("after position"))
    upto = models.BigIntegerField(_("up to position"))
    count = models.BigIntegerField(_("events"))
    sealed_at = models.DateTimeField(_("sealed at"))
    root = models.BinaryField(_("root"))
    previous = models.BinaryField(_("previous seal"))
    hash = models.BinaryField(_("hash"))

    class Meta:
        managed = False
        db_table = "events_seal"
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        verbose_name = _("seal")
        verbose_name_plural = _("seals")

    def __str__(self) -> str:
        return f"{self.number} ({self.after}, {self.upto}]"


class SubjectKey(models.Model):
    """The key of one subject's personal data, wrapped by the master key `key_id`; a tombstone once it is erased."""

    subject = models.TextField(_("subject"), primary_key=True)
    key_id = models.TextField(_("master key"), null=True)  # noqa: DJ001
    secret = models.BinaryField(_("wrapped key"), null=True)
    created_at = models.DateTimeField(_("created at"))
    erased_at = models.DateTimeField(_("erased at"), null=True)
    purged_at = models.DateTimeField(_("purged at"), null=True)

    class Meta:
        managed = False
        db_table = "events_subject_key"
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        verbose_name = _("key of a subject")
        verbose_name_plural = _("keys of subjects")

    def __str__(self) -> str:
        return self.subject
