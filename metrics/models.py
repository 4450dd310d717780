"""The models of the read side and of monitoring, where Django looks for them."""

from __future__ import annotations

from metrics.counters.models import (
    CountersState,
    DayOwner,
    DayStats,
    FormHour,
    FormStats,
    Reconciliation,
    ReconciliationDifference,
    SkippedPosition,
    UserStats,
)
from metrics.dashboard.models import SavedLayout, SharedLayout
from metrics.materialized.models import ViewFreshness
from metrics.monitoring.alerting.models import Alert, Episode, Rule, Silence
from metrics.monitoring.notify.models import Attempt, Channel, Delivery

__all__ = [
    "Alert",
    "Attempt",
    "Channel",
    "CountersState",
    "DayOwner",
    "DayStats",
    "Delivery",
    "Episode",
    "FormHour",
    "FormStats",
    "Reconciliation",
    "ReconciliationDifference",
    "Rule",
    "SavedLayout",
    "SharedLayout",
    "Silence",
    "SkippedPosition",
    "UserStats",
    "ViewFreshness",
]
