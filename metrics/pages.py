"""All pages of this package: those of operators, under ``system/``, *Figures*, and those of the dashboard."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import URLPattern

from metrics.caching.pages import CachePages
from metrics.dashboard import pages as dashboard
from metrics.figures.pages import FigurePages
from metrics.monitoring import pages


def urls(site: AdminSite) -> list[URLPattern]:
    system = pages.urls(site, (*pages.PAGES, CachePages))
    return [*system, *FigurePages(site).urls(), *dashboard.urls(site)]
