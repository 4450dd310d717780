"""Monitoring: how the system runs, for those who keep it running."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.utils.translation import gettext_lazy as _

from backoffice import access, health, navigation, topics
from backoffice.section import Section
from events import extension
from events.subscriptions import companions
from metrics.counters import extensions, subscription, tasks
from metrics.materialized import freshness
from metrics.materialized import tasks as view_tasks
from metrics.monitoring import exported, fallback, pages, sampling
from metrics.monitoring import tasks as sampling_tasks
from metrics.monitoring.history import tables
from realtime import prometheus
from realtime.topics import Topic

_sees_system = partial(access.sees, "system")


def _may_follow_system(staff: Any) -> bool:
    """Those who may see how the system runs; programs need the scope for it."""
    return _sees_system(staff) and topics.in_scope(staff, "system:read")


def _ready() -> None:
    subscription.register()
    health.register("views", freshness.probe)
    for function in ("metrics_refresh_view(text)", "metrics_replace_view(text, text)", *tables.OWNER_FUNCTIONS):
        extension.run_as_owner(function)
    prometheus.COLLECTORS["samples"] = exported.SampleCollector()
    companions.register("sampling", fallback.run)
    sampling.STEPS = (sampling.keep_history,)


SECTION = Section(
    name="metrics",
    navigation=navigation.of_pages(
        "system",
        _sees_system,
        (_("Health"), "admin:system_health", "check", "y"),
        (_("Subscriptions"), "admin:system_subscriptions", "flow", "b"),
        (_("Log head"), "admin:system_head", "head", "l"),
        (_("Rebuilds"), "admin:system_rebuilds", "rebuild", "r"),
        (_("Live connections"), "admin:system_sockets", "live", "w"),
    ),
    extends=extensions.EXTENSIONS,
    admin_urls=pages.urls,
    api_urls="metrics.monitoring.api",
    api_shapes="metrics.monitoring.shapes",
    # view, replay (parked events), skip, rebuild (read tables), verify (the log)
    rights={"system": {"manager": frozenset({"view", "replay"}), "dpo": frozenset({"view", "verify"})}},
    topics=(
        Topic(
            name="alerts",
            categories=("alert",),
            may_subscribe=topics.may_work,
            projection_key=access.projection_key,
            project=topics.show,
        ),
        Topic(name="dashboard", may_subscribe=topics.may_work, may_see_value=topics.may_see_widget),
        Topic(name="system", may_subscribe=_may_follow_system),
    ),
    widgets=sampling.widgets(),
    tasks=(tasks.reconcile, view_tasks.refresh_views, sampling_tasks.sample),
    ready=_ready,
)
