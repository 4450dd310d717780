"""The addresses of who keeps it running, under ``system/``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path

from metrics.monitoring import live_connections, log_head, rebuilds, subscriptions
from metrics.monitoring.operator_action import View


def urls(site: AdminSite) -> list[URLPattern]:
    pages: Sequence[tuple[str, str, View]] = (
        ("subscriptions/", "subscriptions", subscriptions.index),
        ("subscriptions/<str:name>/", "subscription", subscriptions.one),
        ("subscriptions/<str:name>/parked/", "parked", subscriptions.parked),
        ("subscriptions/<str:name>/replay/", "replay", subscriptions.replay),
        ("subscriptions/<str:name>/skip/", "skip", subscriptions.skip),
        ("head/", "head", log_head.index),
        ("head/verify/", "verify", log_head.verify),
        ("sockets/", "sockets", live_connections.index),
        ("rebuilds/", "rebuilds", rebuilds.index),
        ("rebuilds/<str:table>/start/", "rebuild", rebuilds.start),
        ("rebuilds/<str:table>/cancel/", "cancel", rebuilds.cancel),
    )
    return [
        path(f"system/{route}", site.admin_view(partial(view, site)), name=f"system_{name}")
        for route, name, view in pages
    ]
