"""An alert: one condition of one target. Events, commands, state, evolve; `machine` decides. Pure.

Its stream, ``alert-<rule>`` or ``alert-<rule>:<target>``, holds transitions only. Samples, values and *pending* are
never stored in it: pending follows from the window of samples, so restarts and edits have no state to carry over.
An episode begins with `alert.raised` and ends with `alert.resolved`; the two alternate.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec

from events import errors
from events.types import CommandData, Event, command_type, event_type
from metrics.monitoring.alerting import conditions
from metrics.monitoring.alerting.conditions import Calm, Severity
from metrics.monitoring.alerting.rules import Rule

CATEGORY: Final = "alert"
MAX_TEXT: Final = 2_000
ACKNOWLEDGED_FOR: Final[dict[str, timedelta]] = {"critical": timedelta(hours=1), "warning": timedelta(hours=8)}
ACKNOWLEDGED_AT_MOST: Final = timedelta(days=7)
FLAPPING_COUNT: Final = 3  # raised within an hour
FLAPPING_SLOTS: Final = 3600 // conditions.SLOT_SECONDS

Reason = Literal["threshold", "no_data"]
Ended = Literal["rule_disabled", "rule_deleted", "target_gone"]
Why = Literal["recovered", "data_returned", "no_data", "rule_changed", "rule_disabled", "rule_deleted", "target_gone"]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class PastEpisode(errors.Rejected):
    """This episode of the alert is over."""

    code = "past_episode"
    status = 409


def alert_key(rule: str, target: str = "") -> str:
    """The key of an alert's stream: its rule and, for a metric with several targets, the target."""
    return f"{rule}:{target}" if target else rule


def parts_of(key: str) -> tuple[str, str]:
    """The rule and the target of an alert's key."""
    rule, _, target = key.partition(":")
    return rule, target


# -- events ---------------------------------------------------------------------------------------------------------


@event_type("alert.raised")
class AlertRaised(Event, frozen=True):
    """An episode of an alert began.

    value  the newest one; None: there is none
    since  when the value went beyond the level; of a missing one when it was last present
    calm   the condition under which it is calm, by the rule at this time
    """

    episode: int
    severity: Severity
    reason: Reason
    value: float | None
    since: datetime
    rule_version: int
    target: str
    calm: Calm
    slot: int


@event_type("alert.worsened")
class AlertWorsened(Event, frozen=True):
    episode: int
    severity: Severity
    value: float | None
    slot: int


@event_type("alert.eased")
class AlertEased(Event, frozen=True):
    episode: int
    severity: Severity
    value: float | None
    slot: int


@event_type("alert.reason_changed")
class AlertReasonChanged(Event, frozen=True):
    episode: int
    reason: Reason
    severity: Severity
    value: float | None
    slot: int


@event_type("alert.resolved")
class AlertResolved(Event, frozen=True):
    """The episode ended. `lasted` is in seconds; `by` the actor who edited the rule."""

    episode: int
    why: Why
    lasted: int
    value: float | None
    slot: int
    by: str | None = None


@event_type("alert.flapping")
class AlertFlapping(Event, frozen=True):
    """The alert was raised `count` times within an hour."""

    episode: int
    count: int
    slot: int


@event_type("alert.acknowledged")
class AlertAcknowledged(Event, frozen=True):
    episode: int
    by: str
    note: str
    until: datetime


@event_type("alert.unacknowledged")
class AlertUnacknowledged(Event, frozen=True):
    episode: int
    why: Literal["expired", "by_hand"]
    at: datetime
    by: str | None = None
    slot: int | None = None


@event_type("alert.escalated")
class AlertEscalated(Event, frozen=True):
    """The next step of the escalation began. `step` counts from 1; `by`: the person who began it early."""

    episode: int
    step: int
    by: str | None = None
    slot: int | None = None


@event_type("alert.commented")
class AlertCommented(Event, frozen=True):
    episode: int
    by: str
    text: str


@event_type("alert.closed")
class AlertClosed(Event, frozen=True):
    """A person wants no more messages about this episode. It ends when the value is calm."""

    episode: int
    by: str
    why: str


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("alert.judge")
class JudgeAlert(CommandData, frozen=True):
    """Judge the alert at a slot; see `machine.judge`."""

    rule: Rule
    rule_version: int
    target: str
    window: list[float | None]
    slot: int
    sampled: list[bool] | None = None
    changed_by: str | None = None


@command_type("alert.end")
class EndAlert(CommandData, frozen=True):
    """Resolve the alert, because there is nothing left to judge."""

    why: Ended
    slot: int
    by: str | None = None


@command_type("alert.acknowledge")
class AcknowledgeAlert(CommandData, frozen=True):
    episode: int
    by: str
    note: Text = ""
    until: datetime | None = None


@command_type("alert.unacknowledge")
class UnacknowledgeAlert(CommandData, frozen=True):
    episode: int
    by: str


@command_type("alert.escalate")
class EscalateAlert(CommandData, frozen=True):
    episode: int
    by: str


@command_type("alert.comment")
class CommentAlert(CommandData, frozen=True):
    by: str
    text: Text


@command_type("alert.close")
class CloseAlert(CommandData, frozen=True):
    episode: int
    by: str
    why: Text = ""


# -- state ----------------------------------------------------------------------------------------------------------


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an alert.

    slot           of the newest event that was decided at a slot; older and equal slots are refused
    highest        the highest severity of the episode
    raised_slots   at which it was raised within the hour before the newest raise
    waiting_since  the start of the time after which the next step of the escalation is due
    """

    status: Literal["quiet", "firing", "closed"] = "quiet"
    episode: int = 0
    severity: Severity = "warning"
    highest: Severity = "warning"
    reason: Reason = "threshold"
    value: float | None = None
    since: datetime | None = None
    raised_at: datetime | None = None
    resolved_at: datetime | None = None
    why: Why | None = None
    rule_version: int = 0
    calm: Calm | None = None
    slot: int = 0
    raised_slots: list[int] = []
    flapping: bool = False
    owner: str | None = None
    note: str = ""
    acknowledged_until: datetime | None = None
    step: int = 0
    waiting_since: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.status != "quiet"

    @property
    def name(self) -> str:
        """The state as pages and the API call it: quiet, firing, acknowledged or closed."""
        return "acknowledged" if self.status == "firing" and self.owner else self.status


_UNOWNED: Final[dict[str, Any]] = {"owner": None, "note": "", "acknowledged_until": None}


def evolve(state: Alert, event: Event) -> Alert:
    changed = _changes(state, event)
    if isinstance(slot := getattr(event, "slot", None), int):
        changed["slot"] = slot
    return msgspec.structs.replace(state, **changed)


def _changes(state: Alert, event: Event) -> dict[str, Any]:
    match event:
        case AlertRaised():
            return _raised(state, event)
        case AlertWorsened():
            return {"severity": event.severity, "highest": event.severity, "value": event.value, **_UNOWNED}
        case AlertEased():
            return {"severity": event.severity, "value": event.value}
        case AlertReasonChanged():
            highest = "critical" if event.severity == "critical" else state.highest
            given = {"reason": event.reason, "severity": event.severity, "value": event.value}
            return {**given, "highest": highest}
        case AlertResolved():
            ended = {"status": "quiet", "why": event.why, "value": event.value, **_UNOWNED}
            return {**ended, "resolved_at": conditions.instant(event.slot)}
        case _:
            return _acted(event)


def _acted(event: Event) -> dict[str, Any]:
    """The fields that an event caused by a person or by time changes, with their new values."""
    match event:
        case AlertFlapping():
            return {"flapping": True}
        case AlertAcknowledged():
            return {"owner": event.by, "note": event.note, "acknowledged_until": event.until}
        case AlertUnacknowledged():
            return {**_UNOWNED, "waiting_since": event.at}
        case AlertEscalated():
            return {"step": event.step}
        case AlertClosed():
            return {"status": "closed", **_UNOWNED}
        case _:
            return {}


def _raised(state: Alert, event: AlertRaised) -> dict[str, Any]:
    recent = [slot for slot in state.raised_slots if slot > event.slot - FLAPPING_SLOTS] + [event.slot]
    at = conditions.instant(event.slot)
    given = {name: getattr(event, name) for name in ("episode", "severity", "reason", "value", "since", "calm")}
    return {
        **given,
        "status": "firing",
        "highest": event.severity,
        "raised_at": at,
        "resolved_at": None,
        "why": None,
        "rule_version": event.rule_version,
        "raised_slots": recent,
        "flapping": state.flapping and len(recent) >= FLAPPING_COUNT,
        "step": 0,
        "waiting_since": at,
        **_UNOWNED,
    }
