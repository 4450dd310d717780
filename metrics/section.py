"""Monitoring: how the system runs, for those who keep it running."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.utils.translation import gettext_lazy as _

from backoffice import access, topics
from backoffice.section import NavItem, Section
from metrics import pages, wiring
from metrics.counters import tasks
from realtime.topics import Topic

_sees_system = partial(access.sees, "system")


def _may_follow_system(staff: Any) -> bool:
    """Those who may see how the system runs; programs need the scope for it."""
    return _sees_system(staff) and topics.in_scope(staff, "system:read")


SECTION = Section(
    name="metrics",
    navigation=(
        NavItem(
            label=_("Subscriptions"),
            url_name="admin:system_subscriptions",
            icon="flow",
            group="system",
            visible=_sees_system,
            key="b",
        ),
        NavItem(
            label=_("Log head"),
            url_name="admin:system_head",
            icon="head",
            group="system",
            visible=_sees_system,
            key="l",
        ),
        NavItem(
            label=_("Rebuilds"),
            url_name="admin:system_rebuilds",
            icon="rebuild",
            group="system",
            visible=_sees_system,
            key="r",
        ),
        NavItem(
            label=_("Live connections"),
            url_name="admin:system_sockets",
            icon="live",
            group="system",
            visible=_sees_system,
            key="w",
        ),
        NavItem(
            label=_("Cache"),
            url_name="admin:system_cache",
            icon="cache",
            group="system",
            visible=_sees_system,
        ),
    ),
    admin_urls=pages.urls,
    api_urls="metrics.api",
    ready=wiring.connect,
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
    tasks=(tasks.reconcile,),
)
