"""Notifications: channels, and the log of what was decided and delivered."""

from __future__ import annotations

from functools import partial
from typing import Final

from django.utils.translation import gettext_lazy as _

from backoffice import access, navigation
from backoffice.section import Section
from metrics.monitoring import sampling
from metrics.monitoring.notify import alert_source, outside, planner, queue, subscription, sweep, tasks
from metrics.monitoring.notify.models import Channel, Delivery
from metrics.monitoring.notify.pages import ChannelAdmin, DeliveryAdmin
from metrics.monitoring.probes import table
from metrics.monitoring.probes.readings import Readings

VIEW: Final = frozenset({"view"})


def _ready() -> None:
    """Connect notifications with the alerts, the sampler and `run_subscriptions`; a repeated call changes nothing."""
    alert_source.connect()
    subscription.register()
    table.PROBES["notifications"] = _read_age
    for step in (sweep.sweep, outside.heartbeat):
        if step not in sampling.STEPS:
            sampling.STEPS = (*sampling.STEPS, step)
    if outside.watch_database not in sampling.WATCHERS:
        sampling.WATCHERS = (*sampling.WATCHERS, outside.watch_database)


def _read_age(_slot: int) -> Readings:
    return {("notify.age", ""): queue.age()}


SECTION = Section(
    name="notifications",
    navigation=navigation.of_pages(
        "running",
        partial(access.sees, "channel"),
        (_("Channels"), "admin:metrics_channel_changelist", "external", ""),
        (_("Deliveries"), "admin:metrics_delivery_changelist", "check", ""),
    ),
    admins={Channel: ChannelAdmin, Delivery: DeliveryAdmin},
    api_urls="metrics.monitoring.notify.api",
    api_shapes="metrics.monitoring.notify.shapes",
    # view, retry (a delivery), edit (channels: administrators only)
    rights={
        "channel": {"manager": frozenset({"view", "retry"}), **dict.fromkeys(("agent", "viewer", "dpo"), VIEW)},
    },
    after={"alert": planner.plan},
    tasks=(tasks.send_notifications, tasks.forget_deliveries),
    ready=_ready,
)
