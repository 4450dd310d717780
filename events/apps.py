from __future__ import annotations

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _


class EventsConfig(AppConfig):
    name = "events"
    verbose_name = _("Event store")

    def ready(self) -> None:
        # These modules register checks or event types when they are imported, which every process needs.
        from events import checks, jobs, removal, schedule, store  # noqa: F401, PLC0415
        from events.archive import reader as archives  # noqa: PLC0415
        from events.archive import restore, writer  # noqa: F401, PLC0415
        from events.db import primary  # noqa: PLC0415
        from events.subscriptions import checkpoints, companions, parked  # noqa: F401, PLC0415

        companions.register("scheduled tasks", schedule.run)
        connection_created.connect(primary.refuse_former)
        store.use_past(archives.as_past())
