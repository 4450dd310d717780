"""Monitoring: the state of the running system, for operators."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.utils.translation import gettext_lazy as _

from backoffice import access, navigation, topics
from backoffice.section import IndexPage, Section
from metrics import pages, wiring
from metrics.counters import extensions, first_rows, tasks, updates
from metrics.dashboard import pages as dashboard_pages
from metrics.dashboard import push
from metrics.figures import panels
from metrics.materialized import tasks as view_tasks
from metrics.monitoring import sampling
from metrics.monitoring import tasks as sampling_tasks
from realtime.topics import Topic

_sees_system = partial(access.sees, "system")


def _may_follow_system(staff: Any) -> bool:
    """Returns whether this person may view the system's state; programs also need the scope."""
    return _sees_system(staff) and topics.in_scope(staff, "system:read")


SECTION = Section(
    name="metrics",
    navigation=(
        *navigation.of_pages("", partial(access.sees, "form"), (_("Figures"), "admin:figures", "figures", "m")),
        *navigation.of_pages(
            "system",
            _sees_system,
            (_("Health"), "admin:system_health", "check", "y"),
            (_("Subscriptions"), "admin:system_subscriptions", "flow", "b"),
            (_("Log head"), "admin:system_head", "head", "l"),
            (_("Rebuilds"), "admin:system_rebuilds", "rebuild", "r"),
            (_("Live connections"), "admin:system_sockets", "live", "w"),
            (_("Cache"), "admin:system_cache", "cache", ""),
        ),
    ),
    extends=(*extensions.EXTENSIONS, *panels.EXTENSIONS),
    styles=("metrics/charts.css",),
    modules=("metrics/page.js",),
    admin_urls=pages.urls,
    index=IndexPage(view=dashboard_pages.index),
    widgets={**sampling.widgets(), **push.rights(), updates.KEY: ("view", "form", "forms:read")},
    api_urls="metrics.api",
    api_shapes=("metrics.monitoring.shapes", "metrics.dashboard.shapes"),
    scopes=("dashboard",),
    # view, replay (parked events), skip, rebuild (read tables), verify (the log)
    rights={"system": {"manager": frozenset({"view", "replay"}), "dpo": frozenset({"view", "verify"})}},
    topics=(
        Topic(name="dashboard", may_subscribe=topics.may_work, may_see_value=topics.may_see_widget),
        Topic(name="system", may_subscribe=_may_follow_system),
    ),
    after=first_rows.INLINE,
    tasks=(tasks.reconcile, view_tasks.refresh_views, sampling_tasks.sample),
    ready=wiring.connect,
)
