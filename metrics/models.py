"""The models of the read side and of monitoring, where Django looks for them."""

from __future__ import annotations

from metrics.monitoring.notify.models import Attempt, Channel, Delivery

__all__ = [
    "Attempt",
    "Channel",
    "Delivery",
]
