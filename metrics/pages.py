"""All pages of this package: those for operators, under ``system/``, and *Figures*."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import URLPattern

from metrics.caching.pages import CachePages
from metrics.figures.pages import FigurePages
from metrics.monitoring import pages


def urls(site: AdminSite) -> list[URLPattern]:
    return [*pages.urls(site, (*pages.PAGES, CachePages)), *FigurePages(site).urls()]
