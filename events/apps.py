from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EventsConfig(AppConfig):
    name = "events"
    verbose_name = _("Event store")

    def ready(self) -> None:
        # Importing these registers system checks, and the event types that every process must be able to read.
        from events import checks, jobs, removal, store  # noqa: F401, PLC0415 - apps must be loaded first
        from events.archive import reader, writer  # noqa: F401, PLC0415
        from events.subscriptions import checkpoints, parked  # noqa: F401, PLC0415

        store.use_past(reader.as_past())
