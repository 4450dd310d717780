"""A rule: the metric that is judged, its levels and durations. Events, commands, state, evolve, decide. Pure.

A default rule (`defaults`) is written with `origin="default"`. It follows the defaults of later releases until a person
edits it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import bounds, values
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import CommandData, Event, command_type, event_type

CATEGORY: Final = "rule"
KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
METRIC: Final = re.compile(r"[a-z][a-z0-9_]*+(?:\.[a-z][a-z0-9_]*+)++")
TARGET: Final = re.compile(r"\*|[A-Za-z0-9_.-]{0,100}")

# A window is read every five seconds for each rule, so it has a limit.
MAX_WINDOW: Final = 6 * 3600
MAX_CHANNELS: Final = 20
MAX_STEPS: Final = 5

Comparison = Literal["above", "below"]
OnMissing = Literal["keep", "raise", "resolve"]
Origin = Literal["default", "person"]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_WINDOW)]


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of the escalation: minutes without acknowledgement, and the names of the channels notified then."""

    minutes: Annotated[int, msgspec.Meta(ge=1, le=7 * 24 * 60)]
    channels: list[str]


# -- events ---------------------------------------------------------------------------------------------------------


@event_type("rule.created")
class RuleCreated(Event, frozen=True):
    title: str
    metric: str
    target: str
    comparison: Comparison
    warn: float | None
    critical: float | None
    clear: float | None
    for_seconds: int
    critical_for_seconds: int | None
    keep_seconds: int
    on_missing: OnMissing
    missing_seconds: int
    per: str
    over_seconds: int
    channels: list[str]
    escalation: list[Step]
    enabled: bool
    origin: Origin
    created_at: datetime


@event_type("rule.updated")
class RuleUpdated(Event, frozen=True):
    """A rule was edited; has only the fields that changed."""

    title: str | UnsetType = UNSET
    metric: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    comparison: Comparison | UnsetType = UNSET
    warn: float | UnsetType | None = UNSET
    critical: float | UnsetType | None = UNSET
    clear: float | UnsetType | None = UNSET
    for_seconds: int | UnsetType = UNSET
    critical_for_seconds: int | UnsetType | None = UNSET
    keep_seconds: int | UnsetType = UNSET
    on_missing: OnMissing | UnsetType = UNSET
    missing_seconds: int | UnsetType = UNSET
    per: str | UnsetType = UNSET
    over_seconds: int | UnsetType = UNSET
    channels: list[str] | UnsetType = UNSET
    escalation: list[Step] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    origin: Origin | UnsetType = UNSET


@event_type("rule.deleted")
class RuleDeleted(Event, frozen=True):
    deleted_at: datetime


@event_type("rule.restored")
class RuleRestored(Event, frozen=True):
    """The deletion of a rule was taken back."""


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("rule.create")
class CreateRule(CommandData, frozen=True):
    title: values.Title
    metric: str
    target: str = ""
    comparison: Comparison = "above"
    warn: float | None = None
    critical: float | None = None
    clear: float | None = None
    for_seconds: Seconds = 60
    critical_for_seconds: Seconds | None = None
    keep_seconds: Seconds = 300
    on_missing: OnMissing = "keep"
    missing_seconds: Seconds = 120
    per: str = ""
    over_seconds: Seconds = 300
    channels: list[str] = []
    escalation: list[Step] = []
    enabled: bool = True


@command_type("rule.update")
class UpdateRule(CommandData, frozen=True):
    title: values.Title | UnsetType = UNSET
    metric: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    comparison: Comparison | UnsetType = UNSET
    warn: float | UnsetType | None = UNSET
    critical: float | UnsetType | None = UNSET
    clear: float | UnsetType | None = UNSET
    for_seconds: Seconds | UnsetType = UNSET
    critical_for_seconds: Seconds | UnsetType | None = UNSET
    keep_seconds: Seconds | UnsetType = UNSET
    on_missing: OnMissing | UnsetType = UNSET
    missing_seconds: Seconds | UnsetType = UNSET
    per: str | UnsetType = UNSET
    over_seconds: Seconds | UnsetType = UNSET
    channels: list[str] | UnsetType = UNSET
    escalation: list[Step] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


@command_type("rule.delete")
class DeleteRule(CommandData, frozen=True):
    pass


@command_type("rule.restore")
class RestoreRule(CommandData, frozen=True):
    """Bring a deleted rule back."""


@command_type("default_rule.seed")  # of no kind of record, so no program can send it
class SeedRule(CommandData, frozen=True):
    """Write a default rule: creates it, or brings one that nobody has edited to the values of this release."""

    values: CreateRule


# -- state ----------------------------------------------------------------------------------------------------------


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a rule. Its id is the key of its stream.

    target                a host or subscription; empty: the worst one; ``*``: each has an alert of its own
    warn, critical        levels; None: no alert of this severity
    clear                 level at which it is calm again; None: the lowest level
    for_seconds           how long the value must be beyond a level; `critical_for_seconds` for the critical one
    keep_seconds          how long the value must be calm before the alert is resolved
    on_missing            what `missing_seconds` without a value mean
    per, over_seconds     the metric that the values are a share of, in percent over these seconds: ``errors.count`` per
                          ``requests.count``. Empty: the values are judged as they are
    """

    title: str = ""
    metric: str = ""
    target: str = ""
    comparison: Comparison = "above"
    warn: float | None = None
    critical: float | None = None
    clear: float | None = None
    for_seconds: int = 60
    critical_for_seconds: int | None = None
    keep_seconds: int = 300
    on_missing: OnMissing = "keep"
    missing_seconds: int = 120
    per: str = ""
    over_seconds: int = 300
    channels: list[str] = []
    escalation: list[Step] = []
    enabled: bool = True
    origin: Origin = "person"
    created_at: datetime | None = None
    deleted_at: datetime | None = None


def evolve(state: Rule, event: Event) -> Rule:
    match event:
        case RuleCreated() | RuleUpdated() | RuleDeleted():
            return msgspec.structs.replace(state, **values.given(event))
        case RuleRestored():
            return msgspec.structs.replace(state, deleted_at=None)
        case _:
            return state


# -- decide ---------------------------------------------------------------------------------------------------------


def _title(value: str) -> str:
    title = values.normal_name(value)
    if not title:
        raise ValueError("A rule needs a title.")
    return title


def _metric(value: str) -> str:
    if not METRIC.fullmatch(value):
        raise ValueError("Enter the name of a metric, such as cpu.percent.")
    return value


def _per(value: str) -> str:
    return _metric(value) if value else ""


def _target(value: str) -> str:
    if not TARGET.fullmatch(value):
        raise ValueError("Enter a name, * for an alert of each target, or nothing for the worst one.")
    return value


def _level(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise ValueError("Enter a number.")
    return value


def names(given: Sequence[str]) -> list[str]:
    """Names of channels: trimmed, without empty and repeated ones. Raises `ValueError`."""
    found = list(dict.fromkeys(name for text in given if (name := values.normal_name(text))))
    if len(found) > MAX_CHANNELS or any(len(name) > bounds.NAME for name in found):
        raise ValueError(f"Enter at most {MAX_CHANNELS} names of at most {bounds.NAME} characters.")
    return found


def _escalation(steps: Sequence[Step]) -> list[Step]:
    if len(steps) > MAX_STEPS:
        raise ValueError(f"An escalation has at most {MAX_STEPS} steps.")
    if any(later.minutes <= earlier.minutes for earlier, later in itertools.pairwise(steps)):
        raise ValueError("Each step of the escalation must be later than the one before.")
    return [Step(minutes=step.minutes, channels=names(step.channels)) for step in steps]


_RULES: values.Rules = {
    "title": _title,
    "metric": _metric,
    "per": _per,
    "target": _target,
    "warn": _level,
    "critical": _level,
    "clear": _level,
    "channels": names,
    "escalation": _escalation,
}


def _check_levels(rule: Rule) -> None:
    """Raises `InvalidCommand` when the levels contradict each other."""
    if rule.warn is None and rule.critical is None:
        raise errors.InvalidCommand(fields={"warn": "Enter a warning level, a critical level or both."})
    sign = 1.0 if rule.comparison == "above" else -1.0
    if rule.warn is not None and rule.critical is not None and sign * rule.critical < sign * rule.warn:
        raise errors.InvalidCommand(fields={"critical": "The critical level must lie beyond the warning level."})
    first = rule.warn if rule.warn is not None else rule.critical
    if rule.clear is not None and first is not None and sign * rule.clear > sign * first:
        raise errors.InvalidCommand(fields={"clear": "The clear level must not lie beyond the first level."})
    if rule.per and rule.over_seconds == 0:
        raise errors.InvalidCommand(fields={"over_seconds": "A share needs a period longer than 0 seconds."})


def _checked(command: CommandData) -> dict[str, Any]:
    return values.checked(values.given(command), _RULES)


def decide(command: CommandData, state: Rule, at: Decision) -> Sequence[Event]:
    match command:
        case CreateRule():
            return _create(command, state, at, "person")
        case SeedRule():
            return _seed(command, state, at)
    if state.created_at is None:
        raise errors.StreamNotFound("There is no such rule.")
    match command:
        case UpdateRule():
            if state.deleted_at is not None:
                raise errors.Rejected("This rule was deleted; restore it first.")
            changed = values.changes(state, _checked(command))
            _check_levels(msgspec.structs.replace(state, **changed))
            return [RuleUpdated(**changed, origin="person")] if changed else []
        case DeleteRule():
            return [RuleDeleted(deleted_at=at.now)] if state.deleted_at is None else []
        case RestoreRule():
            return [RuleRestored()] if state.deleted_at is not None else []
        case _:
            raise errors.UnknownCommand


def _create(command: CreateRule, state: Rule, at: Decision, origin: Origin) -> Sequence[Event]:
    if not KEY.fullmatch(at.key):
        raise errors.InvalidCommand(fields={"key": "Use lower-case letters, digits and underscores."})
    if state.created_at is not None:
        raise errors.Rejected("A rule with this id already exists.", {"key": "already exists"})
    wanted = _checked(command)
    _check_levels(Rule(**wanted))
    return [RuleCreated(**wanted, origin=origin, created_at=at.now)]


def _seed(command: SeedRule, state: Rule, at: Decision) -> Sequence[Event]:
    """Creates a default rule, or updates one whose values are still those of a release."""
    if state.created_at is None:
        return _create(command.values, state, at, "default")
    if state.origin != "default" or state.deleted_at is not None:
        return []
    changed = values.changes(state, _checked(command.values))
    return [RuleUpdated(**changed)] if changed else []


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category=CATEGORY,
    state=Rule,
    initial=Rule,
    evolve=evolve,
    decide=decide,
    commands=(CreateRule, UpdateRule, DeleteRule, RestoreRule, SeedRule),
    snapshot_every=20,
)
