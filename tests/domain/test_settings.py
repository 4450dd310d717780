"""Decisions about settings: any JSON value under a name, set, changed, removed."""

from __future__ import annotations

from typing import Any

import pytest

from backoffice.sections.site_settings.domain import (
    AGGREGATE,
    RemoveSetting,
    SetSetting,
    SettingChanged,
    SettingRemoved,
)
from events import testing

given = testing.decider(AGGREGATE, key="mail.sender")


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, "text", 1.5, {"a": [1, {"b": None}]}])
def test_any_json_including_empty_is_a_value(value: Any) -> None:
    is_set = given().when(SetSetting(value=value)).then(SettingChanged(value=value)).then_state(value=value).and_given()
    assert is_set.state.exists
    is_set.when(SetSetting(value=value)).then_nothing()


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (1, 1.0), (None, False), ("", None), ("1", 1)])
def test_different_json_types_are_a_change(before: Any, after: Any) -> None:
    given(SettingChanged(value=before)).when(SetSetting(value=after)).then(SettingChanged(value=after))


def test_removed_setting_is_missing_and_can_be_set_again() -> None:
    gone = given(SettingChanged(value=1)).when(RemoveSetting()).then(SettingRemoved()).and_given()
    assert not gone.state.exists
    gone.when(RemoveSetting()).then_not_found("no such setting")
    gone.when(SetSetting(value=1)).then(SettingChanged(value=1)).then_state(value=1)


@pytest.mark.parametrize("key", ["a", "mail.sender", "limits.max-size_2", "a" * 100])
def test_valid_names_are_accepted(key: str) -> None:
    testing.decider(AGGREGATE, key=key)().when(SetSetting(value=1)).then(SettingChanged(value=1))


@pytest.mark.parametrize("key", ["", "A", "1a", ".a", "a b", "é", "a" * 101, "a\n", "a/b"])
def test_invalid_names_are_refused(key: str) -> None:
    testing.decider(AGGREGATE, key=key)().when(SetSetting(value=1)).then_rejected("lower-case", field="key")
