from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.utils.translation import gettext_lazy as _


class BackofficeConfig(AppConfig):
    name = "backoffice"
    verbose_name = _("Backoffice")

    def ready(self) -> None:
        from backoffice import registry  # noqa: PLC0415 - models must be loaded first

        registry.fill()


class BackofficeAdminConfig(AdminConfig):
    default_site = "backoffice.site.BackofficeSite"

    def ready(self) -> None:
        super().ready()
        # Not from the package itself: making the site imports it, and rooms would be put into a site half made.
        import_module("backoffice.web.registration")
