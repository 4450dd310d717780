"""Changes of channels as events in `channel-<id>`, for the audit trail. They never contain URLs or credentials."""

from __future__ import annotations

from events.types import Event, event_type

CATEGORY = "channel"


@event_type("channel.created")
class ChannelCreated(Event, frozen=True):
    name: str
    kind: str


@event_type("channel.updated")
class ChannelUpdated(Event, frozen=True):
    """A channel was changed. `changed` names the fields; ``url``, ``token`` and ``signing`` stand for new secrets."""

    changed: list[str]


@event_type("channel.paused")
class ChannelPaused(Event, frozen=True):
    """A channel was paused. `why`: ``by_hand``, ``failures`` (too many in a row) or ``gone`` (answer 410)."""

    why: str


@event_type("channel.resumed")
class ChannelResumed(Event, frozen=True):
    """A channel was resumed: its messages are sent again."""


@event_type("channel.deleted")
class ChannelDeleted(Event, frozen=True):
    """The channel and its secrets are gone; its deliveries stay in the log."""
