"""The models of the read side, where Django looks for them."""

from __future__ import annotations

from metrics.monitoring.alerting.models import Alert, Episode, Rule, Silence

__all__ = ["Alert", "Episode", "Rule", "Silence"]
