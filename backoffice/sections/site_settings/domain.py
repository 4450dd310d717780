"""A system setting: a name and any JSON value. A person decides every concurrent change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from backoffice import bounds
from events import errors
from events.aggregate import Aggregate, Decision, Reasons
from events.types import CommandData, Event, command_type, event_type

KEY = re.compile(r"[a-z][a-z0-9_.-]{0,99}")

# `quotas`, `quotas.free.forms`, `free.quota` …
REASONS = Reasons(
    fields=("value",),
    message="Enter a reason: required for quotas.",
    keys=re.compile(r"(?:^|[._-])quotas?(?:[._-]|$)"),
    on_create=True,
)

# -- events ---------------------------------------------------------------------------------------------------------


@event_type("setting.changed")
class SettingChanged(Event, frozen=True):
    value: Any


@event_type("setting.removed")
class SettingRemoved(Event, frozen=True):
    """The setting was removed; its default applies again."""


# -- commands -------------------------------------------------------------------------------------------------------


@command_type("setting.set")
class SetSetting(CommandData, frozen=True):
    value: Any


@command_type("setting.remove")
class RemoveSetting(CommandData, frozen=True):
    pass


# -- state ----------------------------------------------------------------------------------------------------------


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    value: Any | UnsetType = UNSET

    @property
    def exists(self) -> bool:
        return self.value is not UNSET


def evolve(state: Setting, event: Event) -> Setting:
    match event:
        case SettingChanged():
            return Setting(value=event.value)
        case SettingRemoved():
            return Setting()
        case _:
            return state


# -- decide ---------------------------------------------------------------------------------------------------------


def decide(command: CommandData, state: Setting, at: Decision) -> Sequence[Event]:
    match command:
        case SetSetting():
            if not KEY.fullmatch(at.key):
                raise errors.InvalidCommand(
                    fields={"key": "Use lower-case letters, digits, dots, dashes, underscores."}
                )
            same = state.exists and type(state.value) is type(command.value) and state.value == command.value
            if same:
                return []
            bounds.check(state, {"value": command.value}, {"value": bounds.any_json})
            return [SettingChanged(value=command.value)]
        case RemoveSetting():
            if not state.exists:
                raise errors.StreamNotFound("There is no such setting.")
            return [SettingRemoved()]
        case _:
            raise errors.UnknownCommand


# -- the record -----------------------------------------------------------------------------------------------------

AGGREGATE = Aggregate(
    category="setting",
    state=Setting,
    initial=Setting,
    evolve=evolve,
    decide=decide,
    commands=(SetSetting, RemoveSetting),
    reasons=REASONS,
)
