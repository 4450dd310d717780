"""The models of the read side, where Django looks for them."""

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

__all__ = [
    "Alert",
    "CountersState",
    "DayOwner",
    "DayStats",
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
