"""The state machine of an alert: its changes by values, by time and by people. Pure.

The table of `docs/monitoring.md` describes it. `judge` is the part that runs at every slot; nearly always it decides
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from backoffice import bounds, values
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import CommandData, Event
from metrics.monitoring.alerting import conditions, domain
from metrics.monitoring.alerting.conditions import Severity
from metrics.monitoring.alerting.domain import (
    ACKNOWLEDGED_AT_MOST,
    ACKNOWLEDGED_FOR,
    CATEGORY,
    FLAPPING_COUNT,
    MAX_TEXT,
    WRONG_CLOCK_SLOTS,
    AcknowledgeAlert,
    Alert,
    AlertAcknowledged,
    AlertClosed,
    AlertCommented,
    AlertEased,
    AlertEscalated,
    AlertFlapping,
    AlertRaised,
    AlertReasonChanged,
    AlertResolved,
    AlertUnacknowledged,
    AlertWorsened,
    CloseAlert,
    CommentAlert,
    EndAlert,
    EscalateAlert,
    JudgeAlert,
    PastEpisode,
    Reason,
    UnacknowledgeAlert,
    Why,
)

# -- by values and time ----------------------------------------------------------------------------------------------


def judge(command: JudgeAlert, state: Alert) -> list[Event]:
    """The event of one slot, if any; none from a slot that is not newer than the last event's.

    1  without a fresh value nothing is raised or resolved, except by the rule's policy for missing values
    2  events caused by values: raised, worsened, eased, reason_changed, resolved, flapping
    3  events caused by time: an acknowledgement expires, the escalation goes on
    """
    if not _is_newer(command.slot, state):
        return []
    found = _of_values(command, state) if state.is_open else _of_quiet(command, state)
    if found is None and state.status == "firing":
        found = _of_time(command, state)
    return [found] if found else []


def _is_newer(slot: int, state: Alert) -> bool:
    """Returns whether a slot may decide: it is newer than the last event's, or more than an hour older.

    The clock was ahead then: an event in the future must not stop the alert until that time.
    """
    return slot > state.slot or state.slot - slot > WRONG_CLOCK_SLOTS


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
    """The event of an alert without data whose values arrive again; None while they are too few."""
    rule, window, slot, value = command.rule, command.window, command.slot, conditions.newest(command.window)
    severity = conditions.worst(rule, window)
    if severity is not None:
        given: dict[str, Any] = {"episode": state.episode, "severity": severity, "value": value, "slot": slot}
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
    """Returns whether the value is calm only because the rule was edited since the alert was raised."""
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
            newer = state.is_open and _is_newer(command.slot, state)
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
    """The events of a person's action on the open episode."""
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
    given = values.checked({"until": command.until}, {"until": values.utc_or_none})["until"]
    until = given or at.now + ACKNOWLEDGED_FOR[state.severity]
    if not at.now < until <= at.now + ACKNOWLEDGED_AT_MOST:
        raise errors.InvalidCommand(fields={"until": "Enter a time within the next seven days."})
    note = command.note.strip()
    return [AlertAcknowledged(episode=state.episode, by=command.by, note=note, until=until)]


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category=CATEGORY,
    state=Alert,
    initial=Alert,
    evolve=domain.evolve,
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
