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

__all__ = [
    "CountersState",
    "DayOwner",
    "DayStats",
    "FormHour",
    "FormStats",
    "Reconciliation",
    "ReconciliationDifference",
    "SavedLayout",
    "SharedLayout",
    "SkippedPosition",
    "UserStats",
    "ViewFreshness",
]
