from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EventsConfig(AppConfig):
    name = "events"
    verbose_name = _("Event store")

    def ready(self) -> None:
        from events import archives, checks, store  # noqa: F401, PLC0415 - checks register themselves

        store.use_past(archives.as_past())
