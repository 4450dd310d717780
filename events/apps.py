from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class EventsConfig(AppConfig):
    name = "events"
    verbose_name = _("Event store")

    def ready(self) -> None:
        # Checks register themselves; what happens to the log is read by everybody, whoever made it happen.
        from events import store
        from events.archive import reader as archives

        store.use_past(archives.as_past())
