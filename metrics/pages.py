"""All pages of this package: those of operators under ``system/``, those of the dashboard under ``dashboard/``."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import URLPattern

from metrics.caching.pages import CachePages
from metrics.dashboard import pages as dashboard
from metrics.monitoring import pages


def urls(site: AdminSite) -> list[URLPattern]:
    return [*pages.urls(site, (*pages.PAGES, CachePages)), *dashboard.urls(site)]
