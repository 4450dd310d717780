"""The URLs of the operator pages, under ``system/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.contrib.admin import AdminSite
from django.urls import URLPattern, path

from metrics.monitoring.health_page import HealthPages
from metrics.monitoring.live_connections import LiveConnectionPages
from metrics.monitoring.log_head import LogHeadPages
from metrics.monitoring.operator_action import OperatorPages
from metrics.monitoring.parked_streams import ParkedStreamPages
from metrics.monitoring.rebuilds import RebuildPages
from metrics.monitoring.subscriptions import SubscriptionPages

PAGES: Final[tuple[type[OperatorPages], ...]] = (
    HealthPages,
    SubscriptionPages,
    ParkedStreamPages,
    LogHeadPages,
    LiveConnectionPages,
    RebuildPages,
)


def urls(site: AdminSite, wanted: Sequence[type[OperatorPages]] = PAGES) -> list[URLPattern]:
    return [
        path(f"system/{route.path}", site.admin_view(route.view), name=f"system_{route.name}")
        for pages in wanted
        for route in pages(site).routes()
    ]
