from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RealtimeConfig(AppConfig):
    name = "realtime"
    verbose_name = _("Realtime")

    def ready(self) -> None:
        from events.subscriptions import runner as subscriptions  # noqa: PLC0415 - apps must be loaded first
        from realtime import checks, relay  # noqa: F401, PLC0415

        subscriptions.register(relay.SUBSCRIPTION)
