"""The admin site itself: its name, its look, who comes in."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _


class BackofficeSite(admin.AdminSite):
    site_header = site_title = _("FormEase backoffice")
    index_title = _("Overview")
