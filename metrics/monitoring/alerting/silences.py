"""A silence or maintenance window: during it, matching alerts are not notified. Pure.

A repeating window is kept in local times and a time zone, so that it follows daylight saving. Whether it covers an
instant is decided by the wall clock there: a missing hour covers nothing, a doubled hour is covered twice. The
expiry of a silence is no event.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import values
from events import errors
from events.aggregate import Aggregate, Decision
from events.types import CommandData, Event, command_type, event_type

CATEGORY: Final = "silence"
MAX_NAMES: Final = 100
CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")

Repeat = Literal["once", "daily", "weekly"]
Which = Literal["any", "warning"]


# -- events ---------------------------------------------------------------------------------------------------------


@event_type("silence.created")
class SilenceCreated(Event, frozen=True):
    title: str
    rules: list[str]
    targets: list[str]
    severity: Which
    repeat: Repeat
    weekdays: list[int]
    starts_at: datetime | None
    ends_at: datetime | None
    from_time: str
    to_time: str
    zone: str
    created_at: datetime


@event_type("silence.updated")
class SilenceUpdated(Event, frozen=True):
    """A silence was edited; has only the fields that changed."""

    title: str | UnsetType = UNSET
    rules: list[str] | UnsetType = UNSET
    targets: list[str] | UnsetType = UNSET
    severity: Which | UnsetType = UNSET
    repeat: Repeat | UnsetType = UNSET
    weekdays: list[int] | UnsetType = UNSET
    starts_at: datetime | UnsetType | None = UNSET
    ends_at: datetime | UnsetType | None = UNSET
    from_time: str | UnsetType = UNSET
    to_time: str | UnsetType = UNSET
    zone: str | UnsetType = UNSET


@event_type("silence.deleted")
class SilenceDeleted(Event, frozen=True):
    deleted_at: datetime


@event_type("silence.restored")
class SilenceRestored(Event, frozen=True):
    """The deletion of a silence was taken back."""


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("silence.create")
class CreateSilence(CommandData, frozen=True):
    title: values.Title
    rules: list[str] = []
    targets: list[str] = []
    severity: Which = "any"
    repeat: Repeat = "once"
    weekdays: list[int] = []
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    from_time: str = ""
    to_time: str = ""
    zone: str = "UTC"


@command_type("silence.update")
class UpdateSilence(CommandData, frozen=True):
    title: values.Title | UnsetType = UNSET
    rules: list[str] | UnsetType = UNSET
    targets: list[str] | UnsetType = UNSET
    severity: Which | UnsetType = UNSET
    repeat: Repeat | UnsetType = UNSET
    weekdays: list[int] | UnsetType = UNSET
    starts_at: datetime | UnsetType | None = UNSET
    ends_at: datetime | UnsetType | None = UNSET
    from_time: str | UnsetType = UNSET
    to_time: str | UnsetType = UNSET
    zone: str | UnsetType = UNSET


@command_type("silence.delete")
class DeleteSilence(CommandData, frozen=True):
    pass


@command_type("silence.restore")
class RestoreSilence(CommandData, frozen=True):
    """Bring a deleted silence back."""


# -- state ----------------------------------------------------------------------------------------------------------


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a silence.

    rules, targets      the alerts that it matches; empty: all
    severity            any, or only warnings
    starts_at, ends_at  when it applies; of a repeating one the first and last instant, None: without a limit
    weekdays            of a weekly one: 1 is Monday. A window past midnight belongs to the day on which it begins
    from_time, to_time  of a repeating one: ``HH:MM`` on the wall clock of `zone`
    """

    title: str = ""
    rules: list[str] = []
    targets: list[str] = []
    severity: Which = "any"
    repeat: Repeat = "once"
    weekdays: list[int] = []
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    from_time: str = ""
    to_time: str = ""
    zone: str = "UTC"
    created_at: datetime | None = None
    deleted_at: datetime | None = None


def evolve(state: Silence, event: Event) -> Silence:
    match event:
        case SilenceCreated() | SilenceUpdated() | SilenceDeleted():
            return msgspec.structs.replace(state, **values.given(event))
        case SilenceRestored():
            return msgspec.structs.replace(state, deleted_at=None)
        case _:
            return state


# -- questions ------------------------------------------------------------------------------------------------------


def matches(silence: Any, rule: str, target: str, severity: str) -> bool:
    """Returns whether the silence is about an alert. `silence` is the state, or a row with the same fields."""
    if silence.severity == "warning" and severity != "warning":
        return False
    return (not silence.rules or rule in silence.rules) and (not silence.targets or target in silence.targets)


def covers(silence: Any, at: datetime) -> bool:
    """Returns whether an instant lies within the silence. A deleted one covers nothing."""
    if silence.deleted_at is not None:
        return False
    if (silence.starts_at and at < silence.starts_at) or (silence.ends_at and at >= silence.ends_at):
        return False
    if silence.repeat == "once":
        return True
    local = at.astimezone(zoneinfo.ZoneInfo(silence.zone))
    begin, end = time.fromisoformat(silence.from_time), time.fromisoformat(silence.to_time)
    clock, today = local.time(), local.date()
    if begin < end:
        return begin <= clock < end and _on(silence, today)
    yesterday = today - timedelta(days=1)
    return (clock >= begin and _on(silence, today)) or (clock < end and _on(silence, yesterday))


def _on(silence: Any, day: date) -> bool:
    return silence.repeat == "daily" or day.isoweekday() in silence.weekdays


# -- decide ---------------------------------------------------------------------------------------------------------


def _title(value: str) -> str:
    title = values.normal_name(value)
    if not title:
        raise ValueError("Enter the purpose of the silence.")
    return title


def _names(given: Sequence[str]) -> list[str]:
    found = list(dict.fromkeys(name.strip() for name in given if name.strip()))
    if len(found) > MAX_NAMES:
        raise ValueError(f"Enter at most {MAX_NAMES} names.")
    if wrong := next((name for name in found if not NAME.fullmatch(name)), None):
        raise ValueError(f"{wrong[:100]!r} is no name of a rule or target.")
    return found


def _weekdays(given: Sequence[int]) -> list[int]:
    if any(not 1 <= day <= 7 for day in given):
        raise ValueError("Weekdays are numbers from 1 (Monday) to 7 (Sunday).")
    return sorted(set(given))


def _clock(value: str) -> str:
    if value and not CLOCK.fullmatch(value):
        raise ValueError("Enter a time such as 02:30.")
    return value


def _zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("Enter a time zone such as Europe/Paris.") from None
    return value


_RULES: values.Rules = {
    "title": _title,
    "rules": _names,
    "targets": _names,
    "weekdays": _weekdays,
    "from_time": _clock,
    "to_time": _clock,
    "zone": _zone,
    "starts_at": values.utc_or_none,
    "ends_at": values.utc_or_none,
}


def _check(silence: Silence) -> None:
    """Raises `InvalidCommand` for a silence that covers nothing, or a single one without an end."""
    wrong: dict[str, str] = {}
    if silence.starts_at and silence.ends_at and silence.ends_at <= silence.starts_at:
        wrong["ends_at"] = "The end must be after the beginning."
    if silence.repeat == "once" and silence.ends_at is None:
        wrong["ends_at"] = "Enter when the silence ends."
    if silence.repeat != "once":
        for name in ("from_time", "to_time"):
            if not getattr(silence, name):
                wrong[name] = "Enter a time such as 02:30."
        if silence.from_time and silence.from_time == silence.to_time:
            wrong["to_time"] = "The end must differ from the beginning."
    if silence.repeat == "weekly" and not silence.weekdays:
        wrong["weekdays"] = "Choose at least one weekday."
    if wrong:
        raise errors.InvalidCommand(fields=wrong)


def decide(command: CommandData, state: Silence, at: Decision) -> Sequence[Event]:
    if isinstance(command, CreateSilence):
        if state.created_at is not None:
            raise errors.Rejected("A silence with this id already exists.", {"key": "already exists"})
        wanted = values.checked(values.given(command), _RULES)
        if wanted["repeat"] == "once" and wanted["starts_at"] is None:
            wanted["starts_at"] = at.now.astimezone(UTC)
        _check(Silence(**wanted))
        return [SilenceCreated(**wanted, created_at=at.now)]
    if state.created_at is None:
        raise errors.StreamNotFound("There is no such silence.")
    match command:
        case UpdateSilence():
            if state.deleted_at is not None:
                raise errors.Rejected("This silence was deleted; restore it first.")
            changed = values.changes(state, values.checked(values.given(command), _RULES))
            _check(msgspec.structs.replace(state, **changed))
            return [SilenceUpdated(**changed)] if changed else []
        case DeleteSilence():
            return [SilenceDeleted(deleted_at=at.now)] if state.deleted_at is None else []
        case RestoreSilence():
            return [SilenceRestored()] if state.deleted_at is not None else []
        case _:
            raise errors.UnknownCommand


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category=CATEGORY,
    state=Silence,
    initial=Silence,
    evolve=evolve,
    decide=decide,
    commands=(CreateSilence, UpdateSilence, DeleteSilence, RestoreSilence),
    snapshot_every=20,
)
