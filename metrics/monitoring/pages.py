"""The addresses of who keeps it running, under ``system/``."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path

from metrics.monitoring import live_connections, log_head, rebuilds, subscriptions
from metrics.monitoring.operator_action import Method


def urls(site: AdminSite) -> list[URLPattern]:
    flow, log = subscriptions.SubscriptionPages(site), log_head.LogHeadPages(site)
    live, builds = live_connections.LiveConnectionPages(site), rebuilds.RebuildPages(site)
    pages: Sequence[tuple[str, str, Method]] = (
        ("subscriptions/", "subscriptions", flow.index),
        ("subscriptions/<str:name>/", "subscription", flow.one),
        ("subscriptions/<str:name>/parked/", "parked", flow.parked),
        ("subscriptions/<str:name>/replay/", "replay", flow.replay),
        ("subscriptions/<str:name>/skip/", "skip", flow.skip),
        ("head/", "head", log.index),
        ("head/verify/", "verify", log.verify),
        ("sockets/", "sockets", live.index),
        ("rebuilds/", "rebuilds", builds.index),
        ("rebuilds/<str:table>/start/", "rebuild", builds.start),
        ("rebuilds/<str:table>/cancel/", "cancel", builds.cancel),
    )
    return [path(f"system/{route}", site.admin_view(view), name=f"system_{name}") for route, name, view in pages]
