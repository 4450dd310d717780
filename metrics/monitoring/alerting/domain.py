"""An alert: one condition of one target. Events, commands, state, evolve, and `judge`, the state machine. Pure.

Its stream, ``alert-<rule>`` or ``alert-<rule>:<target>``, holds transitions only. Samples, values and *pending* are
never stored in it: pending follows from the window of samples, so restarts and edits have no state to carry over.
An episode begins with `alert.raised` and ends with `alert.resolved`; the two alternate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec

from backoffice import bounds
from events import errors
from events.aggregate import Aggregate, Decision
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
    """value   the newest one; None: there is none
    since      when the value went beyond the level; of a missing one when it was seen last
    calm       what is calm by the rule as it is now
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
    """`lasted` is in seconds; `by` the actor who edited the rule."""

    episode: int
    why: Why
    lasted: int
    value: float | None
    slot: int
    by: str | None = None


@event_type("alert.flapping")
class AlertFlapping(Event, frozen=True):
    """It was raised `count` times within an hour."""

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
    """`step` counts from 1; `by` a person who did not wait for the step's time."""

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
    """Judge the alert at a slot; see `judge`."""

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
    waiting_since  from when on the time to the next step of the escalation counts
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
    """What changes by a person's act or by time."""
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


# -- the state machine ----------------------------------------------------------------------------------------------


def judge(command: JudgeAlert, state: Alert) -> list[Event]:
    """The event of one slot: at most one, and none from a slot that is not newer than the last event's.

    1  without a fresh value nothing is raised or resolved, except by the rule's policy for missing values
    2  what the values say: raised, worsened, eased, reason_changed, resolved, flapping
    3  what the time says: an acknowledgement expires, the escalation goes on
    """
    if command.slot <= state.slot:
        return []
    found = _of_values(command, state) if state.is_open else _of_quiet(command, state)
    if found is None and state.status == "firing":
        found = _of_time(command, state)
    return [found] if found else []


def _of_quiet(command: JudgeAlert, state: Alert) -> Event | None:
    rule, window, slot = command.rule, command.window, command.slot
    severity: Severity | None
    if conditions.fresh(window):
        severity = conditions.worst(rule, window)
        first = severity and conditions.since(rule, window, severity, slot)
        reason: Reason = "threshold"
    elif rule.on_missing == "raise" and conditions.missing(rule, window, command.sampled):
        severity = "warning" if rule.warn is not None else "critical"
        first = slot - conditions.slots(rule.missing_seconds)
        reason = "no_data"
    else:
        return None
    if severity is None or first is None:
        return None
    return AlertRaised(
        episode=state.episode + 1,
        severity=severity,
        reason=reason,
        value=conditions.newest(window) if reason == "threshold" else None,
        since=conditions.instant(first),
        rule_version=command.rule_version,
        target=command.target,
        calm=conditions.calm_of(rule),
        slot=slot,
    )


def _of_values(command: JudgeAlert, state: Alert) -> Event | None:
    """The event of an open alert that its values cause."""
    rule, window, slot = command.rule, command.window, command.slot
    if not conditions.fresh(window):
        resolves = rule.on_missing == "resolve" and conditions.missing(rule, window, command.sampled)
        return _resolved(state, slot, "no_data") if resolves else None
    if state.reason == "no_data":
        return _of_returned(command, state)
    seconds = conditions.keep(rule, flapping=state.flapping)
    if conditions.calm(conditions.calm_of(rule), window, seconds) and not _worsens(command, state):
        why: Why = "rule_changed" if _by_edit(command, state, seconds) else "recovered"
        by = command.changed_by if why == "rule_changed" else None
        return _resolved(state, slot, why, conditions.newest(window), by)
    return _of_firing(command, state, seconds) if state.status == "firing" else None


def _worsens(command: JudgeAlert, state: Alert) -> bool:
    is_warning = state.severity == "warning" and state.status == "firing"
    return is_warning and conditions.breached(command.rule, command.window, "critical")


def _of_returned(command: JudgeAlert, state: Alert) -> Event | None:
    """Values arrive again: still an alert, or none; undecided while too few have arrived."""
    rule, window, slot, value = command.rule, command.window, command.slot, conditions.newest(command.window)
    severity = conditions.worst(rule, window)
    if severity is not None:
        given = {"episode": state.episode, "severity": severity, "value": value, "slot": slot}
        return AlertReasonChanged(reason="threshold", **given)
    return _resolved(state, slot, "data_returned", value) if conditions.full(rule, window) else None


def _of_firing(command: JudgeAlert, state: Alert, seconds: int) -> Event | None:
    """The event of an alert that goes on firing."""
    rule, window = command.rule, command.window
    given: dict[str, Any] = {"episode": state.episode, "slot": command.slot}
    if _worsens(command, state):
        return AlertWorsened(severity="critical", value=conditions.newest(window), **given)
    can_ease = state.severity == "critical" and rule.warn is not None
    if can_ease and conditions.under_critical(rule, window, seconds):
        return AlertEased(severity="warning", value=conditions.newest(window), **given)
    if len(state.raised_slots) >= FLAPPING_COUNT and not state.flapping:
        return AlertFlapping(count=len(state.raised_slots), **given)
    return None


def _by_edit(command: JudgeAlert, state: Alert, seconds: int) -> bool:
    """Returns whether it is calm only by the rule as it was edited since the alert was raised."""
    if state.calm is None or command.rule_version == state.rule_version:
        return False
    if state.calm.metric != command.rule.metric:
        return True
    return not conditions.calm(state.calm, command.window, seconds)


def _of_time(command: JudgeAlert, state: Alert) -> Event | None:
    now, episode = conditions.instant(command.slot), state.episode
    if state.owner:
        if state.acknowledged_until and state.acknowledged_until <= now:
            return AlertUnacknowledged(episode=episode, why="expired", at=now, slot=command.slot)
        return None
    steps = command.rule.escalation
    if state.step >= len(steps) or state.waiting_since is None:
        return None
    if now - state.waiting_since >= timedelta(minutes=steps[state.step].minutes):
        return AlertEscalated(episode=episode, step=state.step + 1, slot=command.slot)
    return None


def _resolved(state: Alert, slot: int, why: Why, value: float | None = None, by: str | None = None) -> AlertResolved:
    raised = state.raised_at or conditions.instant(slot)
    lasted = max(0, int((conditions.instant(slot) - raised).total_seconds()))
    return AlertResolved(episode=state.episode, why=why, lasted=lasted, value=value, slot=slot, by=by)


# -- decide ---------------------------------------------------------------------------------------------------------


def decide(command: CommandData, state: Alert, at: Decision) -> Sequence[Event]:
    match command:
        case JudgeAlert():
            return judge(command, state)
        case EndAlert():
            newer = state.is_open and command.slot > state.slot
            return [_resolved(state, command.slot, command.why, by=command.by)] if newer else []
        case _ if state.episode == 0:
            raise errors.StreamNotFound("There is no such alert.")
        case CommentAlert():
            return _comment(command, state)
        case _:
            _demand_open(command, state)
            return _act(command, state, at)


def _comment(command: CommentAlert, state: Alert) -> Sequence[Event]:
    text = command.text.strip()
    if not text:
        raise errors.InvalidCommand(fields={"text": "Enter a comment."})
    bounds.check(command, {"text": text}, {"text": bounds.text(MAX_TEXT)})
    return [AlertCommented(episode=state.episode, by=command.by, text=text)]


def _act(command: CommandData, state: Alert, at: Decision) -> Sequence[Event]:
    """What a person does about the episode that is open."""
    match command:
        case AcknowledgeAlert():
            return _acknowledge(command, state, at)
        case UnacknowledgeAlert():
            given: dict[str, Any] = {"episode": state.episode, "at": at.now, "by": command.by}
            return [AlertUnacknowledged(why="by_hand", **given)] if state.owner else []
        case EscalateAlert():
            return [AlertEscalated(episode=state.episode, step=state.step + 1, by=command.by)]
        case CloseAlert():
            why = command.why.strip()
            return [] if state.status == "closed" else [AlertClosed(episode=state.episode, by=command.by, why=why)]
        case _:
            raise errors.UnknownCommand


def _demand_open(command: Any, state: Alert) -> None:
    """Raises `PastEpisode` unless the command is about the episode that is open."""
    if command.episode != state.episode or not state.is_open:
        raise PastEpisode
    if state.status == "closed" and not isinstance(command, CloseAlert):
        raise PastEpisode("This alert was closed.")


def _acknowledge(command: AcknowledgeAlert, state: Alert, at: Decision) -> Sequence[Event]:
    until = command.until or at.now + ACKNOWLEDGED_FOR[state.severity]
    if not at.now < until <= at.now + ACKNOWLEDGED_AT_MOST:
        raise errors.InvalidCommand(fields={"until": "Enter a time within the next seven days."})
    note = command.note.strip()
    return [AlertAcknowledged(episode=state.episode, by=command.by, note=note, until=until)]


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category=CATEGORY,
    state=Alert,
    initial=Alert,
    evolve=evolve,
    decide=decide,
    commands=(
        JudgeAlert,
        EndAlert,
        AcknowledgeAlert,
        UnacknowledgeAlert,
        EscalateAlert,
        CommentAlert,
        CloseAlert,
    ),
    state_version=1,
)
