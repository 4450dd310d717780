"""Rules, silences and alerts as the API shows and takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

import msgspec

from backoffice.api import shapes
from events.types import JsonDict

Text = Annotated[str, msgspec.Meta(max_length=2000)]
Episode = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class Rule(shapes.Shape, frozen=True, kw_only=True):
    """A rule: the levels of a metric, and how long a value must be beyond or below them.

    `per` is the metric that the values are a share of, in percent over `over_seconds`.
    """

    id: str
    version: int
    title: str
    metric: str
    target: str
    comparison: Literal["above", "below"]
    warn: float | None
    critical: float | None
    clear: float | None
    for_seconds: int
    critical_for_seconds: int | None
    keep_seconds: int
    on_missing: Literal["keep", "raise", "resolve"]
    missing_seconds: int
    per: str
    over_seconds: int
    channels: list[str]
    escalation: list[JsonDict]
    enabled: bool
    origin: Literal["default", "person"]
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class Silence(shapes.Shape, frozen=True, kw_only=True):
    """A silence or maintenance window. Empty `rules` and `targets` match all. A repeating one is in local times of
    `zone`; `weekdays` counts from 1, Monday."""

    id: UUID
    version: int
    title: str
    rules: list[str]
    targets: list[str]
    severity: Literal["any", "warning"]
    repeat: Literal["once", "daily", "weekly"]
    weekdays: list[int]
    starts_at: datetime | None
    ends_at: datetime | None
    from_time: str
    to_time: str
    zone: str
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class Alert(shapes.Shape, frozen=True, kw_only=True):
    """An alert. `since` is when the value went beyond the level. Its messages are muted by the firing rules
    `inhibited_by` and by the silences `silenced_by`."""

    id: str
    rule: str
    target: str
    title: str
    metric: str
    group: str
    state: Literal["quiet", "firing", "acknowledged", "closed"]
    severity: Literal["warning", "critical"]
    reason: Literal["threshold", "no_data"]
    episode: int
    value: float | None
    since: datetime | None
    raised_at: datetime | None
    resolved_at: datetime | None
    why: str | None
    owner: str | None
    note: str
    acknowledged_until: datetime | None
    step: int
    flapping: bool
    inhibited_by: list[str]
    silenced_by: list[UUID]
    version: int


class Alerts(shapes.Shape, frozen=True, kw_only=True):
    """Alerts, the most severe and newest first."""

    items: list[Alert]


class AlertRecord(Alert, frozen=True, kw_only=True):
    """An alert with its latest events, newest last."""

    events: list[JsonDict]


class Acknowledgement(shapes.Shape, frozen=True, kw_only=True):
    """An acknowledgement. Without `until` it lasts an hour for a critical alert, eight hours for a warning."""

    episode: Episode
    note: Text = ""
    until: datetime | None = None


class AlertRemark(shapes.Shape, frozen=True, kw_only=True):
    text: Text


class AlertClosing(shapes.Shape, frozen=True, kw_only=True):
    episode: Episode
    why: Text = ""


class AlertEpisode(shapes.Shape, frozen=True, kw_only=True):
    episode: Episode


class RulePreviewRequest(shapes.Shape, frozen=True, kw_only=True):
    """The fields of a rule, or its id and fields to replace, and the `hours` of history to replay."""

    any_of: ClassVar[tuple[str, ...]] = ("id", "data")

    id: str = ""
    data: JsonDict = {}
    target: str = ""
    hours: Annotated[int, msgspec.Meta(ge=1, le=90 * 24)] = 24


class PreviewEpisode(shapes.Shape, frozen=True, kw_only=True):
    raised_at: datetime
    resolved_at: datetime | None
    severity: Literal["warning", "critical"]
    why: str | None


class RulePreview(shapes.Shape, frozen=True, kw_only=True):
    """The result of a preview: how often the rule would have fired.

    `messages` counts those of firing, worsened and resolved alerts; `share` is the part of the slots that have a value.
    `resolution` is 5 where single samples were judged, 60 where averages of minutes were: for more than 14 days, and
    for long windows.
    """

    hours: int
    resolution: Literal[5, 60]
    samples: int
    share: float
    raised: int
    messages: int
    firing_seconds: int
    episodes: list[PreviewEpisode]
