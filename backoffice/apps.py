from __future__ import annotations

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
    default_site = "backoffice.sections.staff.site.StaffSite"

    def ready(self) -> None:
        super().ready()
        from django.contrib import admin  # noqa: PLC0415 - the site is made when it is first asked for

        from backoffice import registry  # noqa: PLC0415 - models must be loaded first

        registry.register_pages(admin.site)
