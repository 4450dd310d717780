"""The addresses of who keeps it running, under ``system/``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path

from backoffice.admin import loghead, rebuilds, sockets, subscriptions
from backoffice.admin.watch import View


def urls(site: AdminSite) -> list[URLPattern]:
    pages: Sequence[tuple[str, str, View]] = (
        ("subscriptions/", "subscriptions", subscriptions.index),
        ("subscriptions/<str:name>/", "subscription", subscriptions.one),
        ("subscriptions/<str:name>/parked/", "parked", subscriptions.parked),
        ("subscriptions/<str:name>/replay/", "replay", subscriptions.replay),
        ("subscriptions/<str:name>/skip/", "skip", subscriptions.skip),
        ("head/", "head", loghead.index),
        ("head/verify/", "verify", loghead.verify),
        ("sockets/", "sockets", sockets.index),
        ("rebuilds/", "rebuilds", rebuilds.index),
        ("rebuilds/<str:table>/start/", "rebuild", rebuilds.start),
        ("rebuilds/<str:table>/cancel/", "cancel", rebuilds.cancel),
    )
    return [
        path(f"system/{route}", site.admin_view(partial(view, site)), name=f"system_{name}")
        for route, name, view in pages
    ]
