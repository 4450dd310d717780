"""The questions that notifications ask about rules, firing alerts, silences and inhibition; `alert_source` answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a rule that messages need: its title, metric and channels.

    metric      what it judges; names the unit of its values
    channels    names of channels; empty: all of them
    escalation  names of the channels of each step, from step 1; an empty step means `channels`
    """

    id: str
    title: str
    metric: str = ""
    channels: Sequence[str] = ()
    escalation: Sequence[Sequence[str]] = ()


class FiringAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that fires now and is not closed. `facts` are those of its messages: reason, value, since."""

    alert: str
    episode: int
    severity: str
    facts: dict[str, Any] = {}


def _plain_rule(rule: str) -> Rule:
    return Rule(id=rule, title=rule)


def _none() -> Sequence[FiringAlert]:
    return ()


def _never(*_arguments: Any) -> str:
    return ""


def _plain_value(_metric: str, value: float) -> str:
    return f"{value:.4g}"


def _path(alert: str) -> str:
    return f"/admin/alerts/{quote(alert, safe=':')}/" if alert else "/admin/alerts/"


class Sources(msgspec.Struct, kw_only=True):
    """The functions that answer the questions of notifications.

    rule       (id) -> the rule, also a deleted one
    firing     () -> alerts that fire now
    silence    (alert, severity, at) -> id of a silence that covers it, else empty
    inhibitor  (rule, ids of firing rules) -> the firing rule that mutes this one, else empty
    value      (metric, value) -> the value in words, with its unit
    path       (alert) -> path of the alert's page; of all alerts for an empty key
    """

    rule: Callable[[str], Rule] = _plain_rule
    firing: Callable[[], Sequence[FiringAlert]] = _none
    silence: Callable[[str, str, datetime], str] = _never
    inhibitor: Callable[[str, Collection[str]], str] = _never
    value: Callable[[str, float], str] = _plain_value
    path: Callable[[str], str] = _path


SOURCES = Sources()


def rule_of(alert: str) -> str:
    """The rule's id in an alert's key, ``<rule>`` or ``<rule>:<target>``."""
    return alert.partition(":")[0]
