"""Channels and deliveries, as the API shows and takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from backoffice.api import shapes

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
Url = Annotated[str, msgspec.Meta(max_length=2000, description="Stored encrypted; never returned.")]
Secret = Annotated[str, msgspec.Meta(max_length=1000, description="Stored encrypted; never returned.")]
Clock = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="Local time, HH:MM.")]
Recipients = Annotated[list[Annotated[str, msgspec.Meta(max_length=254)]], msgspec.Meta(max_length=20)]
Kind = Literal["email", "webhook", "slack", "teams", "ntfy", "matrix"]


class Channel(shapes.Shape, frozen=True, kw_only=True):
    """A notification channel without its secrets. `target` is the host of its URL, or the number of recipients;
    `recipients` is null for those who may not edit channels. `paused_why`: by_hand, failures or gone (HTTP 410)."""

    id: UUID
    name: str
    kind: Kind
    target: str
    recipients: list[str] | None
    language: Literal["en", "fr"]
    min_severity: Literal["warning", "critical"]
    quiet_from: str | None
    quiet_until: str | None
    zone: str
    paused: bool
    paused_at: datetime | None
    paused_why: str
    failures: int
    created_at: datetime
    signing_key: str | UnsetType = UNSET


class Channels(shapes.Shape, frozen=True, kw_only=True):
    """All channels, by name."""

    items: list[Channel]


class NewChannel(shapes.Shape, frozen=True, kw_only=True):
    """A channel to create; the answer for a webhook contains its `signing_key`, shown only then.

    `url` is that of the webhook, ntfy topic or Matrix server; ntfy and Matrix take a `token`, Matrix a `room`, e-mail
    takes `recipients`.
    """

    name: Name
    kind: Kind
    recipients: Recipients = []
    url: Url = ""
    token: Secret = ""
    room: Annotated[str, msgspec.Meta(max_length=255)] = ""
    language: Literal["en", "fr"] = "en"
    min_severity: Literal["warning", "critical"] = "warning"
    quiet_from: Clock | None = None
    quiet_until: Clock | None = None
    zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"


class ChannelChanges(shapes.Shape, frozen=True, kw_only=True):
    """The fields to change. An empty secret keeps the stored one.

    `rotate` makes a new signing key; the old one is used too for 24 hours.
    """

    name: Name | UnsetType = UNSET
    recipients: Recipients | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    token: Secret | UnsetType = UNSET
    room: Annotated[str, msgspec.Meta(max_length=255)] | UnsetType = UNSET
    language: Literal["en", "fr"] | UnsetType = UNSET
    min_severity: Literal["warning", "critical"] | UnsetType = UNSET
    quiet_from: Clock | UnsetType | None = UNSET
    quiet_until: Clock | UnsetType | None = UNSET
    zone: Annotated[str, msgspec.Meta(max_length=64)] | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    rotate: bool = False


class DeliveryAttempt(shapes.Shape, frozen=True, kw_only=True):
    """One attempt to send. Without `finished_at` its sender stopped before the end; `unknown`: it may have arrived."""

    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: Literal["delivered", "failed", "unknown"] | None
    answer: str


class Delivery(shapes.Shape, frozen=True, kw_only=True):
    """One message to one channel. It was decided at `decided_at`, with the alert's event, and delivered at
    `delivered_at`, null until then. `id` is the `webhook-id` of every attempt."""

    id: UUID
    channel: UUID
    alert: str
    episode: int
    cause: str
    kind: str
    severity: str
    state: Literal["waiting", "muted", "delivered", "dropped", "failed"]
    why: str
    late: bool
    decided_at: datetime
    due: datetime
    delivered_at: datetime | None
    answer: str
    facts: dict[str, Any]
    attempts: list[DeliveryAttempt]


class Deliveries(shapes.Shape, frozen=True, kw_only=True):
    """Deliveries, the newest first; go on with `before` = `next` while `next` is not null."""

    items: list[Delivery]
    next: int | None


class DeletedChannel(shapes.Shape, frozen=True, kw_only=True):
    """The channel that was deleted."""

    id: UUID
